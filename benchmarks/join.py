"""Joins a node's pods to the other node's by hand, with what the kernel alone has. Runs inside a lab's node:

    join.py < {"way": "routes", "mtu": 1500, "links": [...], ...}

Each call takes the last way away and lays the next; "tulle" lays none, so that the route into tulle's TUN, which is of
a shorter prefix, gets the packets. In a pod only the MTU is set.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

VXLAN = "bench-vxlan"
VNI, PORT = 7, 4789  # RFC 7348 section 5 and IANA's port, so that flannel's 8472 stays free
ROUTE_PROTOCOL = 250
"""Marks our routes; of the numbers that nobody has been given (rtnetlink(7))."""


def main() -> None:
    """Reads a request and prints which link now leads to the other side's pods ({"link": ...})."""
    request = json.load(sys.stdin)
    from pyroute2 import IPRoute

    with IPRoute(groups=0) as kernel:
        set_mtu(kernel, request["links"], request["mtu"])
        if "way" in request:
            take_away(kernel)
            lay(kernel, request)
            print(json.dumps({"link": way_out(kernel, request["far_pod"])}))


def set_mtu(kernel: Any, links: Sequence[str], mtu: int) -> None:
    for name in links:
        kernel.link("set", index=index_of(kernel, name), mtu=mtu)


def take_away(kernel: Any) -> None:
    for route in kernel.get_routes(proto=ROUTE_PROTOCOL):
        kernel.route("del", dst=f"{route.get_attr('RTA_DST')}/{route['dst_len']}", proto=ROUTE_PROTOCOL)
    for index in kernel.link_lookup(ifname=VXLAN):
        kernel.link("del", index=index)


def lay(kernel: Any, request: dict[str, Any]) -> None:
    """The way is one route to the far pods; over VXLAN it leads through a device with the far node as its only peer;
    "device" is a tunnel that somebody else has made."""
    if request["way"] == "routes":
        kernel.route("add", dst=request["far_pods"], gateway=request["far_node"], proto=ROUTE_PROTOCOL)
    elif request["way"] == "device":
        index = index_of(kernel, request["link"])
        kernel.link("set", index=index, state="up", mtu=request["mtu"])
        kernel.route("add", dst=request["far_pods"], oif=index, proto=ROUTE_PROTOCOL)
    elif request["way"] == "vxlan":
        kernel.link(
            "add",
            ifname=VXLAN,
            kind="vxlan",
            vxlan_id=VNI,
            vxlan_port=PORT,
            vxlan_local=request["near_node"],
            vxlan_group=request["far_node"],
            vxlan_link=index_of(kernel, "eth0"),
            mtu=request["mtu"],
        )
        index = index_of(kernel, VXLAN)
        kernel.addr("add", index=index, address=request["near_end"], prefixlen=32)
        kernel.link("set", index=index, state="up")
        kernel.route(
            "add",
            dst=request["far_pods"],
            gateway=request["far_end"],
            oif=index,
            flags=["onlink"],
            proto=ROUTE_PROTOCOL,
        )


def way_out(kernel: Any, address: str) -> str:
    """The link by which the kernel would send to an address."""
    (route,) = kernel.route("get", dst=address)
    (link,) = kernel.get_links(route.get_attr("RTA_OIF"))
    return str(link.get_attr("IFLA_IFNAME"))


def index_of(kernel: Any, name: str) -> int:
    return int(kernel.link_lookup(ifname=name)[0])


if __name__ == "__main__":
    main()
