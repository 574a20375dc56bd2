"""Paths keep their meaning, peers are known by address behind any port, and strangers cannot fill the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Endpoint
from tulle.contracts.encapsulation import PathId, PeerId, Remote
from tulle.forward.ancillary import IP_PKTINFO, Told
from tulle.forward.paths import MAX_STRANGERS, NOBODY, PathTable

ONE, TWO = PeerId(1), PeerId(2)
HOSTS = {4: "192.0.2.1", 6: "2001:db8::1"}


@pytest.fixture
def table() -> PathTable:
    return PathTable()


def seen(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as recvmsg gives it."""
    return (host, port, 0, 0) if ":" in host else (host, port)


def address(table: PathTable, path: PathId) -> object:
    """Where it is sent to; None for a path that has been forgotten."""
    way = table.way(path)
    return None if way is None else way.address


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_of_an_endpoint_comes_on_the_path_of_its_peer(table: PathTable, family: int) -> None:
    host = HOSTS[family]
    (path,) = table.set_peer(ONE, [Endpoint(host, 8285)])
    assert table.received_from(seen(host, 8285)) == path
    assert address(table, path) == seen(host, 8285)
    assert table.peers_at(path) == {ONE}


@pytest.mark.parametrize("family", [4, 6])
def test_a_peer_behind_nat_is_known_by_its_address_whatever_the_port(table: PathTable, family: int) -> None:
    host = HOSTS[family]
    (path,) = table.set_peer(ONE, [Endpoint(host, 8285)])
    elsewhere = table.received_from(seen(host, 40000))
    assert elsewhere != path
    assert table.peers_at(elsewhere) == {ONE}
    assert address(table, elsewhere) == seen(host, 40000)


def test_two_peers_at_one_address_are_both_there_until_each_goes(table: PathTable) -> None:
    host = HOSTS[4]
    first = table.set_peer(ONE, [Endpoint(host, 8285)])
    assert table.set_peer(TWO, [Endpoint(host, 8285)]) == first
    assert table.peers_at(first[0]) == {ONE, TWO}
    table.remove_peer(ONE)
    assert table.peers_at(first[0]) == {TWO}
    assert address(table, first[0]) == seen(host, 8285)
    table.remove_peer(TWO)
    assert table.peers_at(first[0]) == NOBODY


def test_a_stranger_is_nobody_until_a_peer_has_its_address(table: PathTable) -> None:
    path = table.received_from(seen(HOSTS[4], 9))
    assert table.peers_at(path) == NOBODY
    assert table.set_peer(ONE, [Endpoint(HOSTS[4], 9)]) == [path]
    assert table.peers_at(path) == {ONE}


def test_a_peer_that_moves_is_no_longer_at_its_old_address(table: PathTable) -> None:
    (old,) = table.set_peer(ONE, [Endpoint(HOSTS[4], 1)])
    (new,) = table.set_peer(ONE, [Endpoint(HOSTS[6], 1)])
    assert table.peers_at(old) == NOBODY
    assert table.peers_at(new) == {ONE}


def test_a_peer_set_again_keeps_its_paths(table: PathTable) -> None:
    endpoints = [Endpoint(HOSTS[4], 1), Endpoint(HOSTS[6], 1), Endpoint(HOSTS[4], 1)]
    assert table.set_peer(ONE, endpoints) == table.set_peer(ONE, endpoints)
    table.remove_peer(ONE)
    table.remove_peer(ONE)


def test_strangers_are_forgotten_oldest_first_and_peers_never(table: PathTable) -> None:
    (kept,) = table.set_peer(ONE, [Endpoint(HOSTS[4], 8285)])
    strangers = [table.received_from(seen("198.51.100.7", port)) for port in range(1, MAX_STRANGERS + 101)]
    assert [address(table, path) for path in strangers[:100]] == [None] * 100
    assert None not in {address(table, path) for path in strangers[100:]}
    assert address(table, kept) == seen(HOSTS[4], 8285)
    assert table.peers_at(strangers[0]) == NOBODY


def test_paths_of_removed_peers_are_bounded_as_strangers_are(table: PathTable) -> None:
    paths = [
        table.set_peer(PeerId(number), [Endpoint(HOSTS[4], number)])[0]
        for number in range(1, 2 + MAX_STRANGERS)
    ]
    for number in range(1, 2 + MAX_STRANGERS):
        table.remove_peer(PeerId(number))
    assert sum(address(table, path) is not None for path in paths) == MAX_STRANGERS


PACKED = {4: bytes((192, 0, 2, 1)), 6: bytes.fromhex("20010db8") + bytes(11) + b"\1"}
HERE = {4: bytes((10, 0, 0, 9)), 6: bytes.fromhex("fd000000") + bytes(11) + b"\x09"}
LINK_LOCAL = b"\xfe\x80" + bytes(13) + b"\1"


@pytest.mark.parametrize("family", [4, 6])
def test_a_path_knows_our_own_address_and_the_ds_byte(table: PathTable, family: int) -> None:
    source, host = seen(HOSTS[family], 5), HERE[family]
    plain = table.received_from(source)
    told = table.received_from(source, Told(0, host, 3))
    assert table.remote(plain) == Remote(PACKED[family], 5)
    assert table.remote(told) == Remote(PACKED[family], 5, host, 3)
    assert table.received_from(source, Told(1400, host, 3)) == told  # a train is no other path
    assert len({plain, told, table.received_from(source, Told(0, host, 0))}) == 3
    way = table.way(told)
    assert way is not None
    assert (way.address, len(way.control)) == (source, 2)
    assert host in way.control[0][2]


