"""What a peer's lease means for the kernel: a route to its pods by way of its device, the MAC of that, and where frames
for the MAC go. Pure.

    pod's packet -> route: 10.42.2.0/24 via 10.42.2.0 onlink -> neighbour: 10.42.2.0 is 5e:..:02 -> FDB: 5e:..:02 is at
    192.0.2.2 -> UDP
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_interface

import msgspec

from tulle.contracts.backend import Family, JsonObject, Peer, Problem, Underlay
from tulle.contracts.kernel import WantedAddress, WantedFdb, WantedNeighbour, WantedRoute
from tulle.direct import direct_route
from tulle.net.prefix import Address, Prefix

TYPE = "vxlan"
NAME_LENGTH = 15
"""IFNAMSIZ without its ending zero byte (linux/if.h)."""
PREFIXES: Mapping[Family, str] = {4: "flannel.", 6: "flannel-v6."}

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
GROUP_BIT, LOCAL_BIT = 0x01, 0x02
"""Of a MAC's first byte: for many receivers; administered locally (IEEE 802)."""


def device_name(vni: int, family: Family) -> str:
    """flannel's, so that each can take over from the other. Raises ValueError where it would be too long."""
    name = f"{PREFIXES[family]}{vni}"
    if len(name) > NAME_LENGTH:
        limit = 10 ** (NAME_LENGTH - len(PREFIXES[family])) - 1
        raise ValueError(
            f"VNI {vni}: the device would be called {name}, and Linux takes {NAME_LENGTH} characters; with IPv6 give "
            f"a VNI of 1 to {limit} (tulle config set)"
        )
    return name


def derived_mac(node: str, vni: int, family: Family) -> str:
    """The same for a node's name each time, so that a device that is made again is known to the others."""
    digest = hashlib.sha256(f"tulle {TYPE} {vni} {family} {node}".encode()).digest()
    first = (digest[0] & ~GROUP_BIT) | LOCAL_BIT
    return bytes((first, *digest[1:6])).hex(":")


def told_mac(data: JsonObject) -> str | None:
    """The MAC in a lease's data, lower case; None where there is none that one device could have."""
    text = data.get("VtepMAC")
    if not isinstance(text, str) or not _MAC.fullmatch(text.lower()):
        return None
    mac = text.lower()
    return None if int(mac[:2], 16) & GROUP_BIT or mac == "00:00:00:00:00:00" else mac


def own_address(prefix: Prefix, device: str) -> WantedAddress:
    """The subnet's first address, alone: what the others' routes go by, and the source of this node's own packets."""
    return WantedAddress(device, ip_interface((prefix.network_address, prefix.max_prefixlen)))


class Vtep(msgspec.Struct, frozen=True):
    """Where the pods of one of a peer's subnets are."""

    prefix: Prefix
    mac: str
    outer: Address


def vteps(peer: Peer, families: Collection[Family], vni: int) -> tuple[tuple[Vtep, ...], tuple[Problem, ...]]:
    """One for each of its subnets of these families. What it cannot be reached by is a problem, one at most."""
    if peer.backend != TYPE:
        message = f"its lease says backend {peer.backend or 'udp'}, this node runs {TYPE}: give both the same config"
        return (), (Problem("peer-backend-differs", peer.node, message),)
    found, problems = [], []
    for prefix in peer.prefixes:
        if prefix.version not in families:
            continue
        outer = next((one for one in peer.endpoints if one.version == prefix.version), None)
        data = peer.data if prefix.version == 4 else peer.data_v6
        mac = told_mac(data)
        if outer is None:
            problems.append(_no_endpoint(peer, prefix))
        elif mac is None:
            problems.append(_no_mac(peer, prefix))
        elif data.get("VNI", vni) != vni:
            problems.append(_other_vni(peer, data.get("VNI"), vni))
        else:
            found.append(Vtep(prefix, mac, outer))
    return tuple(found), tuple(problems[:1])


