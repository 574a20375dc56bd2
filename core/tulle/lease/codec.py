"""The bytes of leases, member and alive records.

A lease's value is flannel's: {"PublicIP":..,"PublicIPv6":..,"BackendType":..,"BackendData":..,"BackendV6Data":..} in
this order, the two addresses always there (null), the other three only where they say something. As Go's decoder
does, names are read in any case and of two the last one counts. What others wrote is data: it gives a record or an
`Undecodable`, never an exception.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import Any

import msgspec

from tulle.contracts.store import KeyValue
from tulle.lease.model import Alive, Lease, Member
from tulle.net.prefix import Address, Family, parse_subnet_key
from tulle.store.items import Undecodable

_LEASE_FIELDS = ("PublicIP", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data")
_MEMBER_FIELDS = ("ID", "BootID", "Subnets", "Endpoints")
_ALIVE_FIELDS = ("ID", "BootID")
_PUBLIC: tuple[tuple[str, Family], ...] = (("PublicIP", 4), ("PublicIPv6", 6))
_SHOWN = 60
"""Characters of a foreign value in a message."""


class _Bad(ValueError):
    """Ends a decoding; the text is the reason."""


def short_key(key: str) -> str:
    """The part behind the last slash: "10.5.52.0-24", a node's name."""
    return key.rpartition("/")[2]


def encode_lease(lease: Lease) -> bytes:
    """What flannel would write."""
    value: dict[str, Any] = {
        name: str(lease.public[family]) if family in lease.public else None for name, family in _PUBLIC
    }
    if lease.backend:
        value["BackendType"] = lease.backend
    for name, data in (("BackendData", lease.data), ("BackendV6Data", lease.data_v6)):
        if data is not None and data != {}:
            value[name] = data
    return msgspec.json.encode(value | lease.extra)


def decode_lease(kv: KeyValue) -> Lease | Undecodable:
    """A key under `subnets/` with its value."""
    key = short_key(kv.key)
    prefixes = parse_subnet_key(key)
    if prefixes is None:
        return Undecodable(f"its key {key[:_SHOWN]!r} is no subnet such as 10.5.52.0-24")
    try:
        fields, extra = _fields(kv.value, _LEASE_FIELDS)
        public = {
            family: address
            for name, family in _PUBLIC
            if (address := _public(name, family, fields.get(name))) is not None
        }
        backend = _text(fields, "BackendType")
    except _Bad as bad:
        return Undecodable(str(bad))
    data, data_v6 = fields.get("BackendData"), fields.get("BackendV6Data")
    return Lease(key, prefixes, public, backend, data, data_v6, kv.lease, kv.modified, extra)


def encode_member(member: Member) -> bytes:
    value = {
        "ID": member.id,
        "BootID": member.boot_id,
        "Subnets": member.subnets,
        "Endpoints": [str(address) for address in member.endpoints],
    }
    return msgspec.json.encode(value | member.extra)


def decode_member(kv: KeyValue) -> Member | Undecodable:
    """A key under `members/` with its value."""
    try:
        fields, extra = _fields(kv.value, _MEMBER_FIELDS)
        return Member(
            short_key(kv.key),
            _text(fields, "ID"),
            _text(fields, "BootID"),
            tuple(dict.fromkeys(_texts(fields, "Subnets"))),  # named twice, it is still one
            tuple(_address("Endpoints", text) for text in _texts(fields, "Endpoints")),
            extra,
        )
    except _Bad as bad:
        return Undecodable(str(bad))


def encode_alive(alive: Alive) -> bytes:
    return msgspec.json.encode({"ID": alive.id, "BootID": alive.boot_id})


def decode_alive(value: bytes) -> Alive | Undecodable:
    try:
        fields, _ = _fields(value, _ALIVE_FIELDS)
        return Alive(_text(fields, "ID"), _text(fields, "BootID"))
    except _Bad as bad:
        return Undecodable(str(bad))


def _fields(value: bytes, known: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The known fields by their proper names, and the others as they are."""
    try:
        decoded = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"its value is not JSON ({error})") from None
    if not isinstance(decoded, dict):
        raise _Bad(f"its value is not a JSON object but {_shown(decoded)}")
    proper = {name.lower(): name for name in known}
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, content in decoded.items():
        if (meant := proper.get(name.lower())) is not None:
            fields[meant] = content
        else:
            extra[name] = content
    return fields, extra


def _public(name: str, family: Family, content: object) -> Address | None:
    """null, "" and the unspecified address (Go's zero value) mean that there is none."""
    if content is None or content == "":
        return None
    address = _address(name, content)
    if address.version != family:
        raise _Bad(f"{name} is {address}, which is not an IPv{family} address")
    return None if address.is_unspecified else address


def _address(name: str, content: object) -> Address:
    try:
        if isinstance(content, str):
            address = ip_address(content)
            if not (isinstance(address, IPv6Address) and address.scope_id):
                return address
    except ValueError:
        pass
    raise _Bad(f"{name} holds {_shown(content)}, which is no address")


def _text(fields: dict[str, Any], name: str) -> str:
    content = fields.get(name)
    if content is None:
        return ""
    if not isinstance(content, str):
        raise _Bad(f"{name} is {_shown(content)}, which is not text")
    return content


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    content = fields.get(name)
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise _Bad(f"{name} is {_shown(content)}, which is not a list of texts")
    return content


def _shown(content: object) -> str:
    text = repr(content)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
