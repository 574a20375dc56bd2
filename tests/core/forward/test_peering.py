"""Whose a destination is, from whom a packet may come, and that no answer outlives what it came from."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import pytest

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.encapsulation import PeerId
from tulle.contracts.engine import Local
from tulle.forward import peering
from tulle.forward.paths import PathTable
from tulle.forward.peering import Peering

LOCAL = Local(prefixes=("10.42.1.0/24", "fd42:1::/64"), icmp_sources=("10.42.1.0", "fd42:1::"))
OURS, THEIRS, STRANGE = (ip_address(one).packed for one in ("10.42.1.2", "10.42.2.2", "10.42.3.2"))


class Rig:
    def __init__(self, local: Local = LOCAL) -> None:
        self.paths = PathTable()
        self.counters: Counter[str] = Counter()
        self.peering = Peering(self.paths, self.counters)
        self.peering.set_local(local)
        self.peer = self.add("peer", "10.42.2.0/24", "fd42:2::/64")

    def add(self, key: str, *prefixes: str) -> PeerId:
        number, _ = self.peering.set_peer(DataPeer(key, prefixes, (Endpoint("192.0.2.1", 8285),)))
        return number

    def owner(self, *flow: bytes, senders: frozenset[PeerId] | None = None) -> str | None:
        source, target = flow
        found = self.peering.accept(frozenset({self.peer}) if senders is None else senders, (source, target))
        return None if found is None else found.key


def test_a_destination_is_its_longest_prefixes() -> None:
    rig = Rig()
    narrow = rig.add("narrow", "10.42.2.128/25")
    assert rig.peering.peer_of(THEIRS) == rig.peer
    assert rig.peering.peer_of(ip_address("10.42.2.200").packed) == narrow
    assert rig.peering.peer_of(ip_address("fd42:2::7").packed) == rig.peer
    assert rig.peering.peer_of(STRANGE) is None
    assert rig.peering.known[THEIRS] == rig.peer


def test_a_peer_keeps_its_number_and_its_traffic_and_loses_its_old_prefixes() -> None:
    rig = Rig()
    rig.peering.traffic[rig.peer].packets_out = 7
    assert rig.add("peer", "10.42.3.0/24") == rig.peer
    assert (rig.peering.peer_of(STRANGE), rig.peering.peer_of(THEIRS)) == (rig.peer, None)
    assert rig.peering.report(0.0)["peer"]["packets-out"] == 7


def test_a_peer_that_is_set_has_its_paths_in_order() -> None:
    rig = Rig()
    endpoints = (Endpoint("192.0.2.9", 1), Endpoint("192.0.2.8", 2))
    _, paths = rig.peering.set_peer(DataPeer("other", ("10.42.9.0/24",), endpoints))
    ways = [rig.paths.way(one) for one in paths]
    assert [way and way.address for way in ways] == [("192.0.2.9", 1), ("192.0.2.8", 2)]


def test_a_prefix_that_moved_to_another_peer_stays_there_when_the_first_is_removed() -> None:
    rig = Rig()
    heir = rig.add("heir", "10.42.2.0/24")
    assert rig.peering.remove_peer("peer") == rig.peer
    assert rig.peering.peer_of(THEIRS) == heir
    assert rig.peering.remove_peer("peer") is None


@pytest.mark.parametrize("change", ["peer", "removed", "local"])
def test_any_change_empties_the_answers(change: str) -> None:
    rig = Rig()
    senders = frozenset({rig.peer})
    rig.peering.peer_of(THEIRS)
    rig.owner(THEIRS, OURS)
    assert rig.peering.known
    assert rig.peering.accepted_from(senders)
    if change == "peer":
        rig.add("other", "10.42.3.0/24")
    elif change == "removed":
        rig.peering.remove_peer("peer")
    else:
        rig.peering.set_local(Local(prefixes=("10.42.7.0/24",)))
    assert not rig.peering.known
    assert not rig.peering.accepted_from(senders)


def test_strict_asks_for_a_source_of_the_sender_and_a_destination_of_ours() -> None:
    rig = Rig()
    other = rig.add("other", "10.42.3.0/24")
    assert rig.owner(THEIRS, OURS) == "peer"
    assert rig.owner(STRANGE, OURS) is None
    assert rig.owner(OURS, OURS) is None
    assert rig.counters == {"drop-source": 2}
    assert rig.owner(STRANGE, OURS, senders=frozenset({rig.peer, other})) == "other"
    assert rig.owner(THEIRS, STRANGE) is None
    assert rig.counters == {"drop-source": 2, "drop-destination": 1}
    assert list(rig.peering.accepted_from(frozenset({rig.peer}))) == [(THEIRS, OURS)]


def test_peer_takes_any_source_and_counts_it_for_its_owner_or_the_first_sender() -> None:
    rig = Rig(Local(prefixes=LOCAL.prefixes, source_check="peer"))
    other = rig.add("other", "10.42.3.0/24")
    foreign = ip_address("192.0.2.77").packed
    senders = frozenset({rig.peer, other})
    assert rig.owner(foreign, STRANGE, senders=senders) == "peer"
    assert rig.owner(STRANGE, OURS, senders=senders) == "other"
    assert not rig.counters


def test_source_takes_any_destination_from_who_owns_the_source() -> None:
    rig = Rig(Local(prefixes=LOCAL.prefixes, source_check="source"))
    rig.add("other", "10.42.3.0/24")
    assert rig.owner(THEIRS, ip_address("192.0.2.77").packed) == "peer"
    assert rig.owner(STRANGE, OURS) is None
    assert rig.owner(ip_address("192.0.2.77").packed, OURS) is None
    assert rig.counters == {"drop-source": 2}


def test_a_source_check_that_is_not_known_is_strict() -> None:
    rig = Rig(Local(prefixes=LOCAL.prefixes, source_check="of another release"))
    assert rig.owner(STRANGE, OURS) is None
    assert rig.owner(THEIRS, STRANGE) is None
    assert rig.counters == {"drop-source": 1, "drop-destination": 1}


def test_caches_do_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering, "CACHE_ENTRIES", 4)
    rig = Rig()
    accepted = rig.peering.accepted_from(frozenset({rig.peer}))
    for number in range(20):
        address = ip_address(f"10.42.2.{number}").packed
        rig.peering.peer_of(address)
        rig.owner(address, OURS)
        assert rig.peering.known[address] == rig.peer
        assert (address, OURS) in accepted
        assert len(rig.peering.known) <= 4
        assert len(accepted) <= 4


def test_what_is_no_prefix_is_refused_and_changes_nothing() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match=r"10\.42\.3"):
        rig.add("peer", "10.42.3.0/24", "10.42.3.1/24")
    assert rig.peering.peer_of(THEIRS) == rig.peer
    with pytest.raises(ValueError, match="nonsense"):
        rig.peering.set_local(Local(prefixes=("nonsense",)))
    assert rig.owner(THEIRS, OURS) == "peer"


def test_the_sources_of_icmp_errors_are_known_by_version() -> None:
    sources = Rig().peering.icmp_sources
    assert sources == {4: ip_address("10.42.1.0").packed, 6: ip_address("fd42:1::").packed}


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    rig = Rig()
    for endpoint in (Endpoint("nowhere", 1), Endpoint("192.0.2.1", 65536), Endpoint("192.0.2.1", -1)):
        with pytest.raises(ValueError, match=r"an endpoint needs one"):
            rig.peering.set_peer(DataPeer("peer", ("10.42.2.0/24",), (endpoint,)))
    assert rig.paths.way(rig.paths.received_from(("192.0.2.1", 8285))) is not None


def test_what_is_known_beside_the_traffic_does_not_take_its_place() -> None:
    rig = Rig()
    rig.peering.traffic[rig.peer].packets_out = 7
    told = rig.peering.report(
        0.0, {rig.peer: {"endpoint": "192.0.2.1:1", "packets-out": 0}, PeerId(99): {"x": 1}}
    )
    assert told.keys() == {"peer"}
    assert (told["peer"]["endpoint"], told["peer"]["packets-out"]) == ("192.0.2.1:1", 7)


def test_a_report_says_when_a_peer_was_last_seen_once_it_was() -> None:
    rig = Rig()
    assert "last-seen" not in rig.peering.report(10.0)["peer"]
    traffic = rig.peering.traffic[rig.peer]
    traffic.packets_in, traffic.bytes_in, traffic.last_seen = 1, 20, 7.5
    assert rig.peering.report(10.0)["peer"] == {
        "packets-out": 0,
        "bytes-out": 0,
        "packets-in": 1,
        "bytes-in": 20,
        "last-seen": 2.5,
    }
