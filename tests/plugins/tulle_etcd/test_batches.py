"""Watch responses into batches."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.store import Revision, WatchBatch
from tulle_etcd import messages_pb2 as pb
from tulle_etcd.batches import Batches


def response(*revisions: int, fragment: bool = False, header: int = 1000) -> pb.WatchResponse:
    events = [
        pb.Event(kv=pb.KeyValue(key=b"k%d" % number, mod_revision=r)) for number, r in enumerate(revisions)
    ]
    return pb.WatchResponse(header=pb.ResponseHeader(revision=header), fragment=fragment, events=events)


def revisions(batch: WatchBatch | None) -> list[int]:
    assert batch is not None
    return [event.kv.modified for event in batch.events]


def test_a_batch_resumes_after_its_last_event_and_not_at_the_headers_revision() -> None:
    batch = Batches(Revision(3)).add(response(4, 5, 5))
    assert revisions(batch) == [4, 5, 5]
    assert batch is not None
    assert batch.revision == 5


def test_a_progress_notice_is_no_batch_and_moves_nothing() -> None:
    batches = Batches(Revision(3))
    assert batches.add(response(header=500)) is None
    assert batches.revision == 3


def test_fragments_are_one_batch() -> None:
    batches = Batches(Revision(3))
    assert batches.add(response(4, 5, fragment=True)) is None
    assert batches.revision == 3, "a loss of the connection here must ask for revision 4 again"
    assert batches.add(response(5, fragment=True)) is None
    assert revisions(batches.add(response(5, 6))) == [4, 5, 5, 5, 6]


def test_what_was_seen_before_the_watch_is_not_told_again() -> None:
    assert revisions(Batches(Revision(4)).add(response(3, 4, 5))) == [5]


@given(st.lists(st.integers(1, 3), min_size=1), st.data())
def test_however_a_history_is_cut_into_fragments_no_revision_is_split(
    sizes: list[int], data: st.DataObject
) -> None:
    history = [number for number, size in enumerate(sizes, 1) for _ in range(size)]
    batches, seen, start = Batches(Revision(0)), [], 0
    while start < len(history):
        end = data.draw(st.integers(start + 1, len(history)))
        inside = end < len(history) and history[end - 1] == history[end]
        batch = batches.add(response(*history[start:end], fragment=inside))
        start = end
        if batch:
            seen.append(revisions(batch))
    assert [revision for batch in seen for revision in batch] == history
    assert all(one[-1] < other[0] for one, other in pairwise(seen))
