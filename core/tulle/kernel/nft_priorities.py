"""Where tulle's chains stand among all chains of a hook: one table, so that no two components get in each other's way.

Within a hook chains run from the lowest number up (nft(8), "Standard priority names"). What others have there:

number  who
  -300  raw: before connection tracking
  -200  connection tracking itself (linux/netfilter_ipv4.h, NF_IP_PRI_CONNTRACK)
  -150  mangle: iptables' marks
  -100  dstnat: destination NAT of iptables, kube-proxy, Docker
     0  filter: iptables' FORWARD and DOCKER-USER, kube-proxy
    10  firewalld's filter chains
   100  srcnat: source NAT of iptables (POSTROUTING), kube-proxy, Docker
"""

from __future__ import annotations

from typing import Literal

import msgspec

DSTNAT, FILTER, SRCNAT = -100, 0, 100


class Place(msgspec.Struct, frozen=True):
    """What a base chain declares. The policy is always accept: we refuse nothing."""

    type: Literal["filter", "nat", "route"]
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int
    why: str

    @property
    def text(self) -> str:
        return f"type {self.type} hook {self.hook} priority {self.priority}; policy accept;"


PLACES: dict[str, Place] = {
    "masquerade": Place(
        "nat",
        "postrouting",
        SRCNAT + 5,
        "behind the source NAT of others: the first that translates a connection decides, and what a service proxy or "
        "Docker has decided for its own packets stays",
    ),
}
"""By component."""
