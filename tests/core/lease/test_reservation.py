"""Subnets that a person gives to nodes, and takes from them."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import NO_LEASE
from tulle.lease.registered import read
from tulle.lease.reservation import Change, Refused, parse_subnet, release, reserve
from tulle.net.prefix import Prefix, prefix_from_int, subnet_key

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

PREFIX = "/coreos.com/network"
DAY_S = 86_400
V4 = {"Network": "10.5.0.0/16"}
DUAL = V4 | {"EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
V6 = {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
FAMILIES = pytest.mark.parametrize(
    ("config", "subnet"),
    [(V4, "10.5.9.0/24"), (DUAL, "10.5.9.0/24,fd00:5:0:9::/64"), (V6, "fd00:5:0:9::/64")],
    ids=["v4", "dual", "v6"],
)


async def reserved(cluster: Any, subnet: str, node: str = "", *public: str) -> Change:
    """Carried out, too."""
    known = await read(cluster.other, PREFIX)
    addresses = {address.version: address for address in map(ip_address, public)}
    change = reserve(known, parse_subnet(subnet), node, addresses)
    await change.carry_out(cluster.other)
    return change


@FAMILIES
def test_a_reserved_subnet_waits_for_its_node_and_stays_its_own_for_ever(
    cluster: Any, config: dict[str, Any], subnet: str
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(**config)
            change = await reserved(cluster, subnet, "n1")
            assert change.lines == (f"{subnet.replace(',', ', ')}: reserved for node n1",)
            stranger = await cluster.start("n2")
            wanted = parse_subnet(subnet)
            got = await stranger.acquire("192.0.2.2", "2001:db8::2", previous=wanted)
            assert not set(got) & set(wanted)
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1", "2001:db8::1") == wanted
            await node.kill()
            await cluster.clock.suspend(10 * DAY_S)
            again = await cluster.start("n1", node_id="new disk")
            assert await again.acquire("192.0.2.9", "2001:db8::9") == wanted
            assert (await cluster.keys())[f"subnets/{subnet_key(wanted)}"].lease == NO_LEASE

    asyncio.run(scenario())


@FAMILIES
def test_a_subnet_reserved_for_an_address_is_flannels_kind_and_taken_by_who_has_it(
    cluster: Any, config: dict[str, Any], subnet: str
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(**config)
            await reserved(cluster, subnet, "", "192.0.2.1", "2001:db8::1")
            assert [key for key in await cluster.keys() if key.startswith("members/")] == []
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1", "2001:db8::1") == parse_subnet(subnet)

    asyncio.run(scenario())


def test_a_lease_that_is_in_use_becomes_a_reservation_under_its_node_that_runs_on(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            (line,) = (await reserved(cluster, str(prefix), "n1")).lines
            assert "reserved for node n1, which has it now" in line
            await cluster.clock.advance(2 * DAY_S)
            assert not node.run.done()
            keys = await cluster.keys()
            assert {kv.lease for key, kv in keys.items() if key != "alive/n1"} == {NO_LEASE}
            again = await reserved(cluster, str(prefix), "n1")
            assert "is reserved for node n1 already" in again.lines[0]
            assert again.operations == ()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("subnet", "node", "why"),
    [
        ("10.6.9.0/24", "n9", "none of the subnets that the network config has to give, 10.5.1.0/24 to"),
        ("10.5.9.0/25", "n9", "give one in the form 10.5.1.0/24"),
        ("10.5.20.0/24", "n9", "overlaps the lease 10.5.20.0-23"),
        ("10.5.30.0/24", "n9", "belongs to a node without a name, as flannel has them (192.0.2.7)"),
        ("10.5.40.0/24", "n9", "belongs to node n1"),
        ("10.5.50.0/24", "n1", "node n1 has the subnet 10.5.40.0-24 already"),
        ("10.5.60.0/24", "n9", "cannot be read"),
        ("10.5.70.0/24", "n2", "node n2 runs and has no subnet yet"),
    ],
)
def test_what_cannot_be_reserved_is_refused_with_the_reason_and_leaves_all_as_it_was(
    cluster: Any, subnet: str, node: str, why: str
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.20.0-23", b'{"PublicIP":"192.0.2.7"}', DAY_S)
            await cluster.put("subnets/10.5.30.0-24", b'{"PublicIP":"192.0.2.7"}', DAY_S)
            await cluster.put("subnets/10.5.60.0-24", b"junk")
            await cluster.put("alive/n2", b'{"ID":"x","BootID":"y"}')
            await (await cluster.start("n1")).acquire("192.0.2.1", previous=(ip_network("10.5.40.0/24"),))
            before = await cluster.keys()
            with pytest.raises(Refused) as refused:
                await reserved(cluster, subnet, node)
            assert why in str(refused.value)
            assert await cluster.keys() == before

    asyncio.run(scenario())


def test_without_a_network_config_nothing_can_be_reserved(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            with pytest.raises(Refused, match="tulle init"):
                await reserved(cluster, "10.5.9.0/24", "n1")

    asyncio.run(scenario())


def test_a_reservation_that_races_with_the_node_that_takes_the_subnet_is_not_made(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            known = await read(cluster.other, PREFIX)
            change = reserve(known, parse_subnet("10.5.9.0/24"), "n1", {})
            node = await cluster.start("n2")
            await node.acquire("192.0.2.2", previous=(ip_network("10.5.9.0/24"),))
            with pytest.raises(Refused, match="try again"):
                await change.carry_out(cluster.other)
            assert "members/n1" not in await cluster.keys()

    asyncio.run(scenario())


def test_of_two_that_reserve_one_subnet_at_once_one_is_refused(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            known = await read(cluster.other, PREFIX)
            changes = [reserve(known, parse_subnet("10.5.9.0/24"), name, {}) for name in ("n1", "n2")]
            ended = await asyncio.gather(
                *(change.carry_out(cluster.world.client()) for change in changes), return_exceptions=True
            )
            assert sorted(type(end).__name__ for end in ended) == ["NoneType", "Refused"]

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["10.5.9.0-24", "10.5.9.0/24", "n1"])
def test_a_node_that_ran_is_released_by_key_subnet_or_name_with_its_record(cluster: Any, what: str) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(ip_network("10.5.9.0/24"),))
            change = release(await read(cluster.other, PREFIX), what)
            assert change.alive == ("n1",)
            assert change.lines == ("lease 10.5.9.0-24 of node n1",)
            await node.kill()
            await cluster.clock.suspend(60)
            change = release(await read(cluster.other, PREFIX), what)
            assert (change.alive, change.unknown) == ((), ())
            await change.carry_out(cluster.other)
            assert set(await cluster.keys()) == {"config"}

    asyncio.run(scenario())


def test_of_flannels_lease_nobody_can_say_whether_its_node_runs(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.put("subnets/10.5.9.0-24", b'{"PublicIP":"192.0.2.7"}', DAY_S)
            change = release(await read(cluster.other, PREFIX), "10.5.9.0-24")
            assert change.unknown == ("10.5.9.0-24",)
            with pytest.raises(Refused, match="`tulle leases` shows what is"):
                release(await read(cluster.other, PREFIX), "n1")

    asyncio.run(scenario())


def test_a_release_that_races_with_a_renewed_claim_does_nothing(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            await node.kill()
            await cluster.clock.suspend(60)
            change = release(await read(cluster.other, PREFIX), "n1")
            again = await cluster.start("n1")
            prefixes = await again.acquire("192.0.2.1")
            with pytest.raises(Refused, match="try again"):
                await change.carry_out(cluster.other)
            assert f"subnets/{subnet_key(prefixes)}" in await cluster.keys()

    asyncio.run(scenario())


def test_who_was_released_while_it_ran_takes_its_subnet_again(cluster: Any) -> None:
    """A release by mistake heals itself."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            await release(await read(cluster.other, PREFIX), "n1").carry_out(cluster.other)
            await cluster.clock.advance(5)
            assert not node.run.done()
            record = (await cluster.keys())["members/n1"]
            assert json.loads(record.value)["Subnets"] == [f"{prefix.network_address}-24"]

    asyncio.run(scenario())


def prefixes_of(version: int, bits: int) -> st.SearchStrategy[Prefix]:
    return st.builds(
        lambda length, number: prefix_from_int(version, number >> (bits - length) << (bits - length), length),  # type: ignore[arg-type]
        st.integers(8, bits),
        st.integers(0, 2**bits - 1),
    )


@given(st.none() | prefixes_of(4, 32), st.none() | prefixes_of(6, 128), st.booleans())
def test_a_subnet_is_read_as_prefixes_in_any_order_and_as_a_key(
    v4: Prefix | None, v6: Prefix | None, turned: bool
) -> None:
    prefixes = tuple(one for one in (v4, v6) if one is not None)
    if not prefixes:
        return
    words = [str(one) for one in prefixes]
    assert parse_subnet(" , ".join(words[::-1] if turned else words)) == prefixes
    assert parse_subnet(subnet_key(prefixes)) == prefixes


@pytest.mark.parametrize(
    "text", ["", "10.5.9.1/24", "10.5.9.0/24,10.5.8.0/24", "10.5.9.0/24,", "n1", "fd00::/64%eth0"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_subnet(text)
