"""What a reader is told, and that telling it is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import KeyValue, Revision
from tulle.store.items import Item, Mailbox


def _item(key: str, number: int) -> Item[int]:
    return Item(KeyValue(key, str(number).encode(), Revision(1), Revision(number + 1), 1), number)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.sampled_from("abcd"), st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.just(0)),
    )
)


@given(STEPS)
def test_a_reader_that_applies_what_it_takes_has_what_is_there(
    steps: list[tuple[str, str, int]],
) -> None:
    mailbox: Mailbox[int] = Mailbox()
    there: dict[str, Item[int]] = {}
    told: dict[str, Item[int]] = {}
    for step, key, number in [*steps, ("take", "", 0)]:
        if step == "put":
            there[key] = _item(key, number)
            mailbox.upsert(key, there[key])
        elif step == "delete" and key in there:
            mailbox.delete(key, there.pop(key))
        elif step == "take":
            changes = mailbox.take(True)
            assert not changes.upserted.keys() & changes.deleted.keys()
            assert changes.deleted.keys() <= told.keys()
            told = {k: v for k, v in told.items() if k not in changes.deleted} | dict(changes.upserted)
            assert told == there
            assert not mailbox


def test_keys_that_come_and_go_between_two_looks_cost_no_memory() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for number in range(1000):
        key = f"k{number}"
        mailbox.upsert(key, _item(key, number))
        mailbox.delete(key, _item(key, number))
    assert not mailbox
