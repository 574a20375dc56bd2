"""Netlink requests inside a lab, by a program that shares nothing with tulle's own: `kernel.py '[[NOUN, ...], ...]'`.

["links"] and ["routes"] list; anything else is a request of pyroute2's, with "link" in its arguments replaced by an
index: ["route", "add", {"dst": "10.42.9.0/24", "link": "eth0"}]. Answers with one line of JSON, an answer a request.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pyroute2 import IPRoute

IFF_UP = 1  # linux/if.h
MAIN_TABLE = 254
ANY_SCOPE = 255  # RT_SCOPE_NOWHERE of linux/rtnetlink.h: pyroute2 would look for a global one
KINDS = {1: "unicast", 6: "blackhole", 7: "unreachable"}  # linux/rtnetlink.h


def main(text: str) -> list[Any]:
    with IPRoute(groups=0) as kernel:
        return [answer(kernel, *call) for call in json.loads(text)]


def answer(kernel: Any, noun: str, verb: str = "", arguments: Any = None) -> Any:
    if noun == "links":
        return {link.get("ifname"): described(link) for link in kernel.get_links()}
    if noun == "routes":
        names = {link["index"]: link.get("ifname") for link in kernel.get_links()}
        return [
            {
                "destination": f"{route.get('dst') or 'any'}/{route['dst_len']}",
                "kind": KINDS.get(route["type"], str(route["type"])),
                "link": names.get(route.get("oif")),
                "protocol": route["proto"],
            }
            for family in (2, 10)
            for route in kernel.get_routes(family=family, table=MAIN_TABLE)
        ]
    given = dict(arguments)
    if "link" in given:
        (index,) = kernel.link_lookup(ifname=given.pop("link"))
        given["oif" if noun == "route" else "index"] = index
    if (noun, verb) == ("route", "del"):
        given["scope"] = ANY_SCOPE
    getattr(kernel, noun)(verb, **given)
    return None


def described(link: Any) -> dict[str, Any]:
    return {
        "index": link["index"],
        "mtu": link.get("mtu"),
        "up": bool(link["flags"] & IFF_UP),
        "alias": link.get("ifalias") or "",
    }


print(json.dumps(main(sys.argv[1])))
