"""Carrying a plan out: keys, times, and what is done when the plan was too old."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv4Network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import NO_LEASE
from tulle.lease.acquire import Keys, Times
from tulle.store.publisher import Publisher

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400


def test_keys_lie_where_flannel_has_them_and_ours_beside_them() -> None:
    keys = Keys("/coreos.com/network/", "n1")
    assert (keys.config, keys.subnets) == ("/coreos.com/network/config", "/coreos.com/network/subnets/")
    assert (keys.member, keys.alive) == ("/coreos.com/network/members/n1", "/coreos.com/network/alive/n1")


@pytest.mark.parametrize(
    ("margin_s", "renew_s"), [(3600, 300), (60, 300), (DAY_S - 60, 15), (DAY_S - 1, 0.25)]
)
def test_the_time_between_renewals_leaves_room_for_some_failures(margin_s: int, renew_s: float) -> None:
    assert Times(DAY_S, margin_s).renew_s == renew_s


@given(st.integers(2, 10 * DAY_S), st.data())
def test_whatever_the_times_three_renewals_may_fail_before_the_margin_is_touched(
    ttl_s: int, data: st.DataObject
) -> None:
    times = Times(ttl_s, data.draw(st.integers(1, ttl_s - 1)))
    assert 4 * times.renew_s <= ttl_s - times.renew_margin_s
    assert 0 < times.renew_s <= 300


@pytest.mark.parametrize("margin_s", [0, -1, DAY_S, DAY_S + 1])
def test_a_margin_that_does_not_fit_is_refused_with_what_would_fit(margin_s: int) -> None:
    with pytest.raises(ValueError, match="give one between 1 and 86399"):
        Times(DAY_S, margin_s)


def test_the_name_is_a_condition_of_the_subnet(cluster: Any) -> None:
    """Between the plan and its transaction the name may go to another machine."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            put = Publisher.put
            taken = []

            async def late(self: Publisher, name: str, *args: Any, **how: Any) -> Any:
                if "/subnets/" in name and not taken:
                    taken.append(await cluster.put("alive/n1", b'{"ID":"another","BootID":"boot"}', 30))
                return await put(self, name, *args, **how)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Publisher, "put", late)
                racing = node.begin("192.0.2.1")
                await cluster.clock.advance(2)
            assert not racing.done()
            assert [key for key in await cluster.keys() if key.startswith("subnets/")] == []

    asyncio.run(scenario())


def test_further_fields_of_a_taken_lease_and_of_a_reserved_record_are_written_back(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.9.0-24", b'{"PublicIP":"0.0.0.0","PublicIPv6":null,"Zone":"a"}')
            record = {"ID": "", "BootID": "", "Subnets": ["10.5.9.0-24"], "Reserved": True, "Rack": 7}
            await cluster.put("members/n1", json.dumps(record).encode())
            # Who writes both at once, as `tulle leases reserve` does, gives them one revision.
            await cluster.write_together("subnets/10.5.9.0-24", "members/n1")
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1") == (IPv4Network("10.5.9.0/24"),)
            keys = await cluster.keys()
            lease, member = keys["subnets/10.5.9.0-24"], keys["members/n1"]
            assert json.loads(lease.value) == {"PublicIP": "192.0.2.1", "PublicIPv6": None, "Zone": "a"}
            assert (json.loads(member.value)["Rack"], json.loads(member.value)["ID"]) == (7, "id-of-n1")
            assert lease.lease == member.lease == NO_LEASE

    asyncio.run(scenario())


def test_the_mtu_is_told_in_the_record_and_stays_over_a_restart_until_another_is_known(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()

            async def told() -> tuple[Any, bool]:
                keys = await cluster.keys()
                (lease,) = [kv for key, kv in keys.items() if key.startswith("subnets/")]
                member = keys["members/n1"]
                return json.loads(member.value).get("MTU"), member.modified == lease.modified

            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            assert await told() == (None, True)
            claim = node.claim("192.0.2.1")
            await cluster.clock.run(node.manager.update(msgspec.structs.replace(claim, mtu=1450)))
            assert await told() == (1450, True)
            before = await cluster.keys()
            await node.kill()
            again = await cluster.start("n1")
            await again.acquire("192.0.2.1")
            assert (await cluster.keys())["members/n1"] == before["members/n1"]
            await cluster.clock.run(again.manager.update(msgspec.structs.replace(claim, mtu=1400)))
            assert await told() == (1400, True)

    asyncio.run(scenario())


def test_an_own_lease_of_which_an_older_one_has_a_part_is_given_up_for_another(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.8.0-23", b'{"PublicIP":"192.0.2.8"}')
            node = await cluster.start("n1")
            lease = await cluster.put("subnets/10.5.9.0-24", b'{"PublicIP":"192.0.2.1"}', DAY_S)
            record = {"ID": "id-of-n1", "BootID": "boot", "Subnets": ["10.5.9.0-24"], "Endpoints": []}
            await cluster.put("members/n1", json.dumps(record).encode(), on=lease)
            (got,) = await node.acquire("192.0.2.1")
            assert not got.overlaps(IPv4Network("10.5.8.0/23"))
            assert "subnets/10.5.9.0-24" not in await cluster.keys()

    asyncio.run(scenario())
