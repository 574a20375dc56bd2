"""Nodes behind a NAT: what the lease says is a first guess, the private address of a member record another one, and
where a peer was authenticated it stays."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.testing.faults.network import Address
from tulle_wireguard.endpoint import Endpoint

World = Any
"""conftest.World"""
PUBLIC = "203.0.113.1"
PORT = 51820
TRY_S = 6.0
"""For one candidate: a handshake is tried again after five seconds and a third at most (paper section 6.1)."""


def at(host: str) -> Endpoint:
    return Endpoint(bytes(int(part) for part in host.split(".")), PORT)


class Site:
    """Nodes a and b behind one NAT, whose leases name its public address; node c has one of its own."""

    def __init__(self, world: World, *, strict: bool = True, keepalive_s: int = 25) -> None:
        self.world = world
        self.a, self.b, self.c = world.nodes
        self.a.address, self.b.address = Address("10.0.0.2", PORT), Address("10.0.0.3", PORT)
        self.nat = world.network.add_nat(
            PUBLIC, [self.a.address.host, self.b.address.host], strict=strict, idle_s=30.0
        )
        for one in world.nodes:
            for other in world.nodes:
                if one is not other:
                    one.knows(other, endpoints=self.told_of(other), persistent_s=keepalive_s)
        for one in world.nodes:
            one.act(one.device.tick(world.now))

    def told_of(self, node: Any) -> list[Endpoint]:
        """As the backend gives them: the lease's address, then those of the member record."""
        if node is self.c:
            return [at(self.c.address.host)]
        return [at(PUBLIC), at(node.address.host)]

    def reaches(self, one: Any, other: Any) -> bool:
        self.count = getattr(self, "count", 0) + 1
        payload = self.count.to_bytes(4)
        one.send(other, payload)
        self.world.run(1.0)
        return payload in other.payloads()

    def where(self, one: Any, other: Any) -> str:
        """Where one believes the other to be."""
        endpoint = one.device.peers[other.device.public].where.current
        return ".".join(map(str, endpoint.address))


@pytest.fixture
def site(make_world: type[World]) -> Site:
    made = Site(make_world(nodes=3))
    made.world.run(4 * TRY_S)
    return made


def test_all_reach_all_and_neighbours_by_their_private_addresses(site: Site) -> None:
    nodes = (site.a, site.b, site.c)
    for one in nodes:
        for other in nodes:
            if one is not other:
                assert site.reaches(one, other)
    assert site.where(site.a, site.b) == "10.0.0.3"
    assert site.where(site.b, site.a) == "10.0.0.2"
    assert (site.where(site.c, site.a), site.where(site.c, site.b)) == (PUBLIC, PUBLIC)
    ports = [site.c.device.peers[one.device.public].where.current.port for one in (site.a, site.b)]
    assert len({*ports, PORT}) == 3


def test_a_lease_that_is_told_again_moves_nobody(site: Site) -> None:
    for one in (site.a, site.b):
        before = site.c.device.peers[one.device.public].where.current
        site.c.knows(one, endpoints=site.told_of(one), persistent_s=25)
        assert site.c.device.peers[one.device.public].where.current == before
        assert site.reaches(site.c, one)


def test_keepalives_hold_the_way_in_open_for_hours(site: Site) -> None:
    for _ in range(5):
        site.world.run(1800.0)
        assert site.reaches(site.c, site.a)
        assert site.reaches(site.c, site.b)


def test_without_keepalives_the_way_in_closes(make_world: type[World]) -> None:
    site = Site(make_world(nodes=3), keepalive_s=0)
    assert site.reaches(site.a, site.c)
    assert site.reaches(site.c, site.a)
    site.world.run(100.0)
    assert not site.reaches(site.c, site.a)
    assert site.reaches(site.a, site.c), "from the inside it opens again"


def test_a_nat_that_restarts_or_moves_is_followed(site: Site) -> None:
    site.nat.rebind()
    site.world.run(26.0)
    assert site.reaches(site.c, site.a)
    site.nat.move("203.0.113.99")
    site.world.run(26.0)
    assert site.reaches(site.c, site.a)
    assert site.reaches(site.c, site.b)
    assert site.where(site.c, site.a) == "203.0.113.99"


def test_a_peer_that_is_not_where_the_lease_says_is_found_in_time(site: Site) -> None:
    """The candidates are tried in turn: two of them, a try each."""
    site.a.restart()
    site.world.run(2 * TRY_S + 1.0)
    assert site.reaches(site.a, site.b)
    assert site.reaches(site.a, site.c)