class Reach(msgspec.Struct, frozen=True):
    """How the kernel reaches one peer."""

    routes: tuple[WantedRoute, ...] = ()
    neighbours: tuple[WantedNeighbour, ...] = ()
    fdb: tuple[WantedFdb, ...] = ()
    problems: tuple[Problem, ...] = ()
    macs: frozenset[str] = frozenset()
    """Of the FDB entries."""
    direct: bool = False
    """One of the routes is a plain one."""


def reach(peer: Peer, devices: Mapping[Family, str], vni: int, underlay: Underlay | None = None) -> Reach:
    """By each of our devices that it has a subnet for. `underlay`: plain routes where they lead there; neighbour and
    FDB entry stay, so that the tunnel is one route away."""
    found, problems = vteps(peer, devices, vni)
    routes, neighbours, fdb = [], [], []
    direct = False
    for one in found:
        device, near = devices[one.prefix.version], one.prefix.network_address
        plain = direct_route(peer, one.prefix, underlay) if underlay is not None else None
        direct = direct or plain is not None
        routes.append(plain or WantedRoute(one.prefix, device, "unicast", 0, gateway=near, onlink=True))
        neighbours.append(WantedNeighbour(device, near, one.mac))
        fdb.append(WantedFdb(device, one.mac, one.outer))
    macs = frozenset(one.mac for one in fdb)
    return Reach(tuple(routes), tuple(neighbours), tuple(fdb), problems, macs, direct)


class SharedMacs:
    """Notices that a MAC is that of two nodes, as peers come and go."""

    def __init__(self, own: Iterable[str]) -> None:
        self._holders = dict.fromkeys(own, 1)
        self._shared = 0
        """MACs with more than one holder."""

    def change(self, gone: Iterable[Reach], come: Iterable[Reach]) -> bool:
        """Whether there is such a MAC now."""
        for step, reaches in ((-1, gone), (1, come)):
            for mac in (mac for found in reaches for mac in found.macs):
                before = self._holders.pop(mac, 0)
                if before + step:
                    self._holders[mac] = before + step
                self._shared += (before + step > 1) - (before > 1)
        return self._shared > 0


def without_shared_macs(
    reaches: Iterable[tuple[Peer, Reach]], own: Iterable[str]
) -> tuple[list[Reach], list[Problem]]:
    """A MAC leads to one node. Of peers with the same the first by lease key stays; our own is nobody else's."""
    holders = dict.fromkeys(own, "this node")
    kept, problems = [], []
    for peer, found in sorted(reaches, key=lambda one: one[0].key):
        holder = next((holders[mac] for mac in found.macs if mac in holders), None)
        if holder is None:
            holders |= dict.fromkeys(found.macs, peer.node)
            kept.append(found)
        else:
            message = (
                f"its lease has the MAC of {holder}, and frames can go to one of the two only: let its device be made "
                "again with another (ip link delete there; was the machine cloned?)"
            )
            problems.append(Problem("peer-mac-shared", peer.node, message))
    return kept, problems


def _no_endpoint(peer: Peer, prefix: Prefix) -> Problem:
    message = (
        f"it has no IPv{prefix.version} address, and {prefix} is reached over that: give it one (--public-ip, "
        "--public-ipv6)"
    )
    return Problem("peer-no-endpoint", peer.node, message)


def _no_mac(peer: Peer, prefix: Prefix) -> Problem:
    field = "BackendData" if prefix.version == 4 else "BackendV6Data"
    message = (
        f"its lease has no usable VtepMAC in {field}: start its daemon again, it then writes the lease anew"
    )
    return Problem("peer-no-mac", peer.node, message)


def _other_vni(peer: Peer, theirs: object, ours: int) -> Problem:
    message = f"its VNI is {str(theirs)[:20]}, ours {ours}: give both the same config, and start them again"
    return Problem("peer-vni-differs", peer.node, message)
