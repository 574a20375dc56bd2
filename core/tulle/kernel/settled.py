"""What the kernel is known to have, and how little of a wish differs from that. Pure.

With thousands of peers a change is one of them: comparing two wishes costs a hundredth of comparing a wish with what
was read.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tulle.contracts.kernel import Wanted
from tulle.kernel.state import Seen, SeenLink
from tulle.net.delta import delta


class Settled(msgspec.Struct, frozen=True):
    """Where a pass ended with all as wanted."""

    wanted: Wanted
    links: Mapping[str, SeenLink]

    def difference(self, wanted: Wanted) -> tuple[Wanted, Seen] | None:
        """What of `wanted` is new, and what of the kernel's it takes the place of: `diff` of the two leads there. None
        where links or their addresses differ, or not all is known: then only a look tells."""
        was = self.wanted
        if wanted.partial or (wanted.links, wanted.addresses) != (was.links, was.addresses):
            return None
        routes, neighbours, fdb = (
            delta(was.routes, wanted.routes),
            delta(was.neighbours, wanted.neighbours),
            delta(was.fdb, wanted.fdb),
        )
        new = Wanted(
            links=was.links,
            addresses=was.addresses,
            routes=tuple(routes[1]),
            neighbours=tuple(neighbours[1]),
            fdb=tuple(fdb[1]),
        )
        old = Seen(
            links=self.links,
            addresses=was.addresses,
            routes=tuple(routes[0]),
            neighbours=tuple(neighbours[0]),
            fdb=tuple(fdb[0]),
        )
        return new, old
