"""The cross-platform configuration protocol of WireGuard, as `wg` speaks it (wireguard.com/xplatform). Pure.

A request is lines of key=value that end with an empty line; the first is `get=1` or `set=1`. The answer to get is lines
of the same kind, then of both `errno=N` and an empty line. Bytes that are wrong become a `Refusal`, never an exception.
A request is taken whole or not at all: its first wrong line refuses all of it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from tulle.net.prefix import Prefix, parse_covering_prefix
from tulle_wireguard.constants import KEY_BYTES
from tulle_wireguard.place import Place, parse_place, shown

MAX_LINE_BYTES = 1024
"""Ours. The longest that `wg` writes is an endpoint's with a scope, under 80 bytes."""
MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Ours: over 100,000 peers with ten prefixes each."""
NO_KEY = bytes(KEY_BYTES)
"""A key of zeros: as private key "none", as pre-shared key "none" (paper section 5.2)."""

_KEY = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


class AllowedIp(msgspec.Struct, frozen=True):
    """One prefix that a peer gets, or that is taken from it."""

    prefix: Prefix
    remove: bool = False


class PeerChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a `public_key` line and those after it ask for. None: leave it as it is."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    """Nothing is to happen where the peer is not there."""
    preshared_key: bytes | None = None
    endpoint: Place | None = None
    keepalive_s: int | None = None
    """0: none."""
    replace_allowed_ips: bool = False
    """What it had goes before `allowed_ips` come."""
    allowed_ips: tuple[AllowedIp, ...] = ()


class Set(msgspec.Struct, frozen=True, kw_only=True):
    """A `set=1` request. None: leave it as it is."""

    private_key: bytes | None = None
    """NO_KEY: take the key away."""
    listen_port: int | None = None
    """0: the kernel chooses."""
    fwmark: int | None = None
    """0: none."""
    replace_peers: bool = False
    """Those that are there go before `peers` come."""
    peers: tuple[PeerChange, ...] = ()
    """In the order of the request: what a later one says of the same peer holds."""


class Get(msgspec.Struct, frozen=True):
    """A `get=1` request."""


class Refusal(msgspec.Struct, frozen=True):
    """The answer is this error."""

    error: int
    """Of errno(3), positive."""
    reason: str
    final: bool = False
    """What follows on this connection has no meaning any more."""


Request = Get | Set | Refusal


# --- answers ----------------------------------------------------------------------------------------------------


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """A peer as `get` shows it."""

    public_key: bytes
    preshared_key: bytes = NO_KEY
    endpoint: Place | None = None
    keepalive_s: int = 0
    allowed_ips: tuple[Prefix, ...] = ()
    last_handshake_ns: int = 0
    """Since 1970; 0: there was none."""
    rx_bytes: int = 0
    tx_bytes: int = 0


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """A device as `get` shows it."""

    private_key: bytes = NO_KEY
    listen_port: int = 0
    fwmark: int = 0
    peers: Sequence[PeerView] = ()


def answer_to_get(device: DeviceView) -> bytes:
    """The whole answer. What is not there has no line, as in other implementations."""
    lines = []
    if device.private_key != NO_KEY:
        lines.append(f"private_key={device.private_key.hex()}")
    if device.listen_port:
        lines.append(f"listen_port={device.listen_port}")
    if device.fwmark:
        lines.append(f"fwmark={device.fwmark}")
    for peer in device.peers:
        lines += _peer_lines(peer)
    return "".join(f"{line}\n" for line in lines).encode() + status()


def _peer_lines(peer: PeerView) -> Iterator[str]:
    yield f"public_key={peer.public_key.hex()}"
    yield f"preshared_key={peer.preshared_key.hex()}"
    yield "protocol_version=1"
    if peer.endpoint is not None:
        yield f"endpoint={peer.endpoint}"
    seconds, nanoseconds = divmod(peer.last_handshake_ns, 10**9)
    yield f"last_handshake_time_sec={seconds}"
    yield f"last_handshake_time_nsec={nanoseconds}"
    yield f"tx_bytes={peer.tx_bytes}"
    yield f"rx_bytes={peer.rx_bytes}"
    yield f"persistent_keepalive_interval={peer.keepalive_s}"
    for prefix in peer.allowed_ips:
        yield f"allowed_ip={prefix}"


def status(error: int = 0) -> bytes:
    """How each answer ends. The number is negative: `wg` takes its absolute value for what to print."""
    return f"errno={-error}\n\n".encode()


# --- requests ---------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A line that refuses its request. It does not leave this module."""

    def __init__(self, reason: str, error: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.error = error


class RequestReader:
    """Takes the bytes of a connection as they come and gives the requests in them."""

    def __init__(self, max_request_bytes: int = MAX_REQUEST_BYTES) -> None:
        self._max = max_request_bytes
        self._partial = b""
        """The beginning of a line."""
        self._size = 0
        self._request: _Get | _Set | None = None
        self._refusal: Refusal | None = None
        """Of the request that is being read: what is left of it has no effect."""
        self._over = False

    def receive(self, data: bytes) -> list[Request]:
        """What became whole with these bytes. After a final refusal nothing more comes."""
        found: list[Request] = []
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            one = None if self._over else self._line(line)
            if one is not None:
                found.append(one)
        if len(self._partial) > MAX_LINE_BYTES and not self._over:
            found.append(self._end(f"a line has more than {MAX_LINE_BYTES} bytes"))
        if self._over:
            self._partial = b""
        return found

    def _line(self, line: bytes) -> Request | None:
        self._size += len(line) + 1
        if len(line) > MAX_LINE_BYTES or self._size > self._max:
            return self._end(f"a line has more than {MAX_LINE_BYTES} bytes or the request over {self._max}")
        if not line:
            return self._whole()
        if self._refusal is None:
            try:
                self._take(line)
            except _Wrong as wrong:
                self._refusal = Refusal(wrong.error, str(wrong))
        return None

    def _end(self, reason: str) -> Refusal:
        self._over = True
        return Refusal(errno.E2BIG, reason, final=True)

    def _whole(self) -> Request:
        found: Request
        if self._refusal is not None:
            found = self._refusal
        elif self._request is None:
            found = Refusal(errno.EINVAL, "a request begins with get=1 or set=1")
        else:
            found = self._request.whole()
        self._request, self._refusal, self._size = None, None, 0
        return found

    def _take(self, line: bytes) -> None:
        text = line.decode("ascii", "backslashreplace")
        key, equals, value = text.partition("=")
        if not equals:
            raise _Wrong(f"{shown(text)} is not of the form key=value", errno.EPROTO)
        if self._request is not None:
            self._request.take(key, value)
        elif text == "get=1":
            self._request = _Get()
        elif text == "set=1":
            self._request = _Set()
        else:
            raise _Wrong(f"{shown(text)}: a request begins with get=1 or set=1")


class _Get:
    """A get that is being read."""

    def take(self, key: str, value: str) -> None:
        raise _Wrong(f"{shown(key)}: nothing follows get=1 but an empty line")

    def whole(self) -> Get:
        return Get()


class _Set:
    """A set that is being read: the device's lines first, then those of each peer."""

    def __init__(self) -> None:
        self._device: dict[str, Any] = {}
        self._peers: list[PeerChange] = []
        self._peer: dict[str, Any] | None = None

    def take(self, key: str, value: str) -> None:
        if key == "public_key":
            self._end_peer()
            self._peer = {"public_key": _key(value), "allowed_ips": []}
        elif self._peer is None:
            name, parse = _known(_DEVICE_KEYS, key, "device")
            self._device[name] = parse(value)
        elif key == "allowed_ip":
            self._peer["allowed_ips"].append(_allowed_ip(value))
        elif key == "protocol_version":
            if value != "1":
                raise _Wrong(f"protocol_version {shown(value)} is not known, 1 is")
        else:
            name, parse = _known(_PEER_KEYS, key, "peer")
            self._peer[name] = parse(value)
            if key == "replace_allowed_ips":
                self._peer["allowed_ips"].clear()  # those of earlier lines go too

    def whole(self) -> Set:
        self._end_peer()
        return Set(**self._device, peers=tuple(self._peers))

    def _end_peer(self) -> None:
        if self._peer is not None:
            allowed = tuple(self._peer.pop("allowed_ips"))
            self._peers.append(PeerChange(**self._peer, allowed_ips=allowed))


# --- values -----------------------------------------------------------------------------------------------------


def _place(value: str) -> Place:
    try:
        return parse_place(value)
    except ValueError as error:
        raise _Wrong(f"endpoint {error}") from None


def _key(value: str) -> bytes:
    if not _KEY.fullmatch(value):  # what it is instead may be somebody's secret
        raise _Wrong(
            f"a key is {2 * KEY_BYTES} hexadecimal digits, this one is not ({len(value)} characters)"
        )
    return bytes.fromhex(value)


def _number(bits: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not _NUMBER.fullmatch(value) or int(value) >= 2**bits:
            raise _Wrong(f"{shown(value)} is not a number from 0 to {2**bits - 1}")
        return int(value)

    return parse


def _true(value: str) -> bool:
    if value != "true":
        raise _Wrong(f"{shown(value)}: only true can be said here")
    return True


def _allowed_ip(value: str) -> AllowedIp:
    """ "-" in front takes it away (wg of 2025)."""
    remove = value.startswith("-")
    try:
        return AllowedIp(parse_covering_prefix(value[1:] if remove else value), remove)
    except ValueError as error:
        raise _Wrong(f"allowed_ip {error}") from None


_Parse = Callable[[str], Any]
_DEVICE_KEYS: dict[str, tuple[str, _Parse]] = {
    "private_key": ("private_key", _key),
    "listen_port": ("listen_port", _number(16)),
    "fwmark": ("fwmark", _number(32)),
    "replace_peers": ("replace_peers", _true),
}
_PEER_KEYS: dict[str, tuple[str, _Parse]] = {
    "remove": ("remove", _true),
    "update_only": ("update_only", _true),
    "preshared_key": ("preshared_key", _key),
    "endpoint": ("endpoint", _place),
    "persistent_keepalive_interval": ("keepalive_s", _number(16)),
    "replace_allowed_ips": ("replace_allowed_ips", _true),
}


def _known(keys: dict[str, tuple[str, _Parse]], key: str, owner: str) -> tuple[str, _Parse]:
    found = keys.get(key)
    if found is None:
        raise _Wrong(f"{shown(key)} is no key of a {owner}; these are: {', '.join(keys)}")
    return found


__all__ = [
    "NO_KEY",
    "AllowedIp",
    "DeviceView",
    "Get",
    "PeerChange",
    "PeerView",
    "Refusal",
    "Request",
    "RequestReader",
    "Set",
    "answer_to_get",
    "status",
]
