"""What a trace reads: the kernel of a namespace, the lease's time in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import Put, Unavailable
from tulle.kernel.state import SeenRoute, WantedRoute
from tulle.kernel.underlay import LocalAddress, LocalLink
from tulle.trace.look import carriers, lease_left, look, outer_families, pod_records, refuser
from tulle.trace.target import resolve
from tulle.trace.way import Seen
from tulle_memory.store import MemoryStore

MakeContext = Callable[..., DoctorContext]


def route(destination: str, kind: str = "unicast", metric: int = 0) -> SeenRoute:
    link = "eth0" if kind == "unicast" else None
    return SeenRoute(WantedRoute(ip_network(destination), link, kind, metric), 3)


def test_datagrams_leave_in_the_families_of_the_underlays_addresses(make_context: MakeContext) -> None:
    def link(name: str, *addresses: tuple[str, int]) -> LocalLink:
        return LocalLink(
            name, 1, 1500, True, tuple(LocalAddress(ip_interface(a), scope) for a, scope in addresses)
        )

    links = [
        link("lo", ("::1/128", 254), ("127.0.0.1/8", 254)),
        link("eth0", ("192.0.2.1/24", 0), ("fe80::1/64", 253)),
        link("eth1", ("2001:db8::1/64", 0)),
    ]
    assert outer_families(make_context(), links) == {4}
    assert outer_families(make_context(link="eth1"), links) == {6}
    assert outer_families(make_context(link=""), links) == set()
    told = {"underlay": {"addresses": ["2001:db8::1", "192.0.2.1"]}}
    assert outer_families(make_context(status=told), links) == {4, 6}
    assert outer_families(make_context(status=None), links) == {4}


def test_a_device_for_each_family_of_pods_travels_over_that_family(make_context: MakeContext) -> None:
    two = make_context(devices=("wg", "wg-v6"))
    assert (carriers(two, 6, {4, 6}), carriers(two, 4, {4, 6}), carriers(two, 6, {4})) == ({6}, {4}, set())
    assert carriers(make_context(devices=("tulle0",)), 6, {4, 6}) == {4, 6}
    assert carriers(make_context(), 6, {4}) == {4}


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], ""),
        ([route("10.42.0.0/16", "unreachable", 1000000)], "unreachable 10.42.0.0/16 metric 1000000"),
        ([route("10.42.0.0/16", "unreachable"), route("10.0.0.0/8")], "unreachable 10.42.0.0/16"),
        ([route("10.42.0.0/16", "unreachable", 7), route("10.42.0.0/16")], ""),  # the lower metric is taken
        ([route("10.42.2.0/24", "blackhole"), route("10.42.0.0/16")], "blackhole 10.42.2.0/24"),
        ([route("10.43.0.0/16", "unreachable")], ""),
        ([route("fd42::/48", "unreachable")], ""),
    ],
)
def test_the_route_that_refuses_is_the_longest_and_then_the_best(
    routes: list[SeenRoute], expected: str
) -> None:
    assert refuser(routes, ip_address("10.42.2.5")) == expected


def test_the_kernels_answer_for_the_way_in_and_out_is_read(
    inside: Callable[..., Any], make_context: MakeContext
) -> None:
    """A namespace with a veth for the underlay, one for the tunnel, and the route that covers a lost one."""
    script = """
    ip link add eth0 type veth peer name other
    ip link set eth0 up mtu 1400; ip link set other up
    ip addr add 192.0.2.1/24 dev eth0
    ip link add tulle0 type veth peer name tunnel
    ip link set tulle0 up; ip link set tunnel up
    ip route add 10.42.0.0/16 dev tulle0
    ip route add unreachable 10.42.0.0/16 metric 1000000
    """
    inside(script)
    ctx = make_context()
    seen: Seen = inside(lambda: asyncio.run(look(ctx, resolve("10.42.2.5", ctx, None, ()))))
    assert (seen.way.kind, seen.way.link, seen.refusing) == ("unicast", "tulle0", "")
    assert seen.endpoint == ip_address("192.0.2.2")  # its IPv6 address is one of the link alone
    assert seen.outer is not None
    assert (seen.outer.link, seen.links["eth0"].mtu) == ("eth0", 1400)
    inside("ip link del tulle0")
    gone: Seen = inside(lambda: asyncio.run(look(ctx, resolve("10.42.2.5", ctx, None, ()))))
    assert gone.way.kind == "none"
    assert gone.refusing == "unreachable 10.42.0.0/16 metric 1000000"


def test_the_time_of_a_lease_is_the_stores(make_context: MakeContext) -> None:
    async def run() -> None:
        store = MemoryStore()
        lease = await store.grant(7200)
        keys = ["/p/subnets/10.42.2.0-24&fd42:0:0:2::-64", "/p/subnets/10.42.2.128-25"]
        await store.transact([], [Put(keys[0], b"{}", lease), Put(keys[1], b"{}")])
        records = {key: await store.get(key) for key in keys}
        ctx = make_context(store=store, records=records)
        assert await lease_left(ctx, ctx.peers[0]) == "expires in 2.0 h"
        assert await lease_left(ctx, ctx.peers[1]) == "reserved"
        assert await lease_left(ctx, None) == ""
        assert await lease_left(msgspec.structs.replace(ctx, records={}), ctx.peers[0]) == ""
        assert await lease_left(msgspec.structs.replace(ctx, store=None), ctx.peers[0]) == ""
        away = msgspec.structs.replace(ctx, store=Away())
        assert await lease_left(away, ctx.peers[0]) == ""
        await store.close()

    asyncio.run(run())


def test_pods_are_those_of_the_store_and_none_where_it_is_away(make_context: MakeContext) -> None:
    async def run() -> None:
        store = MemoryStore()
        await store.transact([], [Put("/p/pods/default/a", b"1"), Put("/p/podsother/b", b"2")])
        assert [one.value for one in await pod_records(make_context(store=store))] == [b"1"]
        assert await pod_records(make_context(store=None)) == ()
        assert await pod_records(make_context(store=Away())) == ()
        await store.close()

    asyncio.run(run())


class Away:
    """A store that does not answer."""

    async def list(self, prefix: str) -> None:
        raise Unavailable("away")

    async def remaining(self, leases: object) -> None:
        raise Unavailable("away")
