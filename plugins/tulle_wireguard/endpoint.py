"""Where a peer is: what we were told, what it proved, and what is tried next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A UDP address. An IPv4 address is 4 bytes, also where a dual-stack socket shows it as 16."""

    address: bytes
    port: int
    local: bytes = b""
    """Our own address that the peer sent to: answers leave from it (sticky source). Empty: the kernel chooses."""

    def cookie_source(self) -> bytes:
        """What a cookie is bound to: address and port (paper section 5.4.7)."""
        return self.address + self.port.to_bytes(2, "big")

    def without_local(self) -> Endpoint:
        return self._replace(local=b"")


class Whereabouts:
    """The endpoint in use. One that a peer was authenticated at stays until it is authenticated elsewhere; where it
    does not answer any more, the others are tried in turn."""

    __slots__ = ("_candidates", "_proved", "current")

    def __init__(self) -> None:
        self.current: Endpoint | None = None
        self._proved: Endpoint | None = None
        self._candidates: tuple[Endpoint, ...] = ()

    def told(self, candidates: Sequence[Endpoint]) -> None:
        """First guesses, best first (a lease, a configuration). The same ones again move nobody who was authenticated;
        others are news, and are tried before the place where it was heard from last."""
        before, self._candidates = self._candidates, tuple(candidates)
        if self._proved is None:
            self.current = self._candidates[0] if self._candidates else None
        elif self._candidates and before and self._candidates != before:
            self.current = self._candidates[0]

    @property
    def is_proved(self) -> bool:
        """It was authenticated somewhere."""
        return self._proved is not None

    def guess(self, endpoint: Endpoint) -> None:
        """Try there first, though nobody has said so: until it is told or proved otherwise."""
        self.current = endpoint

    def proved(self, endpoint: Endpoint) -> bool:
        """Something authentic has just come from there. True where that is another place than before."""
        if endpoint == self.current and self._proved is not None:
            return False
        before, self.current, self._proved = self.current, endpoint, endpoint
        return before is None or before[:2] != endpoint[:2]

    def silent(self) -> None:
        """No answer: try the next one, and let the kernel choose our address again."""
        self.unstick()
        places = list(dict.fromkeys(one for one in (self._proved, *self._candidates) if one is not None))
        if len(places) > 1:
            here = places.index(self.current) if self.current in places else -1
            self.current = places[(here + 1) % len(places)]

    def unstick(self) -> None:
        """Our own address may be gone (ENETUNREACH, EADDRNOTAVAIL, EINVAL): do not insist on it."""
        if self.current is not None:
            self.current = self.current.without_local()
        if self._proved is not None:
            self._proved = self._proved.without_local()
