"""Stock peers: other people's WireGuard (a laptop, a router, a kernel node) that has no lease. Pure.

Each is a record in the store, `<prefix>/wireguard/peers/<name>`, which every node follows:

    {"PublicKey": "...", "AllowedIPs": ["10.99.0.7/32"], "Endpoint": "192.0.2.77:51820", "PresharedKey": "...",
     "PersistentKeepalive": 25, "Via": ["n1"]}

Without Via each node has it as a peer of its own, and it speaks to each node directly. With Via only those nodes have
it, the others send its packets to the first of them that is there, and that one sends them on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import msgspec

from tulle.contracts.backend import DataPeer, Endpoint, Peer, Problem
from tulle.net.prefix import Address, Prefix
from tulle_wireguard.keytext import key_bytes
from tulle_wireguard.options import LARGEST_KEEPALIVE_S
from tulle_wireguard.peers import settings
from tulle_wireguard.place import Place, parse_place
from tulle_wireguard.tunnels import Tunnel

FOLDER = "wireguard/peers"
LONGEST_NAME = 63
MOST_ALLOWED = 256


class StockPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A record that makes sense."""

    name: str
    public: str
    allowed: tuple[Prefix, ...]
    endpoint: Place | None = None
    psk: str = ""
    keepalive_s: int = 0
    via: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Among the data plane's peers."""
        return f"{FOLDER}/{self.name}"

    def __repr__(self) -> str:
        return f"StockPeer({self.name!r}, {self.public})"


class _Record(msgspec.Struct, rename="pascal"):
    public_key: str
    allowed_ips: list[str] = msgspec.field(name="AllowedIPs")
    endpoint: str = ""
    preshared_key: str = ""
    persistent_keepalive: int = 0
    via: list[str] = []


def is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and "/" not in text and text.isprintable() and " " not in text


def encode(peer: StockPeer) -> bytes:
    record: dict[str, Any] = {"PublicKey": peer.public, "AllowedIPs": [str(one) for one in peer.allowed]}
    if peer.endpoint is not None:
        record["Endpoint"] = str(peer.endpoint)
    if peer.psk:
        record["PresharedKey"] = peer.psk
    if peer.keepalive_s:
        record["PersistentKeepalive"] = peer.keepalive_s
    if peer.via:
        record["Via"] = list(peer.via)
    return msgspec.json.encode(record)


def decode(name: str, value: bytes) -> StockPeer:
    """Raises ValueError with what is wrong; it holds no secret."""
    if not is_name(name):
        raise ValueError(f"{name[:LONGEST_NAME]!r} cannot be a peer's name: give one such as laptop-7")
    try:
        record = msgspec.json.decode(value, type=_Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(
            'it is not JSON of the form {"PublicKey": "...", "AllowedIPs": ["10.99.0.7/32"]}'
        ) from None
    return made(
        name,
        record.public_key,
        record.allowed_ips,
        endpoint=record.endpoint,
        psk=record.preshared_key,
        keepalive_s=record.persistent_keepalive,
        via=record.via,
    )


def made(
    name: str,
    public: str,
    allowed: Sequence[str],
    *,
    endpoint: str = "",
    psk: str = "",
    keepalive_s: int = 0,
    via: Sequence[str] = (),
) -> StockPeer:
    """From text. Raises ValueError that names what is wrong and what would be right."""
    for what, text in (("PublicKey", public), *([("PresharedKey", psk)] if psk else [])):
        try:
            key = key_bytes(text)
        except ValueError as error:
            raise ValueError(f"{what}: {error}; give what `wg pubkey` or `wg genpsk` writes") from None
        if not any(key):
            raise ValueError(f"{what}: it is all zeros; give what `wg pubkey` or `wg genpsk` writes")
    if not 0 <= keepalive_s <= LARGEST_KEEPALIVE_S:
        raise ValueError(f"PersistentKeepalive: {keepalive_s}; give 1 to {LARGEST_KEEPALIVE_S} seconds, or 0")
    if not 0 < len(allowed) <= MOST_ALLOWED:
        raise ValueError(
            f"AllowedIPs: {len(allowed)} of them; give 1 to {MOST_ALLOWED}, such as 10.99.0.7/32"
        )
    return StockPeer(
        name=name,
        public=public,
        allowed=tuple(dict.fromkeys(_allowed(text) for text in allowed)),
        endpoint=_place(endpoint) if endpoint else None,
        psk=psk,
        keepalive_s=keepalive_s,
        via=tuple(via),
    )


def _allowed(text: str) -> Prefix:
    try:
        found: Prefix = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"AllowedIPs: {text[:50]!r} is no network; give one such as 10.99.0.7/32") from None
    if not found.prefixlen:
        raise ValueError(
            f"AllowedIPs: {found} is everything, also what carries the tunnel; give the networks behind that peer"
        )
    return found


