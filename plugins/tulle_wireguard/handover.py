"""A device's sessions as bytes, for another process on the same machine: keys, counters, windows, timers, places.

Times are monotonic seconds of this boot, so they hold in the other process too. Whoever gives the state away must
never seal again: two that count in one session would use a nonce twice (paper section 5.4.6).
"""

from __future__ import annotations

import msgspec

from tulle_wireguard.constants import KEY_BYTES, REPLAY_RING_BITS, REPLAY_WORD_BITS, TIMESTAMP_BYTES
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.keypair import KeyPair
from tulle_wireguard.noise import Keys
from tulle_wireguard.peer import Peer
from tulle_wireguard.replay import ReplayWindow

VERSION = 1

_WORDS = REPLAY_RING_BITS // REPLAY_WORD_BITS


class PairState(msgspec.Struct, array_like=True):
    """A key pair."""

    local: int
    remote: int
    initiator: bool
    created: float
    counter: int
    send: bytes
    receive: bytes
    highest: int
    words: list[int]


class PeerState(msgspec.Struct, array_like=True):
    """A peer: what `Device.add_peer` does not tell."""

    public: bytes
    timestamp: bytes
    place: tuple[bytes, int, bytes] | None
    last_handshake: float | None
    sent_handshake_at: float | None
    received_bytes: int
    sent_bytes: int
    due: list[float | None]
    previous: PairState | None
    current: PairState | None
    next: PairState | None


class DeviceState(msgspec.Struct, array_like=True):
    """All of it."""

    version: int
    public: bytes
    """Whose sessions these are: another key has none of them."""
    last_stamp_ns: int
    peers: list[PeerState]


def encode(state: DeviceState) -> bytes:
    return msgspec.msgpack.encode(state)


def decode(data: bytes) -> DeviceState:
    """Raises ValueError where it is not what `encode` gave, or of another version."""
    try:
        state = msgspec.msgpack.decode(data, type=DeviceState)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no WireGuard sessions: {error}") from error
    if state.version != VERSION:
        raise ValueError(f"WireGuard sessions of version {state.version}, but this is version {VERSION}")
    for peer in state.peers:
        if peer.place is not None and not _is_place(*peer.place):
            raise ValueError("no WireGuard sessions: a peer's place is no UDP address")
        pairs = [pair for pair in (peer.previous, peer.current, peer.next) if pair]
        if any(len(pair.send) != KEY_BYTES or len(pair.receive) != KEY_BYTES for pair in pairs) or any(
            len(pair.words) != _WORDS for pair in pairs
        ):
            raise ValueError("no WireGuard sessions: a key or a window has another size")
        if len(peer.public) != KEY_BYTES or len(peer.timestamp) not in (0, TIMESTAMP_BYTES):
            raise ValueError("no WireGuard sessions: a public key or a timestamp has another size")
    return state


def _is_place(address: bytes, port: int, local: bytes) -> bool:
    return len(address) in (4, 16) and 0 <= port <= 0xFFFF and len(local) in (0, len(address))


def of_peer(peer: Peer) -> PeerState:
    """Its handshake that is under way is left out: the other process starts one anew."""
    where = peer.where.current
    pairs = peer.pairs
    never = peer.sent_handshake_at == float("-inf")
    return PeerState(
        public=peer.public,
        timestamp=peer.timestamp,
        place=(where.address, where.port, where.local) if where else None,
        last_handshake=peer.last_handshake,
        sent_handshake_at=None if never else peer.sent_handshake_at,
        received_bytes=peer.received_bytes,
        sent_bytes=peer.sent_bytes,
        due=peer.timers.export(),
        previous=_of_pair(pairs.previous),
        current=_of_pair(pairs.current),
        next=_of_pair(pairs.next),
    )


def restore(peer: Peer, state: PeerState) -> list[KeyPair]:
    """Into a peer that was just added. Returns its key pairs."""
    peer.timestamp = state.timestamp
    if state.place is not None:
        peer.where.proved(Endpoint(*state.place))
    peer.last_handshake = state.last_handshake
    if state.sent_handshake_at is not None:
        peer.sent_handshake_at = state.sent_handshake_at
    peer.received_bytes, peer.sent_bytes = state.received_bytes, state.sent_bytes
    peer.timers.restore(state.due)
    pairs = peer.pairs
    pairs.previous, pairs.current, pairs.next = map(_pair, (state.previous, state.current, state.next))
    return pairs.all()


def _of_pair(pair: KeyPair | None) -> PairState | None:
    if pair is None:
        return None
    highest, words = pair.replay.export()
    return PairState(
        pair.local,
        pair.remote,
        pair.initiator,
        pair.created,
        pair.counter,
        bytes(pair.send_key),
        bytes(pair.receive_key),
        highest,
        words,
    )


def _pair(state: PairState | None) -> KeyPair | None:
    if state is None:
        return None
    keys = Keys(state.send, state.receive)
    pair = KeyPair(state.local, state.remote, keys, initiator=state.initiator, created=state.created)
    pair.counter = state.counter
    pair.replay = ReplayWindow.restore(state.highest, state.words)
    return pair
