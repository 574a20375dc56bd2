"""Paths keep their meaning, peers are known by address behind any port, and strangers cannot fill the memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Endpoint
from tulle.contracts.encapsulation import PathId, PeerId
from tulle.forward.paths import MAX_STRANGERS, NOBODY, PathTable

ONE, TWO = PeerId(1), PeerId(2)
HOSTS = {4: "192.0.2.1", 6: "2001:db8::1"}


@pytest.fixture
def table() -> PathTable:
    return PathTable()


def seen(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as recvmsg gives it."""
    return (host, port, 0, 0) if ":" in host else (host, port)


@pytest.mark.parametrize("family", [4, 6])
def test_a_datagram_of_an_endpoint_comes_on_the_path_of_its_peer(table: PathTable, family: int) -> None:
    host = HOSTS[family]
    (path,) = table.set_peer(ONE, [Endpoint(host, 8285)])
    assert table.received_from(seen(host, 8285)) == path
    assert table.address(path) == seen(host, 8285)
    assert table.peers_at(path) == {ONE}


@pytest.mark.parametrize("family", [4, 6])
def test_a_peer_behind_nat_is_known_by_its_address_whatever_the_port(table: PathTable, family: int) -> None:
    host = HOSTS[family]
    (path,) = table.set_peer(ONE, [Endpoint(host, 8285)])
    elsewhere = table.received_from(seen(host, 40000))
    assert elsewhere != path
    assert table.peers_at(elsewhere) == {ONE}
    assert table.address(elsewhere) == seen(host, 40000)


def test_two_peers_at_one_address_are_both_there_until_each_goes(table: PathTable) -> None:
    host = HOSTS[4]
    first = table.set_peer(ONE, [Endpoint(host, 8285)])
    assert table.set_peer(TWO, [Endpoint(host, 8285)]) == first
    assert table.peers_at(first[0]) == {ONE, TWO}
    table.remove_peer(ONE)
    assert table.peers_at(first[0]) == {TWO}
    assert table.address(first[0]) == seen(host, 8285)
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
    assert [table.address(path) for path in strangers[:100]] == [None] * 100
    assert None not in {table.address(path) for path in strangers[100:]}
    assert table.address(kept) == seen(HOSTS[4], 8285)
    assert table.peers_at(strangers[0]) == NOBODY


def test_paths_of_removed_peers_are_bounded_as_strangers_are(table: PathTable) -> None:
    paths = [
        table.set_peer(PeerId(number), [Endpoint(HOSTS[4], number)])[0]
        for number in range(1, 2 + MAX_STRANGERS)
    ]
    for number in range(1, 2 + MAX_STRANGERS):
        table.remove_peer(PeerId(number))
    assert sum(table.address(path) is not None for path in paths) == MAX_STRANGERS


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
        assert table.address(path) == seen(host, port)
        there = {peer for peer, endpoints in peers.items() if host in [one for one, _ in endpoints]}
        assert table.peers_at(path) == there
