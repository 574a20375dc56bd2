"""The four messages on the wire, byte for byte: paper section 5.4.

Little endian; the three bytes after the type are zero. A message is recognised by type and exact length; everything
else is None, whatever it holds. Whether what is in a message is true, others say: noise.py and cookies.py.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from tulle.net.packet import Buffer
from tulle_wireguard.constants import MAC_BYTES, TAG_BYTES

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4

_INITIATION = Struct("<II32s48s28s16s16s")
_RESPONSE = Struct("<III32s16s16s16s")
_COOKIE_REPLY = Struct("<II24s32s")
TRANSPORT_HEADER = Struct("<IIQ")
"""Type, receiver's index, counter. Then the sealed packet."""

INITIATION_BYTES = _INITIATION.size
RESPONSE_BYTES = _RESPONSE.size
COOKIE_REPLY_BYTES = _COOKIE_REPLY.size
TRANSPORT_HEADER_BYTES = TRANSPORT_HEADER.size
TRANSPORT_MIN_BYTES = TRANSPORT_HEADER_BYTES + TAG_BYTES
"""A keepalive: nothing inside."""

MACS_BYTES = 2 * MAC_BYTES
"""mac1 and mac2, the end of messages 1 and 2."""

TRANSPORT_START = TRANSPORT.to_bytes(4, "little")

_LENGTHS = {INITIATION: INITIATION_BYTES, RESPONSE: RESPONSE_BYTES, COOKIE_REPLY: COOKIE_REPLY_BYTES}


class Initiation(NamedTuple):
    """Section 5.4.2. Message 1."""

    sender: int
    ephemeral: bytes
    static: bytes
    """32 bytes and a tag."""
    timestamp: bytes
    """12 bytes and a tag."""
    mac1: bytes = bytes(MAC_BYTES)
    mac2: bytes = bytes(MAC_BYTES)

    def encode(self) -> bytes:
        return _INITIATION.pack(INITIATION, *self)


class Response(NamedTuple):
    """Section 5.4.3. Message 2."""

    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes
    """A tag over nothing."""
    mac1: bytes = bytes(MAC_BYTES)
    mac2: bytes = bytes(MAC_BYTES)

    def encode(self) -> bytes:
        return _RESPONSE.pack(RESPONSE, *self)


class CookieReply(NamedTuple):
    """Section 5.4.7. Message 3."""

    receiver: int
    nonce: bytes
    cookie: bytes
    """16 bytes and a tag."""

    def encode(self) -> bytes:
        return _COOKIE_REPLY.pack(COOKIE_REPLY, *self)


class Transport(NamedTuple):
    """Section 5.4.6. Message 4. The data path reads its fields in place (device.py, keypair.py)."""

    receiver: int
    counter: int
    sealed: bytes

    def encode(self) -> bytes:
        return TRANSPORT_HEADER.pack(TRANSPORT, self.receiver, self.counter) + self.sealed


Handshake = Initiation | Response | CookieReply


def kind(datagram: Buffer) -> int | None:
    """Which of the four this is, by type and length; None for anything else."""
    size = len(datagram)
    if size < 4:
        return None
    number = int.from_bytes(datagram[:4], "little")
    if number == TRANSPORT:
        return TRANSPORT if size >= TRANSPORT_MIN_BYTES else None
    return number if _LENGTHS.get(number) == size else None


def decode(datagram: Buffer) -> Handshake | Transport | None:
    """The message; None where it is none of the four."""
    match kind(datagram):
        case 1:
            return Initiation(*_INITIATION.unpack(datagram)[1:])
        case 2:
            return Response(*_RESPONSE.unpack(datagram)[1:])
        case 3:
            return CookieReply(*_COOKIE_REPLY.unpack(datagram)[1:])
        case 4:
            _, receiver, counter = TRANSPORT_HEADER.unpack_from(datagram)
            return Transport(receiver, counter, bytes(datagram[TRANSPORT_HEADER_BYTES:]))
    return None
