"""Our structs as rtnetlink messages and back (rtnetlink(7)). Pure; pyroute2 does the encoding.

Reading is strict (NETLINK_GET_STRICT_CHK, Linux >= 4.20): the kernel itself leaves out what is not asked for, so
another program's 100,000 routes cost nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tulle.kernel.state import (
    RTPROT_TULLE,
    Action,
    AddAddress,
    AddRoute,
    Interface,
    RemoveAddress,
    RemoveRoute,
    SeenLink,
    SetLink,
    WantedRoute,
    Way,
)
from tulle.net.prefix import Address, Family, Prefix

# linux/rtnetlink.h, linux/if.h, linux/if_addr.h
RT_TABLE_MAIN = 254
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTNH_F_ONLINK = 4
RTM_F_FIB_MATCH = 0x2000
IFF_UP = 0x1
IFA_F_NODAD = 0x02

KINDS = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
"""RTN_* by number (linux/rtnetlink.h)."""
KIND_NUMBERS = {word: number for number, word in KINDS.items()}

PROTOCOLS = {
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    186: "bgp",
    RTPROT_TULLE: "tulle",
}
"""The commonest of iproute2's rt_protos, for messages."""

GET = NLM_F_REQUEST
DUMP = NLM_F_REQUEST | NLM_F_DUMP
CHANGE = NLM_F_REQUEST | NLM_F_ACK
CREATE = CHANGE | NLM_F_CREATE | NLM_F_EXCL

Request = tuple[nlmsg, int, int]
"""Message, message type, flags."""

NUMBERS: dict[Family, int] = {4: AF_INET, 6: AF_INET6}
FAMILIES: tuple[Family, Family] = (4, 6)


def _message(kind: type[Any], fields: dict[str, int], **attributes: object) -> Any:
    """A message with the attributes that are not None, under their names in the kernel's headers."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = [(name, value) for name, value in attributes.items() if value is not None]
    return message


def get_link(name: str) -> Request:
    """Answered by one message, or by ENODEV."""
    return _message(ifinfmsg, {}, IFLA_IFNAME=name), RTM_GETLINK, GET


def get_links() -> Request:
    return _message(ifinfmsg, {}), RTM_GETLINK, DUMP


def delete_link(index: int) -> Request:
    return _message(ifinfmsg, {"index": index}), RTM_DELLINK, CHANGE


def get_addresses(family: Family, index: int = 0) -> Request:
    """Of one link, or of all."""
    return _message(ifaddrmsg, {"family": NUMBERS[family], "index": index}), RTM_GETADDR, DUMP


def get_our_routes(family: Family) -> Request:
    """Those of the main table with our protocol."""
    fields = {"family": NUMBERS[family], "table": RT_TABLE_MAIN, "proto": RTPROT_TULLE}
    return _message(rtmsg, fields), RTM_GETROUTE, DUMP


def get_routes(family: Family) -> Request:
    """All of the main table, whoever made them."""
    return _message(rtmsg, {"family": NUMBERS[family], "table": RT_TABLE_MAIN}), RTM_GETROUTE, DUMP


def look_up(address: Address, *, route: bool) -> Request:
    """The way to an address: with `route` the table entry that was used, else device and source address."""
    flags = RTM_F_FIB_MATCH if route else 0
    fields = {"family": NUMBERS[address.version], "dst_len": address.max_prefixlen, "flags": flags}
    return _message(rtmsg, fields, RTA_DST=str(address)), RTM_GETROUTE, GET


def action_request(action: Action) -> Request:
    """The message that carries out an action."""
    match action:
        case SetLink():
            return _set_link(action), RTM_NEWLINK, CHANGE
        case AddAddress():
            return _address(action.address.address, action.index, IFA_F_NODAD), RTM_NEWADDR, CREATE
        case RemoveAddress():
            return _address(action.address.address, action.index, None), RTM_DELADDR, CHANGE
        case AddRoute():
            return _route(action.route, action.index, removal=False), RTM_NEWROUTE, CREATE
        case RemoveRoute():
            return _route(action.route, 0, removal=True), RTM_DELROUTE, CHANGE


def _set_link(action: SetLink) -> Any:
    fields = {"index": action.index}
    match action.setting:
        case "up":
            return _message(ifinfmsg, {**fields, "flags": IFF_UP if action.value else 0, "change": IFF_UP})
        case "alias":
            return _message(ifinfmsg, fields, IFLA_IFALIAS=action.value)
        case "mtu":
            return _message(ifinfmsg, fields, IFLA_MTU=action.value)
        case _:
            return _message(ifinfmsg, fields, IFLA_TXQLEN=action.value)


def _address(interface: Interface, index: int, flags: int | None) -> Any:
    """IFA_F_NODAD: a lease makes the address unique, so IPv6 need not hold it back for a second."""
    fields = {
        "family": NUMBERS[interface.version],
        "prefixlen": interface.network.prefixlen,
        "index": index,
        "scope": RT_SCOPE_UNIVERSE,
    }
    text = str(interface.ip)
    return _message(ifaddrmsg, fields, IFA_LOCAL=text, IFA_ADDRESS=text, IFA_FLAGS=flags)


def _route(route: WantedRoute, index: int, *, removal: bool) -> Any:
    """A removal names protocol and type, so that the kernel takes nothing but that route (ip-route(8))."""
    scope = RT_SCOPE_LINK if route.link is not None and route.gateway is None else RT_SCOPE_UNIVERSE
    fields = {
        "family": NUMBERS[route.destination.version],
        "dst_len": route.destination.prefixlen,
        "table": RT_TABLE_MAIN,
        "proto": RTPROT_TULLE,
        "type": KIND_NUMBERS.get(route.kind, 0),
        "scope": RT_SCOPE_NOWHERE if removal else scope,
        "flags": RTNH_F_ONLINK if route.onlink and not removal else 0,
    }
    return _message(
        rtmsg,
        fields,
        RTA_DST=str(route.destination.network_address),
        RTA_PRIORITY=route.metric,
        RTA_OIF=index or None,
        RTA_GATEWAY=str(route.gateway) if route.gateway is not None else None,
        RTA_PREFSRC=str(route.source) if route.source is not None and not removal else None,
    )


def seen_link(message: Any) -> SeenLink:
    return SeenLink(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mtu=message.get_attr("IFLA_MTU"),
        txqueuelen=message.get_attr("IFLA_TXQLEN"),
        up=bool(message["flags"] & IFF_UP),
        alias=message.get_attr("IFLA_IFALIAS") or "",
    )


def seen_address(message: Any) -> Interface:
    """IFA_LOCAL where there is one: on a point-to-point link IFA_ADDRESS is the other end."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_interface(f"{text}/{message['prefixlen']}")


