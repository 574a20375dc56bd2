"""Key pairs: one session each (paper section 5.4.5), and the three that a peer may have at a time (section 6.3).

previous    what the other side may still send in
current     what we send in
next        made as responder: not used for sending before the initiator has proved that it has the keys
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tulle.net.packet import Buffer
from tulle_wireguard.constants import (
    PADDING_BYTES,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME_S,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME_S,
    REKEY_ON_RECEIVE_S,
)
from tulle_wireguard.crypto import wipe
from tulle_wireguard.messages import TRANSPORT_HEADER_BYTES, TRANSPORT_START
from tulle_wireguard.noise import Keys
from tulle_wireguard.replay import ReplayWindow

NONCE_START = bytes(4)  # then the counter, 8 bytes, little endian: paper section 5.4.6
_COUNTER = slice(8, 16)
_PADDING = tuple(bytes(size) for size in range(PADDING_BYTES))

Sealed = tuple[bytes, bytes]
"""A transport message in two pieces: header, and what is sealed."""


class KeyPair:
    """Both keys of a session, the counter that is sent next, and the counters received."""

    __slots__ = (
        "_header",
        "_opener",
        "_sealer",
        "counter",
        "created",
        "initiator",
        "local",
        "receive_key",
        "remote",
        "replay",
        "send_key",
    )

    def __init__(self, local: int, remote: int, keys: Keys, *, initiator: bool, created: float) -> None:
        """`local`: our index, which the other side sends; `remote`: its index. `initiator`: we are it."""
        self.local = local
        self.remote = remote
        self.initiator = initiator
        self.created = created
        self.counter = 0
        self.replay = ReplayWindow()
        self.send_key = bytearray(keys.send)
        self.receive_key = bytearray(keys.receive)
        self._header = TRANSPORT_START + remote.to_bytes(4, "little")
        self._sealer: ChaCha20Poly1305 | None = ChaCha20Poly1305(keys.send)
        self._opener: ChaCha20Poly1305 | None = ChaCha20Poly1305(keys.receive)

    def may_send(self, now: float) -> bool:
        return now < self.created + REJECT_AFTER_TIME_S and self.counter < REJECT_AFTER_MESSAGES

    def may_receive(self, now: float) -> bool:
        return now < self.created + REJECT_AFTER_TIME_S

    def is_old_to_send(self, now: float) -> bool:
        """A new session is due after something was sent. Only the initiator looks at the time, so that both sides do
        not start at once."""
        return self.counter >= REKEY_AFTER_MESSAGES or (
            self.initiator and now >= self.created + REKEY_AFTER_TIME_S
        )

    def is_old_to_receive(self, now: float) -> bool:
        """The same after something was received: who only receives must see to it too."""
        return self.initiator and now >= self.created + REKEY_ON_RECEIVE_S

    def seal(self, packets: Sequence[Buffer], mtu: int) -> list[Sealed]:
        """As many as the counter allows, from the first on. Padded to 16 bytes, but never beyond the MTU."""
        counter, sealed = self.counter, []
        if self._sealer is None:
            raise ValueError("this key pair was wiped")
        encrypt, header = self._sealer.encrypt, self._header
        for packet in packets[: max(0, REJECT_AFTER_MESSAGES - counter)]:
            size = len(packet)
            padding = -size % PADDING_BYTES
            if padding:
                if size + padding > mtu:
                    padding = max(0, mtu - size)
                packet = b"".join((packet, _PADDING[padding]))
            number = counter.to_bytes(8, "little")
            sealed.append((header + number, encrypt(NONCE_START + number, packet, None)))
            counter += 1
        self.counter = counter
        return sealed

    def open(self, datagram: Buffer) -> bytes | None:
        """The plain text of a transport message that carries our index; None where the tag does not hold. The
        replay window is not asked here."""
        if self._opener is None:
            return None
        try:
            nonce = NONCE_START + datagram[_COUNTER]
            return self._opener.decrypt(nonce, datagram[TRANSPORT_HEADER_BYTES:], None)
        except InvalidTag:
            return None

    def retire(self) -> None:
        """Nothing is sealed in it any more; what the other side still sends in it is opened."""
        self.counter = REJECT_AFTER_MESSAGES

    def wipe(self) -> None:
        """Nothing is sealed or opened after this."""
        wipe(self.send_key, self.receive_key)
        self._sealer = self._opener = None


class KeyPairs:
    """See the module. Each change returns the pairs that fell out: they are wiped, their indices are free."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: KeyPair | None = None
        self.current: KeyPair | None = None
        self.next: KeyPair | None = None

    def add(self, pair: KeyPair) -> list[KeyPair]:
        """A handshake was completed."""
        if not pair.initiator:
            return self._set(None, self.current, pair)
        # An unconfirmed pair is newer than the current one: the other side may be about to send in it.
        return self._set(self.next or self.current, pair, None)

    def received_in(self, pair: KeyPair) -> list[KeyPair] | None:
        """Something authentic came in this pair. None, unless that confirmed the next one: then it is current."""
        if pair is not self.next:
            return None
        return self._set(self.current, pair, None)

    def clear(self) -> list[KeyPair]:
        return self._set(None, None, None)

    def all(self) -> list[KeyPair]:
        return [pair for pair in (self.previous, self.current, self.next) if pair is not None]

    def _set(
        self, previous: KeyPair | None, current: KeyPair | None, future: KeyPair | None
    ) -> list[KeyPair]:
        before = self.all()
        self.previous, self.current, self.next = previous, current, future
        gone = [pair for pair in before if pair not in (previous, current, future)]
        for pair in gone:
            pair.wipe()
        return gone