def _place(text: str) -> Place:
    """A name would have to be asked for, again and again: refused."""
    try:
        return parse_place(text)
    except ValueError as error:
        raise ValueError(
            f"Endpoint: {error}; give one such as 192.0.2.1:51820 or [2001:db8::1]:51820"
        ) from None


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """What the records mean for one node."""

    here: tuple[StockPeer, ...] = ()
    """They are peers of this node, with what of their AllowedIPs can be had."""
    behind: Mapping[str, tuple[Prefix, ...]] = {}
    """What lies behind other nodes, by lease key."""
    nowhere: tuple[Prefix, ...] = ()
    """What lies behind nodes that are not there now: it must not leave in clear meanwhile."""
    forwards: bool = False
    """One of `here` is not a peer of all nodes: this one passes its packets on."""
    problems: tuple[Problem, ...] = ()

    def prefixes(self) -> Iterable[Prefix]:
        for one in self.here:
            yield from one.allowed
        for some in (*self.behind.values(), self.nowhere):
            yield from some


def attach(
    records: Mapping[str, bytes],
    *,
    node: str,
    peers: Sequence[Peer],
    own: Sequence[Prefix],
    own_keys: Collection[str],
    underlay: Collection[Address],
) -> Attached:
    """`records` by name; `own`: our subnets, `own_keys`: our public keys, `underlay`: our addresses there."""
    here: list[StockPeer] = []
    behind: dict[str, list[Prefix]] = {}
    problems: list[Problem] = []
    taken = _Taken(own, peers, underlay)
    holders = dict.fromkeys(own_keys, "this node")
    nowhere: list[Prefix] = []
    by_node = {peer.node: peer.key for peer in reversed(peers)}
    forwards = False
    for name in sorted(records):
        try:
            found = decode(name, records[name])
            if found.public in holders:
                raise ValueError(f"it has the key of {holders[found.public]}; each needs its own")
        except ValueError as error:
            advice = "mend it with tulle wireguard add-peer, or remove it with tulle wireguard remove-peer"
            problems.append(Problem("stock-peer-unreadable", name, f"{error}; {advice}"))
            continue
        holders[found.public] = name
        allowed, refused = taken.take(found)
        problems += [Problem("stock-peer-overlaps", name, one) for one in refused]
        if not found.via or node in found.via:
            here.append(msgspec.structs.replace(found, allowed=allowed))
            forwards = forwards or bool(found.via)
            continue
        first = next((by_node[one] for one in found.via if one in by_node), None)
        if first is not None:
            behind.setdefault(first, []).extend(allowed)
        else:
            nowhere += allowed
            message = (
                f"it is attached to {', '.join(found.via)}, and no such node has a lease: start one, or attach it "
                "elsewhere (tulle wireguard add-peer --via)"
            )
            problems.append(Problem("stock-peer-nowhere", name, message))
    return Attached(
        here=tuple(here),
        behind={key: tuple(some) for key, some in behind.items()},
        nowhere=tuple(nowhere),
        forwards=forwards,
        problems=tuple(problems),
    )


