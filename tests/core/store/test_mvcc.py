"""What transactions mean, without a store around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import (
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    LeaseGone,
    LeaseId,
    Put,
    Revision,
    absent,
)
from tulle.store import mvcc

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\ud7ff\ue000\uffff\U0010ffff"))


class Keys:
    """The simplest rows there can be."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyValue] = {}
        self.events: list[Event] = []

    def get(self, key: str) -> KeyValue | None:
        return self.keys.get(key)

    def knows_lease(self, lease: LeaseId) -> bool:
        return lease == 7

    def apply(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == "put":
            self.keys[event.kv.key] = event.kv
        else:
            del self.keys[event.kv.key]


@given(TEXT, TEXT)
def test_a_key_lies_before_the_end_of_a_prefix_exactly_if_it_has_it(prefix: str, key: str) -> None:
    end = mvcc.end_of_prefix(prefix)
    for candidate in (key, prefix + key):
        inside = candidate >= prefix and (end is None or candidate < end)
        assert inside == candidate.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("", None), ("a", "b"), ("a/", "a0"), ("\ud7ff", "\ue000"), ("a\U0010ffff", "b"), ("\U0010ffff", None)],
)
def test_the_end_of_a_prefix(prefix: str, end: str | None) -> None:
    assert mvcc.end_of_prefix(prefix) == end


def test_undoing_events_gives_the_keys_as_they_were() -> None:
    rows = Keys()
    mvcc.execute(rows, Revision(1), [], [Put("a", b"1"), Put("b", b"1")], [])
    before = list(rows.keys.values())
    rows.events.clear()
    mvcc.execute(rows, Revision(2), [], [Put("a", b"2"), Delete("b"), Put("c", b"2")], [])
    mvcc.execute(rows, Revision(3), [], [Put("b", b"3"), Delete("a")], [])
    assert mvcc.undo(rows.keys.values(), reversed(rows.events)) == before


def test_an_unknown_lease_is_found_before_anything_changes() -> None:
    rows = Keys()
    with pytest.raises(LeaseGone, match="lease 8 has expired"):
        mvcc.execute(rows, Revision(1), [], [Put("a", b"", LeaseId(7)), Put("b", b"", LeaseId(8))], [])
    assert rows.events == []
    mvcc.execute(rows, Revision(1), [absent("a")], [Put("a", b"", LeaseId(7))], [Put("b", b"", LeaseId(8))])
    assert list(rows.keys) == ["a"]


@pytest.mark.parametrize(
    "branch",
    [
        [Put("a", b""), Put("a", b"")],
        [Put("a", b""), Delete("a")],
        [Delete("a"), Delete("a")],
        [Get("")],
        [Put("\ud800", b"")],
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_nonsense_in_either_branch_is_refused(branch: list[Put | Delete | Get], position: int) -> None:
    rows = Keys()
    branches = ([], branch) if position else (branch, [])
    with pytest.raises(ValueError, match=r"written twice|empty|surrogates"):
        mvcc.execute(rows, Revision(1), [], *branches)
    assert rows.events == []


@pytest.mark.parametrize(
    "compare", [Compare("a", "version", b"1"), Compare("a", "value", 1), Compare("a", "version", 1, "~")]
)
def test_a_comparison_of_unlike_things_is_refused(compare: Compare) -> None:
    with pytest.raises(ValueError, match=r"compared with|unknown comparison"):
        mvcc.holds(compare, KeyValue("a", b"1", Revision(1), Revision(1), 1))
