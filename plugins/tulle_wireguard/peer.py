"""What a device knows of one peer. Data only: what happens with it is in exchange.py, sessions.py and device.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from tulle_wireguard.constants import KEY_BYTES, STAGED_PACKETS
from tulle_wireguard.cookies import Stamper
from tulle_wireguard.crypto import wipe
from tulle_wireguard.endpoint import Whereabouts
from tulle_wireguard.keypair import KeyPairs
from tulle_wireguard.noise import Started
from tulle_wireguard.timers import Timers

LONG_AGO = float("-inf")


class Flight(NamedTuple):
    """An initiation of ours that waits for its response."""

    local: int
    """Our index in it."""
    started: Started


class Peer:
    """Made by `Device.add_peer`. Times are monotonic seconds."""

    __slots__ = (
        "_psk",
        "flight",
        "heard_at",
        "initiation_at",
        "last_handshake",
        "pairs",
        "public",
        "received_bytes",
        "removed",
        "sent_bytes",
        "sent_handshake_at",
        "staged",
        "stamper",
        "static_static",
        "timers",
        "timestamp",
        "wakes_at",
        "where",
    )

    def __init__(self, public: bytes, static_static: bytes, chance: Callable[[], float]) -> None:
        self.public = public
        self.static_static = bytearray(static_static)
        self.stamper = Stamper(public)
        self.where = Whereabouts()
        self.pairs = KeyPairs()
        self.timers = Timers(chance)
        self.staged: deque[bytes] = deque(maxlen=STAGED_PACKETS)
        """Packets that wait for a session; b"" is a keepalive."""
        self.flight: Flight | None = None
        self.timestamp = b""
        """Of the last initiation that was taken from it."""
        self.initiation_at = LONG_AGO
        """When that was."""
        self.sent_handshake_at = LONG_AGO
        self.heard_at = LONG_AGO
        """The last authentic message."""
        self.last_handshake: float | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        """Of UDP payloads, as `wg show` counts."""
        self.wakes_at = float("inf")
        self.removed = False
        self._psk = bytearray(KEY_BYTES)

    @property
    def psk(self) -> bytearray:
        """All zeros: none (paper section 5.2). The next handshake uses it, also one that is under way."""
        return self._psk

    def set_psk(self, psk: bytes | None) -> None:
        """Raises ValueError where it has not 32 bytes."""
        fresh = bytearray(psk or KEY_BYTES)
        if len(fresh) != KEY_BYTES:
            raise ValueError(f"a pre-shared key has {KEY_BYTES} bytes, this one {len(fresh)}")
        wipe(self._psk)
        self._psk = fresh

    def forget_secrets(self) -> None:
        """The peer was removed. Sessions are cleared by the device, which knows their indices."""
        wipe(self._psk, self.static_static)
