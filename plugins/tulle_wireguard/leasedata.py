"""What a lease says of a WireGuard node, in flannel's fields, {"PublicKey", "Port"}, and in one of ours while a key is
being replaced: "FormerPublicKey" is still taken, so that those who have sessions with it need not drop them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tulle.contracts.backend import JsonObject
from tulle_wireguard.keytext import key_bytes, key_text
from tulle_wireguard.options import LARGEST_PORT

TYPE = "wireguard"


class LeaseData(NamedTuple):
    """Of a peer."""

    public: str
    """Its public key, in base64."""
    port: int
    former: str = ""
    """The one that it had before, while that is still taken."""


class Unreadable(ValueError):
    """The text says what is wrong with a lease's data, to be read after the field's name."""


def lease_data(public: bytes, port: int, former: bytes = b"") -> dict[str, Any]:
    """What ours says."""
    data: dict[str, Any] = {"PublicKey": key_text(public), "Port": port}
    if former:
        data["FormerPublicKey"] = key_text(former)
    return data


def parse_lease_data(data: JsonObject, local_port: int) -> LeaseData:
    """What a peer's says. A port that is missing or 0 is the one that we listen on (flannel's rule). Raises
    Unreadable."""
    public = data.get("PublicKey")
    if public is None:
        raise Unreadable("has no PublicKey")
    try:
        key = key_bytes(public)
    except ValueError as error:
        raise Unreadable(f"has a PublicKey that is none: {error}") from None
    if not any(key):
        raise Unreadable("has a PublicKey of zeros, which is none")
    return LeaseData(key_text(key), _port(data, local_port), _former(data))


def _former(data: JsonObject) -> str:
    """What makes no sense is as good as nothing: it only spares a handshake."""
    try:
        key = key_bytes(data.get("FormerPublicKey"))
    except ValueError:
        return ""
    return key_text(key) if any(key) and data.get("FormerPublicKey") != data.get("PublicKey") else ""


def _port(data: Mapping[str, Any], local_port: int) -> int:
    port = data.get("Port")
    if port is None or (port == 0 and not isinstance(port, bool)):
        return local_port
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= LARGEST_PORT:
        raise Unreadable(f"has a Port that is none: {str(port)[:20]}")
    return port