@pytest.mark.parametrize("family", [4, 6])
def test_the_path_to_what_a_path_stands_for_is_that_path(table: PathTable, family: int) -> None:
    for told in (Told(), Told(0, HERE[family], 0), Told(0, b"", 0x88), Told(0, HERE[family], 1)):
        path = table.received_from(seen(HOSTS[family], 5), told)
        assert table.path_to(table.remote(path)) == path
        other = table.path_to(Remote(PACKED[family], 6, told.local, told.ds))
        assert table.received_from(seen(HOSTS[family], 6), told) == other


@pytest.mark.parametrize("family", [4, 6])
def test_the_path_of_a_peers_endpoint_can_be_asked_for(table: PathTable, family: int) -> None:
    (path,) = table.set_peer(ONE, [Endpoint(HOSTS[family], 5)])
    assert table.remote(path) == Remote(PACKED[family], 5)
    assert table.path_to(Remote(PACKED[family], 5)) == path
    elsewhere = table.path_to(Remote(PACKED[family], 9, HERE[family], 2))
    assert table.peers_at(elsewhere) == {ONE}


@pytest.mark.parametrize("local", [LINK_LOCAL, HERE[4], b"x"])
def test_an_address_of_ours_that_says_nothing_is_left_out(table: PathTable, local: bytes) -> None:
    path = table.path_to(Remote(PACKED[6], 5, local))
    way = table.way(path)
    assert way is not None
    assert not way.control
    assert path == table.path_to(Remote(PACKED[6], 5))


def test_a_link_local_peer_is_answered_on_the_interface_that_it_was_heard_on(table: PathTable) -> None:
    source = ("fe80::7", 5, 0, 3)
    heard = table.remote(table.received_from(source, Told(0, b"", 2)))
    for ds in (2, 0, 0x88):
        assert address(table, table.path_to(heard._replace(ds=ds))) == source
    table.received_from(("fe80::7", 5, 0, 4))
    assert address(table, table.path_to(Remote(heard.address, 6))) == ("fe80::7", 6, 0, 4)


def test_a_flood_makes_nobody_unreachable_and_fills_no_memory(table: PathTable) -> None:
    """From the peer's own address, with every DS byte and port: what was forgotten is known again when it is asked
    for, and in one batch of sends nothing is forgotten."""
    (kept,) = table.set_peer(ONE, [Endpoint(HOSTS[4], 8285)])
    moved = Remote(PACKED[4], 40000, HERE[4], 2)
    before = table.path_to(moved)
    for port in range(1, 41):
        for ds in range(256):
            table.remote(table.received_from(seen(HOSTS[4], port), Told(0, HERE[4], ds)))
    assert table.way(before) is None
    with pytest.raises(KeyError):
        table.remote(before)
    assert address(table, kept) == seen(HOSTS[4], 8285)
    again = table.path_to(moved)
    many = [table.path_to(Remote(PACKED[4], 40000, HERE[4], ds)) for ds in range(256)]
    many += [table.path_to(Remote(PACKED[6], port)) for port in range(1, MAX_STRANGERS)]
    way = table.way(again)
    assert way is not None
    assert (way.address, way.control[0][1]) == (seen(HOSTS[4], 40000), IP_PKTINFO)
    assert None not in map(table.way, many)
    table.received_from(seen(HOSTS[6], 1), Told(0, b"", 1))
    assert sum(table.way(path) is not None for path in {*many, again}) < MAX_STRANGERS
    assert len(table._by_remote) <= MAX_STRANGERS + 1
    for number in range(2 * MAX_STRANGERS):
        table.received_from((f"fe80::{number >> 8:x}:{number & 0xFF:x}", 5, 0, 3))
    assert len(table._scopes) <= MAX_STRANGERS + 1


ADDRESSES = st.tuples(st.sampled_from([*HOSTS.values(), "192.0.2.2"]), st.integers(1, 3))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(1, 4), st.lists(ADDRESSES, max_size=3)),
            st.tuples(st.just("remove"), st.integers(1, 4), st.just([])),
            st.tuples(st.just("hear"), st.just(0), st.lists(ADDRESSES, min_size=1, max_size=1)),
        ),
        max_size=30,
    )
)
def test_the_table_is_what_its_history_says(
    history: list[tuple[str, int, list[tuple[str, int]]]],
) -> None:
    table = PathTable()
    peers: dict[PeerId, list[tuple[str, int]]] = {}
    ids: dict[tuple[str, int], PathId] = {}
    for what, number, where in history:
        if what == "hear":
            found = [table.received_from(seen(*where[0]))]
        elif what == "set":
            peers[PeerId(number)] = where
            found = table.set_peer(PeerId(number), [Endpoint(*one) for one in where])
        else:
            peers.pop(PeerId(number), None)
            table.remove_peer(PeerId(number))
            found = []
        for one, path in zip(where, found, strict=True):
            assert ids.setdefault(one, path) == path
    for (host, port), path in ids.items():
        assert address(table, path) == seen(host, port)
        there = {peer for peer, endpoints in peers.items() if host in [one for one, _ in endpoints]}
        assert table.peers_at(path) == there
