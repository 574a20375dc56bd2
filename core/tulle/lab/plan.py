"""Who is called what in a lab, and has which address. Pure.

The underlay is one wire, the switch, with documentation addresses: node n7 has 192.0.2.7 and 2001:db8::7. What the
pods get follows from each node's subnet.env, as a CNI plugin would do it: the bridge has the subnet's first address,
pod p1 the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any, Literal

import msgspec

from tulle.lab.errors import LabError
from tulle.lab.init import LAB_DIR

LabFamily = Literal["4", "6", "dual"]
Interface = IPv4Interface | IPv6Interface

SWITCH = "switch"
SWITCH_HOST = 254
"""The switch's host number on the underlay: the nodes' default gateway, and where etcd listens."""

MAX_NODES = 250
MAX_PODS = 250
"""Host numbers in a /24 that are neither the bridge, nor the switch, nor the broadcast address."""

UNDERLAY = {4: ip_network("192.0.2.0/24"), 6: ip_network("2001:db8::/64")}  # RFC 5737, RFC 3849
CLUSTER = {4: "10.42.0.0/16", 6: "fd42::/48"}
SUBNET_LEN = {4: 24, 6: 64}
CONFIG_NAMES = {4: ("EnableIPv4", "Network", "SubnetLen"), 6: ("EnableIPv6", "IPv6Network", "IPv6SubnetLen")}

NO_BACKEND = "none"
"""A lab of nodes and pods alone, without store and tulled: a subnet for each node is given, the rest is by hand. What
other ways of joining the pods are measured with."""

ETCD_PORT = 2379
SQLITE_FILE = f"{LAB_DIR}/store.sqlite"
SUBNET_FILE = "/run/flannel/subnet.env"
RUN_DIR = "/run/tulle"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a lab was asked to be. Kept in the lab as lab.json."""

    name: str
    nodes: int = 3
    pods: int = 2
    """On each node."""
    family: LabFamily = "4"
    """Inside and outside alike."""
    backend: str = "udp"
    backend_options: Mapping[str, Any] = {}
    """Further keys of `Backend` in the network config."""
    engine: str = "auto"
    store: str = "sqlite"
    tulled_args: Sequence[str] = ()
    """Appended to each tulled's command line."""
    underlay_mtu: int = 1500

    @property
    def families(self) -> tuple[int, ...]:
        return {"4": (4,), "6": (6,), "dual": (4, 6)}[self.family]

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def pod_names(self) -> list[str]:
        """On each node."""
        return [f"p{number}" for number in range(1, self.pods + 1)]

    @property
    def pod_places(self) -> list[str]:
        """All pods of the lab: "n1/p1", "n1/p2", ..."""
        return [f"{node}/{pod}" for node in self.node_names for pod in self.pod_names]

    def check(self) -> None:
        """Raises LabError where such a lab cannot be."""
        if not 1 <= self.nodes <= MAX_NODES:
            raise LabError(f"A lab has 1 to {MAX_NODES} nodes, not {self.nodes}: give another --nodes.")
        if not 0 <= self.pods <= MAX_PODS:
            raise LabError(f"A node has 0 to {MAX_PODS} pods, not {self.pods}: give another --pods.")
        if self.family not in ("4", "6", "dual"):
            raise LabError(f"A lab's family is 4, 6 or dual, not {self.family!r}: give another --family.")

    def underlay(self, host: int) -> list[Interface]:
        """The underlay addresses of host number `host`, one a family."""
        return [
            ip_interface(f"{UNDERLAY[family][host]}/{UNDERLAY[family].prefixlen}") for family in self.families
        ]

    def node_underlay(self, node: str) -> list[Interface]:
        return self.underlay(self.node_names.index(node) + 1)

    def etcd_endpoint(self) -> str:
        address = self.underlay(SWITCH_HOST)[0].ip
        return f"http://{bracketed(address)}:{ETCD_PORT}"

    def network_config(self) -> dict[str, Any]:
        """What goes into the store under `config`."""
        config: dict[str, Any] = {"Backend": {"Type": self.backend, **self.backend_options}}
        for family, (enable, network, length) in CONFIG_NAMES.items():
            config[enable] = family in self.families
            if family in self.families:
                config |= {network: CLUSTER[family], length: SUBNET_LEN[family]}
        return config

    def given_nets(self) -> dict[str, NodeNet]:
        """For NO_BACKEND: n7 has the cluster network's subnet number 7."""
        found = {}
        for number, node in enumerate(self.node_names, start=1):
            gateways = []
            for family in self.families:
                base = ip_network(CLUSTER[family])
                step = 1 << (base.max_prefixlen - SUBNET_LEN[family])
                gateways.append(f"{base.network_address + number * step + 1}/{SUBNET_LEN[family]}")
            found[node] = NodeNet(tuple(gateways), self.underlay_mtu)
        return found

    def store_args(self) -> list[str]:
        """The flags that lead tulle and tulled to the lab's store."""
        if self.store == "etcd":
            return ["--store", "etcd", "--etcd-endpoints", self.etcd_endpoint()]
        if self.store == "sqlite":
            return ["--store", "sqlite", "--sqlite-file", SQLITE_FILE]
        return ["--store", self.store]

    def tulled_command(self, node: str, program: Sequence[str]) -> list[str]:
        """`program` starts tulled."""
        return [
            *program,
            *("--node-name", node),
            "--config-file=",  # the one of the machine that the lab is on is none of the lab's nodes'
            *self.store_args(),
            *("--run-dir", RUN_DIR, "--state-dir", "/var/lib/tulle", "--subnet-file", SUBNET_FILE),
            *("--engine", self.engine, "--iface", "eth0"),
            *self.tulled_args,
        ]

    def check_place(self, place: Place) -> None:
        """Raises LabError where the lab has no such node or pod."""
        if place.node and place.node not in self.node_names:
            raise LabError(
                f"The lab {self.name!r} has no node {place.node!r}. It has: {', '.join(self.node_names)}."
            )
        if place.pod and place.pod not in self.pod_names:
            raise LabError(
                f"The node {place.node} has no pod {place.pod!r}. It has: {', '.join(self.pod_names) or 'none'}."
            )


