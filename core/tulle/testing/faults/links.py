"""Faults of links and disks in a place of a lab, done with the programs that an administrator would use (ip, tc, nft,
mount). Each is a context manager: the fault lasts as long as the block, what was there before is there afterwards.

    with link_down(lab, "n1"), loss(lab, "n2", 0.3):
        ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from typing import Any

from tulle.testing.faults.places import Places

UPLINK = "eth0"
"""How a lab calls a node's link to the switch, and a pod's to its node; the switch's end for node n1 is "to-n1"."""

TABLE = "tulle-fault"
PER_THOUSAND = 1000

TBF_BURST_BYTES = 16 << 10
"""tc-tbf(8): at least rate / HZ; enough up to 30 Mbit/s at 250 Hz, and one jumbo frame."""
TBF_LATENCY = "50ms"


@contextmanager
def link_down(places: Places, place: str, link: str = UPLINK) -> Iterator[None]:
    """`ip link set down`: its routes and IPv6 addresses go with it. They are put back with the link, as the machine's
    network configuration would do it."""
    addresses, routes = _addresses(places, place, link), _routes(places, place, link)
    _ip(places, place, "link", "set", link, "down")
    try:
        yield
    finally:
        _ip(places, place, "link", "set", link, "up")
        for address in addresses - _addresses(places, place, link):
            _add(places, place, link, address)
        _restore(places, place, routes)


@contextmanager
def address_changed(places: Places, place: str, old: str, new: str, link: str = UPLINK) -> Iterator[None]:
    """Another underlay address: `old` and `new` with their prefix length, "192.0.2.1/24"."""
    _exchange(places, place, link, old, new)
    try:
        yield
    finally:
        _exchange(places, place, link, new, old)


@contextmanager
def mtu_shrunk(places: Places, place: str, mtu: int, link: str = UPLINK) -> Iterator[None]:
    """At a node's own link the sender is told (EMSGSIZE); at the switch's end of it, "to-n1", what is too large for
    that node vanishes on the way, as on a path whose ICMP is filtered."""
    (before,) = _json(places, place, "link", "show", "dev", link)
    _ip(places, place, "link", "set", link, "mtu", str(mtu))
    try:
        yield
    finally:
        _ip(places, place, "link", "set", link, "mtu", str(before["mtu"]))


@contextmanager
def loss(places: Places, place: str, share: float, link: str = UPLINK) -> Iterator[None]:
    """That share (to a thousandth) of the packets that arrive on the link is dropped before anybody sees them, by nft's
    random numbers. 1.0 is a black hole."""
    table = f"{TABLE}-{link}"
    dropped = round(share * PER_THOUSAND)
    rule = "drop" if dropped >= PER_THOUSAND else f"numgen random mod {PER_THOUSAND} < {dropped} drop"
    head = f'type filter hook ingress device "{link}" priority -500'
    ruleset = f"table netdev {table} {{\n chain in {{\n {head};\n {rule}\n }}\n}}\n"
    places.run(place, ["nft", "-f", "-"], input=ruleset)
    try:
        yield
    finally:
        places.run(place, ["nft", "delete", "table", "netdev", table])


@contextmanager
def rate(places: Places, place: str, bits_per_s: int, link: str = UPLINK) -> Iterator[None]:
    """What leaves by the link is held to that rate, by a token bucket; what does not fit into 50 ms is dropped."""
    bucket = ["rate", f"{bits_per_s}bit", "burst", str(TBF_BURST_BYTES), "latency", TBF_LATENCY]
    places.run(place, ["tc", "qdisc", "replace", "dev", link, "root", "tbf", *bucket])
    try:
        yield
    finally:
        places.run(place, ["tc", "qdisc", "del", "dev", link, "root"])


def _exchange(places: Places, place: str, link: str, old: str, new: str) -> None:
    # The routes by the link go with its last address; those of other gateways are put back.
    routes = [route for route in _routes(places, place, link) if "gateway" in route]
    _ip(places, place, "addr", "del", old, "dev", link)
    _add(places, place, link, new)
    _restore(places, place, routes)


def _add(places: Places, place: str, link: str, address: str) -> None:
    nodad = ["nodad"] if ip_interface(address).version == 6 else []  # to be used at once
    _ip(places, place, "addr", "add", address, "dev", link, *nodad)


def _addresses(places: Places, place: str, link: str) -> set[str]:
    """With their prefix lengths, without those that the kernel gives itself."""
    (found,) = _json(places, place, "addr", "show", "dev", link)
    return {f"{one['local']}/{one['prefixlen']}" for one in found["addr_info"] if one["scope"] == "global"}


def _routes(places: Places, place: str, link: str) -> list[dict[str, Any]]:
    """Those that `ip route` would not bring back by itself with the link: not the kernel's own."""
    found = []
    for family in ("-4", "-6"):
        for route in _json(places, place, family, "route", "show", "dev", link):
            if route.get("protocol") not in ("kernel", "ra"):
                found.append({**route, "family": family, "link": link})
    return found


def _restore(places: Places, place: str, routes: list[dict[str, Any]]) -> None:
    for route in routes:
        words = [route["family"], "route", "replace", route["dst"]]
        words += ["via", route["gateway"]] if "gateway" in route else []
        words += ["dev", route["link"]]
        words += ["proto", str(route["protocol"])] if "protocol" in route else []
        words += ["metric", str(route["metric"])] if "metric" in route else []
        words += ["onlink"] if "onlink" in route.get("flags", ()) else []
        _ip(places, place, *words)


def _ip(places: Places, place: str, *words: str) -> str:
    return places.run(place, ["ip", *words]).stdout


def _json(places: Places, place: str, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_ip(places, place, "-json", *words) or "[]")
    return found
