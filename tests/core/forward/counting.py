"""An encapsulation with sessions, as small as can be: each datagram begins with a number that is used once.

Used by test_main, in a forwarder's process.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.encapsulation import Buffer, Outgoing, PeerId
from tulle_udp.encapsulation import PlainUdp

NUMBER_BYTES = 8


class Counting(PlainUdp):
    """As a cipher's counter: two that seal with one number give the key away."""

    _next: int | None = 0
    """None: the session was given away."""

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        path = self._path_of.get(peer)
        if path is None or self._next is None:
            return ()
        first, self._next = self._next, self._next + len(packets)
        numbered = enumerate(packets, first)
        return ((path, [(number.to_bytes(NUMBER_BYTES, "big"), packet) for number, packet in numbered]),)

    def export_state(self) -> bytes:
        number, self._next = self._next, None
        return b"" if number is None else number.to_bytes(NUMBER_BYTES, "big")

    def import_state(self, state: bytes) -> None:
        self._next = int.from_bytes(state, "big")