@dataclass(frozen=True)
class Place:
    """Somewhere in a lab. Both empty: the switch, outside all nodes."""

    node: str = ""
    pod: str = ""

    @property
    def label(self) -> str:
        return "/".join(part for part in (self.node, self.pod) if part) or SWITCH


def parse_place(text: str) -> Place:
    """ "n1", "n1/p2" or "switch". Whether the lab has it is `Plan.check_place`'s to say."""
    if text in ("", SWITCH):
        return Place()
    node, _, pod = text.partition("/")
    if not node or "/" in pod or text.endswith("/"):
        raise LabError(f"{text!r} is no place in a lab: say n1 for a node, n1/p1 for a pod, or switch.")
    return Place(node, pod)


def bracketed(address: object) -> str:
    """An address as it stands in a URL before the port (RFC 3986 section 3.2.2)."""
    text = str(address)
    return f"[{text}]" if ":" in text else text


class NodeNet(msgspec.Struct, frozen=True):
    """What a node's subnet.env tells those who make pods."""

    gateways: tuple[str, ...]
    """The bridge's addresses with their prefix lengths, one a family."""
    mtu: int

    def pod(self, number: int) -> list[Interface]:
        """The addresses of the node's pod number 1, 2, ..."""
        found = []
        for text in self.gateways:
            gateway = ip_interface(text)
            found.append(ip_interface(f"{gateway.ip + number}/{gateway.network.prefixlen}"))
        return found


def parse_subnet_env(text: str) -> NodeNet:
    """Raises ValueError where it is not whole."""
    values = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
    gateways = [values.get(name, "") for name in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")]
    present = tuple(str(ip_interface(gateway)) for gateway in gateways if gateway)
    if not present:
        raise ValueError("neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET")
    if "FLANNEL_MTU" not in values:
        raise ValueError("no FLANNEL_MTU")
    return NodeNet(present, int(values["FLANNEL_MTU"]))
