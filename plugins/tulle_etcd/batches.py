"""Watch responses into batches, each of whole revisions. Pure.

etcd sends whole revisions in one response, except where it cuts a large response into fragments; then all but the
last say so, and the cut may lie inside a revision. The revision to go on from is always that of the last event seen:
the header's may be ahead of events that are still on their way.
"""

from __future__ import annotations

from tulle.contracts.store import Event, Revision, WatchBatch
from tulle_etcd import convert
from tulle_etcd import messages_pb2 as pb


class Batches:
    """Of one watch that began after `after`."""

    def __init__(self, after: Revision) -> None:
        self.revision = after
        """What the events handed out so far reach to."""
        self._after = after
        self._fragments: list[Event] = []

    def add(self, response: pb.WatchResponse) -> WatchBatch | None:
        """The batch that this response completes, if it does."""
        self._fragments += (
            convert.event(message) for message in response.events if message.kv.mod_revision > self._after
        )
        if response.fragment or not self._fragments:
            return None
        events, self._fragments = self._fragments, []
        self.revision = events[-1].kv.modified
        return WatchBatch(events, self.revision)
