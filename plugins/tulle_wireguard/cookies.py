"""mac1, mac2 and cookies: paper sections 5.4.4 and 5.4.7.

mac1 proves that a sender knows whom it talks to; mac2, that it receives at the address and port that it sends from.
`Checker` is what a receiver has (one for each private key), `Stamper` what a sender has (one for each peer).
"""

from __future__ import annotations

from collections.abc import Callable

from tulle.net.packet import Buffer
from tulle_wireguard.constants import (
    COOKIE_LATENCY_S,
    COOKIE_NONCE_BYTES,
    COOKIE_SECRET_AGE_S,
    KEY_BYTES,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_BYTES,
)
from tulle_wireguard.crypto import hash_of, mac, same, wipe, xseal, xunseal
from tulle_wireguard.messages import MACS_BYTES, CookieReply

_SENDER = slice(4, 8)
"""Of messages 1 and 2: the sender's index."""


class Checker:
    """The receiver's side."""

    def __init__(self, public: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._mac1_key = hash_of(LABEL_MAC1, public)
        self._cookie_key = hash_of(LABEL_COOKIE, public)
        self._random_bytes = random_bytes
        self._secret = bytearray(KEY_BYTES)
        self._secret_until = float("-inf")

    def mac1_holds(self, message: Buffer) -> bool:
        """Of message 1 or 2, whole."""
        covered, given = message[:-MACS_BYTES], message[-MACS_BYTES:-MAC_BYTES]
        return same(mac(self._mac1_key, covered), bytes(given))

    def mac2_holds(self, message: Buffer, source: bytes, now: float) -> bool:
        """`source`: address and port, as in `reply`."""
        covered, given = message[:-MAC_BYTES], message[-MAC_BYTES:]
        return same(mac(self._cookie(source, now), covered), bytes(given))

    def reply(self, message: Buffer, source: bytes, now: float) -> bytes:
        """A cookie reply to message 1 or 2, for the address and port it came from."""
        nonce = self._random_bytes(COOKIE_NONCE_BYTES)
        mac1 = message[-MACS_BYTES:-MAC_BYTES]
        sealed = xseal(self._cookie_key, nonce, self._cookie(source, now), mac1)
        return CookieReply(int.from_bytes(message[_SENDER], "little"), nonce, sealed).encode()

    def _cookie(self, source: bytes, now: float) -> bytes:
        if now >= self._secret_until:
            wipe(self._secret)
            self._secret = bytearray(self._random_bytes(KEY_BYTES))
            self._secret_until = now + COOKIE_SECRET_AGE_S
        return mac(self._secret, source)


class Stamper:
    """The sender's side."""

    def __init__(self, public: bytes) -> None:
        """`public`: the receiver's static key."""
        self._mac1_key = hash_of(LABEL_MAC1, public)
        self._cookie_key = hash_of(LABEL_COOKIE, public)
        self._last_mac1 = b""
        self._cookie = bytearray()
        self._cookie_until = float("-inf")

    def stamp(self, message: bytes, now: float) -> bytes:
        """Message 1 or 2 with mac1, and with mac2 where there is a fresh cookie (else zeros)."""
        covered = message[:-MACS_BYTES]
        self._last_mac1 = mac(self._mac1_key, covered)
        covered += self._last_mac1
        return covered + (mac(self._cookie, covered) if self.has_cookie(now) else bytes(MAC_BYTES))

    def has_cookie(self, now: float) -> bool:
        """A fresh one."""
        return now < self._cookie_until

    def take_reply(self, reply: CookieReply, now: float) -> bool:
        """Keep the cookie, if it answers the last message that was stamped. Each message takes one answer."""
        if not self._last_mac1:
            return False
        cookie = xunseal(self._cookie_key, reply.nonce, reply.cookie, self._last_mac1)
        if cookie is None:
            return False
        self._last_mac1 = b""
        self._cookie = bytearray(cookie)
        self._cookie_until = now + COOKIE_SECRET_AGE_S - COOKIE_LATENCY_S
        return True
