"""The forwarder's copy of the state follows what tulled says, whatever order of whole and part it comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tulle.contracts.backend import DataPeer, Endpoint
from tulle.contracts.engine import Local
from tulle.forward.messages import State
from tulle.forward.state import StateCopy

KEYS = st.sampled_from("abcdef")
PEERS = st.builds(
    lambda key, number: DataPeer(key, (f"10.42.{number}.0/24",), (Endpoint("192.0.2.1", 8285),)),
    KEYS,
    st.integers(0, 3),
)
PEER_SETS = st.lists(PEERS, max_size=6, unique_by=lambda peer: peer.key)


class EngineModel:
    """What an engine has that does as `Changes` say."""

    def __init__(self) -> None:
        self.peers: dict[str, DataPeer] = {}
        self.copy = StateCopy()

    def take(self, state: State) -> bool:
        """Whether it was taken."""
        changes = self.copy.take(state)
        if changes is None:
            return False
        for key in changes.removed:
            del self.peers[key]
        for peer in changes.upserts:
            assert self.peers.get(peer.key) != peer, "nothing is told twice"
            self.peers[peer.key] = peer
        assert changes.complete == (not state.more)
        return True


class Conversation(RuleBasedStateMachine):
    """tulled sends wholes and differences, in one piece or in parts, and may break off after any part."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = EngineModel()
        self.wanted: dict[str, DataPeer] = {}
        self.generation = 0
        self.whole = True

    def send(self, base: int | None, peers: list[DataPeer], removed: list[str], cut: int, sent: int) -> None:
        """The peers in `cut` + 1 parts, of which `sent` arrive (at least one)."""
        chunks = [peers[number :: cut + 1] for number in range(cut + 1)]
        taken = True
        for number, chunk in enumerate(chunks[: max(1, sent)]):
            taken = taken and self.engine.take(
                State(
                    base=base,
                    generation=self.generation,
                    part=number,
                    more=number < cut,
                    peers=chunk,
                    removed=removed if number == 0 else [],
                )
            )
        if not taken:
            assert base is not None, "a whole is always taken"
            assert not self.whole
            return
        self.whole = max(1, sent) == cut + 1

    @rule(peers=PEER_SETS, cut=st.integers(0, 3), sent=st.integers(1, 4), same_number=st.booleans())
    def whole_state(self, peers: list[DataPeer], cut: int, sent: int, same_number: bool) -> None:
        """`same_number`: a restarted tulled may give a generation the number of another."""
        self.generation += 0 if same_number else 1
        self.wanted = {peer.key: peer for peer in peers}
        self.send(None, peers, [], cut, min(sent, cut + 1))

    @rule(peers=PEER_SETS, removed=st.sets(KEYS), cut=st.integers(0, 3), sent=st.integers(1, 4))
    def difference(self, peers: list[DataPeer], removed: set[str], cut: int, sent: int) -> None:
        base, self.generation = self.generation, self.generation + 1
        gone = sorted(removed - {peer.key for peer in peers})
        for key in gone:
            self.wanted.pop(key, None)
        self.wanted |= {peer.key: peer for peer in peers}
        self.send(base, peers, gone, cut, min(sent, cut + 1))

    @rule(peers=PEER_SETS, off=st.integers(1, 3), part=st.integers(0, 2))
    def difference_from_elsewhere(self, peers: list[DataPeer], off: int, part: int) -> None:
        before = dict(self.engine.peers)
        strange = State(base=self.generation + off, generation=self.generation + 9, part=part, peers=peers)
        assert not self.engine.take(strange)
        assert self.engine.peers == before

    @precondition(lambda self: self.whole)
    @rule()
    def a_late_part_of_nothing(self) -> None:
        assert not self.engine.take(State(base=None, generation=self.generation, part=1))

    @invariant()
    def engine_and_copy_agree(self) -> None:
        assert self.engine.copy.peers == self.engine.peers

    @invariant()
    def a_whole_generation_is_what_was_wanted(self) -> None:
        if self.whole:
            assert self.engine.peers == self.wanted
            assert self.engine.copy.generation == self.generation


TestConversation = Conversation.TestCase


