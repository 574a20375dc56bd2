"""A network config that changes while nodes run with it: said in words, and nothing follows from it."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.network import parse_network_config
from tulle.contracts.store import Delete
from tulle.lease.drift import differences, drift
from tulle.lease.errors import ConfigChanged

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

KEY = "/coreos.com/network/config"
V4 = {"Network": "10.5.0.0/16"}
DUAL = V4 | {"EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
V6 = {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
OWN = {4: IPv4Network("10.5.200.0/24"), 6: IPv6Network("fd00:5:0:200::/64")}


def said(used: dict[str, Any], now: object) -> Any:
    config = parse_network_config(json.dumps(used))
    own = [OWN[family.family] for family in config.families]
    return drift(KEY, config, None if now is None else json.dumps(now).encode(), own)


@pytest.mark.parametrize(
    ("used", "now", "line"),
    [
        (
            V4,
            V4 | {"Network": "10.5.0.0/24", "SubnetLen": 26},
            "IPv4: 10.5.0.0/24 with subnets 10.5.0.64/26 to",
        ),
        (V4, V4 | {"SubnetMax": "10.5.9.0"}, "10.5.9.0/24 instead of 10.5.0.0/16"),
        (
            V4,
            DUAL,
            "IPv6: fd00:5::/48 with subnets fd00:5:0:1::/64 to fd00:5:0:ffff::/64 instead of not used",
        ),
        (DUAL, V4, "IPv6: not used instead of fd00:5::/48"),
        (DUAL, V6, "IPv4: not used instead of 10.5.0.0/16"),
        (V6, V6 | {"IPv6Network": "fd00:6::/48"}, "IPv6: fd00:6::/48"),
        (V4, V4 | {"Backend": {"Type": "vxlan"}}, "Backend.Type: 'vxlan' instead of 'udp'"),
        (V4, V4 | {"Backend": {"Type": "udp", "Port": 9}}, "Backend.port: another value"),
        (V4, V4 | {"EnableNFTables": True}, "EnableNFTables: true"),
        (V4, V4 | {"Tulle": {"dns": {"x": 1}}}, "Tulle.dns: another value"),
    ],
)
def test_each_change_that_matters_is_named(used: dict[str, Any], now: dict[str, Any], line: str) -> None:
    found = said(used, now)
    assert found.kind == "changed"
    assert any(line.lower() in one.lower() for one in found.differences), found.differences
    assert KEY in found.message
    assert "nothing changes on this node until tulled is started again" in found.message


@pytest.mark.parametrize(
    "same", [V4 | {"SubnetLen": 24}, {"network": "10.5.0.0/16"}, V4 | {"Backend": {"Type": "UDP"}}]
)
def test_other_words_for_the_same_are_no_change(same: dict[str, Any]) -> None:
    assert said(V4, same) is None


@pytest.mark.parametrize(
    ("used", "now", "subnets"),
    [
        (V4, {"Network": "10.5.0.0/17"}, "10.5.200.0/24"),
        (V6, V6 | {"IPv6Network": "fd00:6::/48"}, "fd00:5:0:200::/64"),
        (DUAL, V4, "10.5.200.0/24, fd00:5:0:200::/64"),
    ],
    ids=["smaller", "another", "one family less"],
)
def test_a_subnet_that_the_new_config_does_not_have_is_announced_as_lost_at_the_next_start(
    used: dict[str, Any], now: dict[str, Any], subnets: str
) -> None:
    message = said(used, now).message
    assert f"another subnet than {subnets}, which the new config does not have" in message
    assert "pods must be started anew" in message
    assert "another subnet than" not in said(used, used | {"Backend": {"Type": "vxlan"}}).message


def test_secrets_of_a_backend_are_not_told() -> None:
    used = V4 | {"Backend": {"Type": "wireguard", "PSK": "old secret"}}
    found = said(used, V4 | {"Backend": {"Type": "wireguard", "PSK": "new secret"}})
    assert any("psk" in line.lower() for line in found.differences)
    assert "secret" not in found.message


def test_a_config_that_is_gone_or_broken_is_said_with_what_to_do() -> None:
    gone, broken = said(V4, None), said(V4, {"Network": "10.5.0.0/33"})
    assert (gone.kind, broken.kind) == ("gone", "broken")
    assert "tulle init" in gone.message
    assert "tulle config set" in broken.message
    assert "Network" in broken.differences[0]


CONFIGS = st.fixed_dictionaries(
    {"Network": st.sampled_from(["10.5.0.0/16", "10.6.0.0/16", "10.5.0.0/24"])},
    optional={
        "SubnetLen": st.sampled_from([24, 26]),
        "EnableIPv6": st.booleans(),
        "IPv6Network": st.sampled_from(["fd00:5::/48", "fd00:5::/56"]),
        "Backend": st.sampled_from([{"Type": "udp"}, {"Type": "vxlan"}, {"Type": "vxlan", "VNI": 2}]),
    },
)


@given(CONFIGS, CONFIGS)
def test_there_is_a_difference_exactly_where_a_node_would_start_otherwise(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    try:
        was, is_now = (parse_network_config(json.dumps(config)) for config in (one, other))
    except ConfigError:
        return
    parts = [(each.families, each.backend_type, each.backend_options) for each in (was, is_now)]
    assert bool(list(differences(was, is_now))) == (parts[0] != parts[1])


# --- and a manager that runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [V4, DUAL, V6], ids=["v4", "dual", "v6"])
@pytest.mark.parametrize(
    "change",
    [
        {"Network": "10.99.0.0/28", "SubnetLen": 30, "IPv6Network": "fd99::/60", "IPv6SubnetLen": 62},
        {"Backend": {"Type": "vxlan"}},
        None,
    ],
    ids=["smaller network", "other backend", "gone"],
)
def test_a_node_says_that_the_config_changed_and_keeps_all_that_it_has(
    cluster: Any, caplog: pytest.LogCaptureFixture, config: dict[str, Any], change: dict[str, Any] | None
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(**config)
            one, two = await cluster.start("n1"), await cluster.start("n2")
            await one.manager.network_config()
            await one.acquire("192.0.2.1", "2001:db8::1")
            await two.acquire("192.0.2.2", "2001:db8::2")
            before, peers = await cluster.keys(), await one.peers()
            if change is None:
                await cluster.other.transact([], [Delete(KEY)])
            else:
                await cluster.configure(**(config | change))
            await cluster.clock.advance(4 * 3600)
            after = await cluster.keys()
            assert {k: v for k, v in after.items() if k != "config"} == {
                k: v for k, v in before.items() if k != "config"
            }
            assert await one.peers() == peers  # also for who asks anew, as after a reconnect
            assert not one.run.done()
            drifted = one.manager.status()["config_drift"]
            assert drifted["kind"] == ("gone" if change is None else "changed")
            await cluster.configure(**config)
            await cluster.clock.advance(1)
            assert "config_drift" not in one.manager.status()

    asyncio.run(scenario())
    event = "config-gone" if change is None else "config-changed"
    assert [text.partition(":")[0] for text in caplog.messages] == [event] * 2 + ["config-restored"] * 2


def test_each_change_is_said_once_however_often_the_same_is_written(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(**V4)
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            for wrong in (b"{", b"{", b"["):
                await cluster.put("config", wrong)
                await cluster.clock.advance(1)
            cluster.world.compact(cluster.world.revision)
            await cluster.clock.advance(600)
            assert not node.run.done()

    asyncio.run(scenario())
    assert [text.partition(":")[0] for text in caplog.messages] == ["config-broken"] * 2


@pytest.mark.parametrize(
    ("change", "word"),
    [({"Network": "10.5.0.0/24", "SubnetLen": 30}, "10.5.0.0/24"), ({"Backend": {"Type": "vxlan"}}, "vxlan")],
    ids=["larger network", "other backend"],
)
def test_who_waits_for_a_subnet_hears_that_the_config_is_another_one_and_starts_over(
    cluster: Any, change: dict[str, Any], word: str
) -> None:
    """Its backend and its routes were chosen by the old one."""

    async def scenario() -> None:
        async with cluster:
            small = {"Network": "10.5.0.0/28", "SubnetLen": 30}
            await cluster.configure(**small)
            for number in (1, 2, 3):
                await (await cluster.start(f"n{number}")).acquire(f"192.0.2.{number}")
            late = await cluster.start("n4")
            assert await late.manager.network_config()
            racing = late.begin("192.0.2.4")
            await cluster.clock.advance(30)
            assert not racing.done()
            await cluster.configure(**(small | change))
            await cluster.clock.advance(30)
            assert racing.done()
            with pytest.raises(ConfigChanged, match=word):
                await racing
            assert not [key for key in await cluster.keys() if key == "members/n4"]
            assert json.loads(await late.manager.network_config()) == small | change
            again = late.begin("192.0.2.4")
            await cluster.clock.advance(30)
            assert again.done() == ("Network" in change)

    asyncio.run(scenario())


def test_who_waits_for_a_subnet_goes_on_waiting_while_the_config_makes_no_sense(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            small = {"Network": "10.5.0.0/28", "SubnetLen": 30}
            await cluster.configure(**small)
            nodes = [await cluster.start(f"n{number}") for number in (1, 2, 3)]
            for number, node in enumerate(nodes, start=1):
                await node.acquire(f"192.0.2.{number}")
            late = await cluster.start("n4")
            assert await late.manager.network_config()
            racing = late.begin("192.0.2.4")
            await cluster.put("config", b"not JSON")
            await cluster.clock.advance(60)
            assert not racing.done()
            await cluster.configure(**small)
            await nodes[1].manager.release()
            await cluster.clock.advance(20)
            assert racing.done()

    asyncio.run(scenario())
