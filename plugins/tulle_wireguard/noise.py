"""The handshake pattern IKpsk2 of the Noise specification (revision 34, sections 5, 7.5, 9). Nothing of WireGuard.

    <- s
    ...
    -> e, es, s, ss
    <- e, ee, se, psk

Each function is one line of the pattern, on one side. What comes from the network gives None where it does not fit, and
then leaves the state as it was: a forged second message spoils no handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tulle.net.packet import Buffer
from tulle_wireguard.constants import CONSTRUCTION
from tulle_wireguard.crypto import dh, hash_of, kdf, public_key, seal, unseal

_START = hash_of(CONSTRUCTION)  # the name has more than 32 bytes, so it is hashed: section 5.2

StaticStatic = Callable[[bytes], bytes | None]
"""From the other side's static public key to the DH of the two static keys; None: nobody we know. Made once for each
peer, since it never changes."""


class Symmetric:
    """Chaining key and hash (section 5.2). Copied before anything unproven goes in."""

    __slots__ = ("chain", "transcript")

    def __init__(self, chain: bytes, transcript: bytes) -> None:
        self.chain = chain
        self.transcript = transcript

    def copy(self) -> Symmetric:
        return Symmetric(self.chain, self.transcript)

    def mix_hash(self, data: Buffer) -> None:
        self.transcript = hash_of(self.transcript, data)

    def mix_key(self, material: Buffer) -> bytes:
        """The key for what is sealed next."""
        self.chain, key = kdf(2, self.chain, material)
        return key

    def mix_psk(self, psk: Buffer) -> bytes:
        """MixKeyAndHash (section 9.2)."""
        self.chain, material, key = kdf(3, self.chain, psk)
        self.mix_hash(material)
        return key

    def mix_ephemeral(self, public: bytes) -> None:
        """The token e: hashed, and where there is a psk also mixed into the chain (section 9.2)."""
        self.mix_hash(public)
        self.mix_key(public)

    def seal(self, key: bytes, plain: Buffer) -> bytes:
        sealed = seal(key, plain, self.transcript)
        self.mix_hash(sealed)
        return sealed

    def unseal(self, key: bytes, sealed: bytes) -> bytes | None:
        plain = unseal(key, sealed, self.transcript)
        self.mix_hash(sealed)
        return plain


class Keys(NamedTuple):
    """Of a session, as this side uses them (section 5.2, Split)."""

    send: bytes
    receive: bytes


class Started(NamedTuple):
    """The initiator between the two messages."""

    symmetric: Symmetric
    private: bytearray
    """Its static key."""
    ephemeral: bytearray


class Asked(NamedTuple):
    """The responder between the two messages."""

    symmetric: Symmetric
    static: bytes
    """The initiator's public keys."""
    ephemeral: bytes


def _beginning(prologue: Buffer, responder: Buffer) -> Symmetric:
    symmetric = Symmetric(_START, _START)
    symmetric.mix_hash(prologue)
    symmetric.mix_hash(responder)
    return symmetric


def start(
    private: bytearray,
    responder: bytes,
    static_static: bytes,
    ephemeral: bytearray,
    payload: Buffer,
    prologue: Buffer,
) -> tuple[Started, tuple[bytes, bytes, bytes]] | None:
    """-> e, es, s, ss. Returns the state, and (ephemeral, static, payload) as they go over the wire; None where the
    responder's key is one with which there is no secret."""
    symmetric = _beginning(prologue, responder)
    public = public_key(ephemeral)
    symmetric.mix_ephemeral(public)
    shared = dh(ephemeral, responder)
    if shared is None:
        return None
    static = symmetric.seal(symmetric.mix_key(shared), public_key(private))
    sealed = symmetric.seal(symmetric.mix_key(static_static), payload)
    return Started(symmetric, private, ephemeral), (public, static, sealed)


def read_start(
    private: bytearray,
    public: bytes,
    static_static: StaticStatic,
    message: tuple[bytes, bytes, bytes],
    prologue: Buffer,
) -> tuple[Asked, bytes] | None:
    """The responder reads (ephemeral, static, payload). Returns the state and the payload."""
    ephemeral, static_sealed, payload_sealed = message
    symmetric = _beginning(prologue, public)
    symmetric.mix_ephemeral(ephemeral)
    shared = dh(private, ephemeral)
    if shared is None:
        return None
    static = symmetric.unseal(symmetric.mix_key(shared), static_sealed)
    if static is None:
        return None
    both = static_static(static)
    if both is None:
        return None
    payload = symmetric.unseal(symmetric.mix_key(both), payload_sealed)
    return None if payload is None else (Asked(symmetric, static, ephemeral), payload)


def answer(
    asked: Asked, ephemeral: bytearray, psk: Buffer, payload: Buffer = b""
) -> tuple[tuple[bytes, bytes], Keys] | None:
    """<- e, ee, se, psk. Returns (ephemeral, payload) as they go over the wire, and the session's keys."""
    symmetric = asked.symmetric.copy()
    public = public_key(ephemeral)
    symmetric.mix_ephemeral(public)
    for theirs in (asked.ephemeral, asked.static):
        shared = dh(ephemeral, theirs)
        if shared is None:
            return None
        symmetric.mix_key(shared)
    sealed = symmetric.seal(symmetric.mix_psk(psk), payload)
    receive, send = kdf(2, symmetric.chain, b"")
    return (public, sealed), Keys(send, receive)


def read_answer(started: Started, psk: Buffer, message: tuple[bytes, bytes]) -> tuple[bytes, Keys] | None:
    """The initiator reads (ephemeral, payload). Returns the payload and the session's keys."""
    ephemeral, sealed = message
    symmetric = started.symmetric.copy()
    symmetric.mix_ephemeral(ephemeral)
    for ours in (started.ephemeral, started.private):
        shared = dh(ours, ephemeral)
        if shared is None:
            return None
        symmetric.mix_key(shared)
    payload = symmetric.unseal(symmetric.mix_psk(psk), sealed)
    if payload is None:
        return None
    send, receive = kdf(2, symmetric.chain, b"")
    return payload, Keys(send, receive)
