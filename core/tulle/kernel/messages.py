"""Our structs as rtnetlink messages and back (rtnetlink(7)). Pure; pyroute2 does the encoding. What comes by the
thousand is in `rtwire`.

Reading is strict (NETLINK_GET_STRICT_CHK, Linux >= 4.20): the kernel itself leaves out what is not asked for, so
another program's 100,000 routes cost nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from socket import AF_INET6
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tulle.kernel.actions import (
    AddAddress,
    DeleteLink,
    LinkAction,
    MakeLink,
    RemoveAddress,
    SetLink,
    SetVxlan,
)
from tulle.kernel.rtwire import KINDS, NUMBERS, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTNH_F_ONLINK, RTPROT_TULLE
from tulle.kernel.state import Interface, SeenLink, VxlanFacts, WantedRoute, WantedVxlan, Way
from tulle.net.prefix import Address, Family, Prefix

# linux/rtnetlink.h, linux/if.h, linux/if_addr.h
RTM_F_FIB_MATCH = 0x2000
IFF_UP = 0x1
IFA_F_NODAD = 0x02

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


def get_vxlan_links() -> Request:
    """The kernel leaves out links of other kinds."""
    info = {"attrs": [("IFLA_INFO_KIND", "vxlan")]}
    return _message(ifinfmsg, {}, IFLA_LINKINFO=info), RTM_GETLINK, DUMP


def delete_link(index: int) -> Request:
    return _message(ifinfmsg, {"index": index}), RTM_DELLINK, CHANGE


def get_addresses(family: Family, index: int = 0) -> Request:
    """Of one link, or of all."""
    return _message(ifaddrmsg, {"family": NUMBERS[family], "index": index}), RTM_GETADDR, DUMP


def get_routes(family: Family) -> Request:
    """All of the main table, whoever made them."""
    return _message(rtmsg, {"family": NUMBERS[family], "table": RT_TABLE_MAIN}), RTM_GETROUTE, DUMP


def look_up(address: Address, *, route: bool) -> Request:
    """The way to an address: with `route` the table entry that was used, else device and source address."""
    flags = RTM_F_FIB_MATCH if route else 0
    fields = {"family": NUMBERS[address.version], "dst_len": address.max_prefixlen, "flags": flags}
    return _message(rtmsg, fields, RTA_DST=str(address)), RTM_GETROUTE, GET


def action_request(action: LinkAction) -> Request:
    """The message that carries out an action."""
    match action:
        case MakeLink():
            return _make_link(action), RTM_NEWLINK, CREATE
        case DeleteLink():
            return delete_link(action.index)
        case SetVxlan():
            fields = _vxlan_fields(action.vxlan, action.lower)
            return (
                _message(ifinfmsg, {"index": action.index}, IFLA_LINKINFO=_vxlan(fields)),
                RTM_NEWLINK,
                CHANGE,
            )
        case SetLink():
            return _set_link(action), RTM_NEWLINK, CHANGE
        case AddAddress():
            return _address(action.address.address, action.index, IFA_F_NODAD), RTM_NEWADDR, CREATE
        case RemoveAddress():
            return _address(action.address.address, action.index, None), RTM_DELADDR, CHANGE


def _make_link(action: MakeLink) -> Any:
    """With the outer checksum: facts of the kernel's default, said so that it holds for IPv4 and IPv6 alike."""
    one = action.vxlan
    fields = {
        "IFLA_VXLAN_ID": one.vni,
        "IFLA_VXLAN_PORT": one.port,
        **_vxlan_fields(one, action.lower),
        "IFLA_VXLAN_UDP_CSUM": 1,
    }
    if one.gbp:
        fields["IFLA_VXLAN_GBP"] = True
    return _message(
        ifinfmsg,
        {},
        IFLA_IFNAME=action.link.name,
        IFLA_ADDRESS=one.mac,
        IFLA_MTU=action.link.mtu,
        IFLA_LINKINFO=_vxlan(fields),
    )


def _vxlan_fields(one: WantedVxlan, lower: int) -> dict[str, object]:
    """What can be changed too."""
    local = "IFLA_VXLAN_LOCAL" if one.local.version == 4 else "IFLA_VXLAN_LOCAL6"
    return {
        "IFLA_VXLAN_LINK": lower,
        local: str(one.local),
        "IFLA_VXLAN_LEARNING": int(one.learning),
        "IFLA_VXLAN_TTL": one.ttl,
    }


def _vxlan(fields: dict[str, object]) -> dict[str, object]:
    return {"attrs": [("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", {"attrs": list(fields.items())})]}


def _set_link(action: SetLink) -> Any:
    fields = {"index": action.index}
    match action.setting:
        case "up":
            return _message(ifinfmsg, {**fields, "flags": IFF_UP if action.value else 0, "change": IFF_UP})
        case "alias":
            return _message(ifinfmsg, fields, IFLA_IFALIAS=action.value)
        case "mac":
            return _message(ifinfmsg, fields, IFLA_ADDRESS=action.value)
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


def seen_link(message: Any) -> SeenLink:
    return SeenLink(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mtu=message.get_attr("IFLA_MTU"),
        txqueuelen=message.get_attr("IFLA_TXQLEN"),
        up=bool(message["flags"] & IFF_UP),
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        vxlan=_seen_vxlan(message),
    )


def _seen_vxlan(message: Any) -> VxlanFacts | None:
    info = message.get_attr("IFLA_LINKINFO")
    if info is None or info.get_attr("IFLA_INFO_KIND") != "vxlan":
        return None
    data = info.get_attr("IFLA_INFO_DATA")
    if data is None:
        return None
    local = data.get_attr("IFLA_VXLAN_LOCAL") or data.get_attr("IFLA_VXLAN_LOCAL6")
    return VxlanFacts(
        vni=data.get_attr("IFLA_VXLAN_ID") or 0,
        port=data.get_attr("IFLA_VXLAN_PORT") or 0,
        index=data.get_attr("IFLA_VXLAN_LINK") or 0,
        local=ip_address(local) if local else None,
        gbp=bool(data.get_attr("IFLA_VXLAN_GBP")),
        learning=bool(data.get_attr("IFLA_VXLAN_LEARNING")),
        ttl=data.get_attr("IFLA_VXLAN_TTL") or 0,
        zero_checksum6=bool(data.get_attr("IFLA_VXLAN_UDP_ZERO_CSUM6_TX")),
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