def seen_destination(message: Any) -> tuple[Prefix, int]:
    """Destination and metric; a default route carries no RTA_DST."""
    anywhere = "::" if message["family"] == AF_INET6 else "0.0.0.0"
    network = ip_network(f"{message.get_attr('RTA_DST') or anywhere}/{message['dst_len']}")
    return network, message.get_attr("RTA_PRIORITY") or 0


def seen_route(message: Any, link_name: Callable[[int], str]) -> WantedRoute:
    """`link_name` gives an index its name. A unicast route without one device (several next hops) is "multipath"."""
    destination, metric = seen_destination(message)
    kind = KINDS.get(message["type"], str(message["type"]))
    index = message.get_attr("RTA_OIF")
    if kind != "unicast" or index is None:
        return WantedRoute(destination, None, "multipath" if kind == "unicast" else kind, metric)
    gateway, source = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_PREFSRC")
    return WantedRoute(
        destination,
        link_name(index),
        kind,
        metric,
        gateway=ip_address(gateway) if gateway else None,
        onlink=bool(message["flags"] & RTNH_F_ONLINK),
        source=ip_address(source) if source else None,
    )


def seen_way(message: Any, rule: str, link_name: Callable[[int], str]) -> Way:
    """An answer to `look_up`."""
    index, gateway, source = (message.get_attr(name) for name in ("RTA_OIF", "RTA_GATEWAY", "RTA_PREFSRC"))
    return Way(
        KINDS.get(message["type"], str(message["type"])),
        link_name(index) if index is not None else "",
        ip_address(gateway) if gateway else None,
        ip_address(source) if source else None,
        rule,
    )


def route_text(message: Any, link_name: Callable[[int], str]) -> str:
    """A route of anyone's for people, with the name of its protocol."""
    number = message["proto"]
    return f'"{seen_route(message, link_name).text}" (proto {PROTOCOLS.get(number, number)})'


def of_family(messages: list[Any], family: Family) -> Iterator[Any]:
    """Without IPv6 the kernel answers an IPv6 dump with all families it knows."""
    return (message for message in messages if message["family"] == NUMBERS[family])
