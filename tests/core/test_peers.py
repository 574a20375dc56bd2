"""Only what changed is made anew, and what is kept is what making all anew would give."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Peer
from tulle.peers import PeerMemo

PODS, OUTER = ip_network("10.42.0.0/24"), ip_address("192.0.2.2")


def peer(key: int, revision: int) -> Peer:
    return Peer(str(key), f"n{key}", (PODS,), (OUTER,), "udp", {"a": [1]}, revision=revision)


sets = st.lists(st.builds(peer, st.integers(0, 5), st.integers(0, 2)), unique_by=lambda one: one.key)


@given(st.lists(sets, max_size=6))
def test_after_any_changes_it_holds_what_making_all_anew_gives(steps: list[list[Peer]]) -> None:
    memo = PeerMemo(lambda one: (one.key, one.revision))
    before: set[tuple[str, int]] = set()
    for peers in steps:
        gone, come = memo.update(peers)
        now = {(one.key, one.revision) for one in peers}
        assert set(memo.values()) == now
        assert {(one.key, found) for one, found in memo.pairs()} == {(key, (key, rev)) for key, rev in now}
        assert set(gone) == before - now
        assert set(come) == now - before
        before = now


def test_what_did_not_change_is_not_made_again_and_keeps_its_place() -> None:
    made: list[str] = []

    def make(one: Peer) -> str:
        made.append(one.key)
        return one.key

    memo = PeerMemo(make)
    peers = [peer(number, 0) for number in range(4)]
    memo.update(peers)
    copies = [msgspec.structs.replace(one) for one in reversed(peers)]
    assert memo.update(copies) == ([], [])
    assert memo.update([*copies, peer(9, 0)]) == ([], ["9"])
    gone, come = memo.update([peer(2, 1), *peers[:2]])
    assert (sorted(gone), come) == (["2", "3", "9"], ["2"])
    assert memo.values() == ["0", "1", "2"]
    assert made == ["0", "1", "2", "3", "9", "2"]


def test_after_forgetting_all_is_made_anew() -> None:
    made: list[str] = []
    memo = PeerMemo(lambda one: made.append(one.key))
    memo.update([peer(1, 0)])
    memo.forget()
    assert memo.values() == []
    memo.update([peer(1, 0)])
    assert made == ["1", "1"]