def clash(peer: StockPeer, records: Mapping[str, bytes]) -> str:
    """What another of the records (by name) has already, for people; "" where there is nothing. `attach` gives it to
    the first by name, which a newcomer may be; who was there first keeps it by this."""
    for name, value in sorted(records.items()):
        if name == peer.name:
            continue
        try:
            other = decode(name, value)
        except ValueError:
            continue  # nodes leave it out
        advice = f"give this one its own, or remove {name} first (tulle wireguard remove-peer {name})"
        if other.public == peer.public:
            return f"PublicKey: it has the key of {name}; {advice}"
        both = [str(one) for one in peer.allowed if one in other.allowed]
        if both:
            return f"AllowedIPs: {', '.join(both)} belongs to the peer {name}; {advice}"
    return ""


class _Taken:
    """Who has which network: a stock peer gets what no node has, and of two stock peers the first by name. Looked up by
    numbers, since there may be thousands of nodes."""

    def __init__(self, own: Sequence[Prefix], peers: Sequence[Peer], underlay: Collection[Address]) -> None:
        nodes = [(prefix, "this node") for prefix in own]
        nodes += [(prefix, peer.node) for peer in peers for prefix in peer.prefixes]
        self._nodes = sorted((*_span(prefix), node, str(prefix)) for prefix, node in nodes)
        places = [*underlay, *(one for peer in peers for one in peer.endpoints)]
        self._places = sorted((one.version, int(one), str(one)) for one in places)
        self._stock: dict[Prefix, str] = {}

    def take(self, peer: StockPeer) -> tuple[tuple[Prefix, ...], list[str]]:
        """What it gets, and what it does not, with the reason."""
        got, refused = [], []
        for prefix in peer.allowed:
            wrong = self._wrong(prefix, peer)
            if wrong:
                refused.append(
                    f"its allowed IP {prefix} {wrong}; give it another with tulle wireguard add-peer"
                )
            else:
                self._stock[prefix] = peer.name
                got.append(prefix)
        return tuple(got), refused

    def _wrong(self, prefix: Prefix, peer: StockPeer) -> str:
        if prefix in self._stock:
            return f"belongs to the peer {self._stock[prefix]}"
        version, first, last = _span(prefix)
        before = (
            bisect_right(self._nodes, (version, last, _AFTER_ALL)) - 1
        )  # subnets do not overlap each other
        if before >= 0 and self._nodes[before][0] == version and self._nodes[before][2] >= first:
            return f"overlaps the subnet {self._nodes[before][4]} of {self._nodes[before][3]}"
        place = bisect_left(self._places, (version, first, ""))
        inside = self._places[place : place + 1]
        if inside and inside[0][:2] <= (version, last):
            return f"holds {inside[0][2]}, which carries the tunnel itself"
        if peer.endpoint is not None and peer.endpoint.address in prefix:
            return f"holds {peer.endpoint.address}, which carries the tunnel itself"
        return ""


_AFTER_ALL = 1 << 128


def _span(prefix: Prefix) -> tuple[int, int, int]:
    """Family, first and last address as numbers."""
    first = int(prefix.network_address)
    return prefix.version, first, first | int(prefix.hostmask)


def stock_data_peer(peer: StockPeer, tunnel: Tunnel) -> DataPeer | None:
    """None: nothing of it travels by this tunnel."""
    prefixes = tuple(str(one) for one in peer.allowed if one.version in tunnel.inner)
    if not prefixes:
        return None
    place = peer.endpoint
    endpoints: tuple[Endpoint, ...] = ()
    if place is not None and place.address.version in tunnel.outer:
        endpoints = (Endpoint(str(place.address), place.port),)
    return DataPeer(peer.key, prefixes, endpoints, settings(peer.public, peer.psk, peer.keepalive_s))
