"""The handshakes of one device, message by message: paper sections 5.4.2 to 5.4.5, on the pattern in noise.py.

Makes and reads messages, keeps indices, and says what came of it. When they are sent is the business of sessions.py. A
message that proves nothing changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tulle_wireguard import noise
from tulle_wireguard.constants import (
    IDENTIFIER,
    KEY_BYTES,
    PEER_INITIATION_INTERVAL_S,
    TIMESTAMP_BYTES,
)
from tulle_wireguard.crypto import dh, public_key, wipe
from tulle_wireguard.keypair import KeyPair
from tulle_wireguard.messages import CookieReply, Initiation, Response
from tulle_wireguard.peer import Flight, Peer
from tulle_wireguard.tai64n import Stamps


class Question(NamedTuple):
    """An initiation that was taken."""

    peer: Peer
    sender: int
    asked: noise.Asked


class Exchange:
    """See the module."""

    def __init__(
        self,
        private: bytes,
        random_bytes: Callable[[int], bytes],
        unix_ns: Callable[[], int],
        stamps: Stamps,
        counters: Counter[str],
    ) -> None:
        self.stamps = stamps
        self.peers: dict[bytes, Peer] = {}
        self.pairs: dict[int, tuple[Peer, KeyPair]] = {}
        """Sessions by our index."""
        self._flights: dict[int, Peer] = {}
        self._random_bytes = random_bytes
        self._unix_ns = unix_ns
        self._counters = counters
        self._private = bytearray(private)
        self.public = public_key(self._private)

    # --- keys and indices ---------------------------------------------------------------------------------------

    def set_private(self, private: bytes) -> None:
        """Handshakes that are under way are dropped, and nothing is sent any more in sessions that the old key made."""
        self.public = public_key(private)
        for peer in self.peers.values():
            self.drop_flight(peer)
            for pair in peer.pairs.all():
                pair.retire()
        wipe(self._private)
        self._private = bytearray(private)
        for peer in self.peers.values():
            wipe(peer.static_static)
            peer.static_static = bytearray(self.shared_with(peer.public))

    def shared_with(self, public: bytes) -> bytes:
        """The DH of both static keys. Raises ValueError where there is none."""
        if len(public) != KEY_BYTES:
            raise ValueError(f"a public key has {KEY_BYTES} bytes, this one {len(public)}")
        shared = dh(self._private, public)
        if shared is None:
            raise ValueError(
                f"{public.hex()} is no usable public key: anybody could read what is sealed for it"
            )
        return shared

    def drop_flight(self, peer: Peer) -> None:
        """Our initiation is not waited for any more."""
        if peer.flight is not None:
            wipe(peer.flight.started.ephemeral)
            del self._flights[peer.flight.local]
            peer.flight = None

    def has_index(self, index: int) -> bool:
        """Whether a session or a handshake under way has it."""
        return index in self.pairs or index in self._flights

    def wipe(self) -> None:
        wipe(self._private)

    def drop_pairs(self, gone: list[KeyPair]) -> None:
        for pair in gone:
            self.pairs.pop(pair.local, None)

    def adopt(self, peer: Peer, pairs: list[KeyPair]) -> None:
        """Sessions that another process made."""
        for pair in pairs:
            self.pairs[pair.local] = (peer, pair)

    def _new_index(self) -> int:
        """Not to be guessed, so that nobody off the path can name a session."""
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if index not in self.pairs and index not in self._flights:
                return index

    # --- the four messages ----------------------------------------------------------------------------------------

    def initiation(self, peer: Peer, now: float) -> bytes | None:
        """Message 1. It takes the place of one that is under way."""
        self.drop_flight(peer)
        ephemeral = bytearray(self._random_bytes(KEY_BYTES))
        stamp = self.stamps.next(self._unix_ns())
        made = noise.start(
            self._private, peer.public, bytes(peer.static_static), ephemeral, stamp, IDENTIFIER
        )
        if made is None:
            return None
        started, fields = made
        local = self._new_index()
        peer.flight = Flight(local, started)
        self._flights[local] = peer
        return peer.stamper.stamp(Initiation(local, *fields).encode(), now)

    def read_initiation(self, message: Initiation, now: float) -> Question | None:
        """Message 1 of a peer: known, with a timestamp later than any before, and not too soon after the last."""
        fields = (message.ephemeral, message.static, message.timestamp)
        read = noise.read_start(self._private, self.public, self._static_static, fields, IDENTIFIER)
        if read is None:
            self._counters["drop-initiation-unproven"] += 1
            return None
        asked, stamp = read
        peer = self.peers[asked.static]
        if len(stamp) != TIMESTAMP_BYTES or stamp <= peer.timestamp:
            self._counters["drop-initiation-replayed"] += 1
            return None
        if now < peer.initiation_at + PEER_INITIATION_INTERVAL_S:
            self._counters["drop-initiation-flood"] += 1
            return None
        peer.timestamp, peer.initiation_at = stamp, now
        return Question(peer, message.sender, asked)

    def response(self, question: Question, now: float) -> bytes | None:
        """Message 2; its session is the peer's next one."""
        ephemeral = bytearray(self._random_bytes(KEY_BYTES))
        peer = question.peer
        made = noise.answer(question.asked, ephemeral, peer.psk)
        wipe(ephemeral)
        if made is None:
            return None
        fields, keys = made
        pair = KeyPair(self._new_index(), question.sender, keys, initiator=False, created=now)
        self._install(peer, pair)
        return peer.stamper.stamp(Response(pair.local, question.sender, *fields).encode(), now)

    def read_response(self, message: Response, now: float) -> Peer | None:
        """Message 2 to an initiation that is under way; its session is the peer's current one."""
        peer = self._flights.get(message.receiver)
        if peer is None or peer.flight is None:
            self._counters["drop-response-unasked"] += 1
            return None
        read = noise.read_answer(peer.flight.started, peer.psk, (message.ephemeral, message.empty))
        if read is None:
            self._counters["drop-response-unproven"] += 1
            return None
        local = peer.flight.local
        self.drop_flight(peer)
        self._install(peer, KeyPair(local, message.sender, read[1], initiator=True, created=now))
        return peer

    def read_cookie_reply(self, reply: CookieReply, now: float) -> None:
        """Message 3: the next message 1 or 2 to that peer carries a mac2. It moves no endpoint."""
        found = self.pairs.get(reply.receiver)
        peer = self._flights.get(reply.receiver) or (found[0] if found else None)
        if peer is None:
            self._counters["drop-cookie-unasked"] += 1
        elif not peer.stamper.take_reply(reply, now):
            self._counters["drop-cookie-unproven"] += 1

    def _install(self, peer: Peer, pair: KeyPair) -> None:
        self.pairs[pair.local] = (peer, pair)
        self.drop_pairs(peer.pairs.add(pair))

    def _static_static(self, public: bytes) -> bytes | None:
        peer = self.peers.get(public)
        return bytes(peer.static_static) if peer else None
