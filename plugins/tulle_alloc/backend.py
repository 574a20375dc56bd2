"""The alloc backend: the lease is all. What follows the leases (a router, a cloud's controller) carries the packets."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.backend import (
    Advertisement,
    BackendContext,
    Family,
    JsonObject,
    Owned,
    Peer,
    Problem,
    Report,
)


class AllocBackend:
    """See the module and `contracts.backend.Backend`."""

    def __init__(self) -> None:
        self._mtu = 0
        self.usable: frozenset[str] = frozenset()
        """Keys of the leases that whoever carries the packets can make something of."""

    def overhead_bytes(self, outer: Family) -> int:
        return 0

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """As flannel's alloc: the lease names no backend."""
        return Advertisement(type="")

    async def start(self, ctx: BackendContext) -> None:
        self._mtu = ctx.underlay.mtu

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        found = {peer.key: _judge(peer) for peer in peers}
        self.usable = frozenset(key for key, problem in found.items() if problem is None)
        return Report(problems=tuple(problem for problem in found.values() if problem is not None))

    def mtu(self) -> int:
        """The underlay's: nothing is wrapped around a packet."""
        return self._mtu

    def status(self) -> JsonObject:
        return {"mtu": self._mtu, "usable_peers": len(self.usable)}

    def owned(self) -> Owned:
        return Owned()

    async def stop(self, remove: bool) -> None:
        """There is nothing to stop."""


def _judge(peer: Peer) -> Problem | None:
    if peer.backend not in ("", "alloc"):
        message = (
            f"its lease says backend {peer.backend}, this node runs alloc: give both the same network config"
        )
        return Problem("peer-backend-differs", peer.node, message)
    if not peer.endpoints:
        message = (
            f"its lease {peer.key} names no address, so nobody can route to it: see that its tulled runs, or "
            "release the lease (tulle leases)"
        )
        return Problem("peer-no-endpoint", peer.node, message)
    return None