@given(PEER_SETS)
def test_the_same_whole_again_changes_nothing(peers: list[DataPeer]) -> None:
    copy = StateCopy()
    said = State(base=None, generation=1, local=Local(mtu=1400), options={"key": 1}, peers=peers)
    first = copy.take(said)
    assert first is not None
    assert (first.local, first.options, first.upserts) == (Local(mtu=1400), {"key": 1}, peers)
    again = copy.take(said)
    assert again is not None
    assert (again.local, again.options, again.upserts, again.removed) == (None, None, [], [])


def test_local_and_options_that_are_left_out_stay_as_they_were() -> None:
    copy = StateCopy()
    copy.take(State(base=None, generation=1, local=Local(mtu=1400), options={"a": 1}))
    changes = copy.take(State(base=1, generation=2, options={"a": 2}))
    assert changes is not None
    assert (changes.local, changes.options) == (None, {"a": 2})
    assert (copy.local, copy.options) == (Local(mtu=1400), {"a": 2})


def peer(key: str, number: int = 1) -> DataPeer:
    return DataPeer(key, (f"10.42.{number}.0/24",), (Endpoint("192.0.2.1", 8285),))


def whole(generation: int, *peers: DataPeer, keep: bool = False, part: int = 0, more: bool = False) -> State:
    return State(base=None, generation=generation, peers=list(peers), keep_peers=keep, part=part, more=more)


def changed(copy: StateCopy, state: State) -> tuple[list[str], list[str], bool]:
    """What is set, what is removed, and whether the generation is in force."""
    changes = copy.take(state)
    assert changes is not None
    return [one.key for one in changes.upserts], changes.removed, changes.complete


def test_a_whole_that_keeps_peers_removes_none_and_is_in_force() -> None:
    copy = StateCopy()
    copy.take(whole(7, peer("a"), peer("b")))
    assert changed(copy, whole(1, keep=True)) == ([], [], True)
    assert set(copy.peers) == {"a", "b"}
    assert copy.generation == 1


def test_a_whole_that_keeps_peers_still_sets_those_that_it_names() -> None:
    copy = StateCopy()
    copy.take(whole(7, peer("a"), peer("b")))
    assert changed(copy, whole(1, peer("b", 2), peer("c"), keep=True)) == (["b", "c"], [], True)
    assert copy.peers == {"a": peer("a"), "b": peer("b", 2), "c": peer("c")}


def test_peers_that_were_kept_go_with_the_next_whole_that_does_not_name_them() -> None:
    copy = StateCopy()
    copy.take(whole(7, peer("a"), peer("b"), peer("c")))
    copy.take(whole(1, keep=True))
    assert changed(copy, whole(2, peer("b"))) == ([], ["a", "c"], True)
    assert copy.peers == {"b": peer("b")}


def test_kept_peers_are_what_a_difference_starts_from() -> None:
    copy = StateCopy()
    copy.take(whole(7, peer("a"), peer("b")))
    copy.take(whole(1, keep=True))
    difference = State(base=1, generation=2, peers=[peer("c")], removed=["a"])
    assert changed(copy, difference) == (["c"], ["a"], True)
    assert set(copy.peers) == {"b", "c"}


def test_a_whole_in_parts_that_keeps_peers_sweeps_at_no_part() -> None:
    copy = StateCopy()
    copy.take(whole(7, peer("a")))
    assert changed(copy, whole(1, peer("b"), keep=True, more=True)) == (["b"], [], False)
    assert changed(copy, whole(1, peer("c"), keep=True, part=1)) == (["c"], [], True)
    assert set(copy.peers) == {"a", "b", "c"}


def test_what_a_kept_whole_named_does_not_save_a_peer_from_the_next_sweep() -> None:
    """Which peers a whole named is counted from its own first part on."""
    copy = StateCopy()
    copy.take(whole(1, peer("a"), keep=True))
    assert changed(copy, whole(2, peer("b"), more=True)) == (["b"], [], False)
    assert changed(copy, whole(2, peer("c"), part=1)) == (["c"], ["a"], True)
    assert set(copy.peers) == {"b", "c"}
