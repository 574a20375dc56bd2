"""Makes the lab's network, from inside the lab: `underlay` before the tulleds start, `pods` when they have subnets.

    switch (the lab's own network namespace)        node n1                             pod n1/p1
    bridge "switch" -- to-n1 ===================== eth0    cni0 -- to-p1 ============== eth0

A request comes as JSON on standard input. The lab's init keeps the namespaces in being (see `tulle.lab.init`), so no
process has to sit in each of them.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from tulle.lab import namespaces as ns
from tulle.lab.init import KEEP_SOCKET, LAB_DIR, STATE_DIR
from tulle.lab.plan import SWITCH, SWITCH_HOST, Interface, NodeNet, Plan

BRIDGE = "cni0"
UPLINK = "eth0"
NODE_KINDS = ("net", "uts", "mnt")

IFA_F_NODAD = 0x02  # include/uapi/linux/if_addr.h

SYSCTLS = {
    # A new namespace has some of the host's IPv4 settings: each lab starts from the same ones, and that tulled
    # turns forwarding on can be seen.
    "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/default/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "0",
    # Duplicate address detection would keep each new address from being used for a second (RFC 4862).
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


class Request(msgspec.Struct, frozen=True):
    """What comes on standard input."""

    plan: Plan
    nets: Mapping[str, NodeNet] = {}
    """For `pods`: what each node's subnet.env says."""


def main(argv: Sequence[str]) -> int:
    """`build underlay|pods`. What the machine refuses is told as init tells it, on standard output."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        if argv == ["underlay"]:
            build_underlay(request.plan)
        elif argv == ["pods"]:
            build_pods(request.plan, request.nets)
        else:
            raise ValueError(f"unknown request {argv}")
    except OSError as error:
        if refusal := refused(error):
            print(json.dumps(refusal))
            return 1
        raise
    return 0


def refused(error: OSError) -> dict[str, Any] | None:
    """A report for `tulle.lab.refusal` where the machine's settings, not the lab, are the reason."""
    if error.errno == errno.ENOSPC:
        return {"failed": "namespaces", "errno": error.errno}
    if error.errno == errno.EOPNOTSUPP:  # the kernel has no such kind of link
        return {"failed": "bridge", "errno": error.errno}
    return None


def keep(namespaces: Mapping[str, int]) -> None:
    """Hand namespaces (file name -> descriptor) to init, which keeps them in being."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as init:
        init.connect(KEEP_SOCKET)
        socket.send_fds(init, [json.dumps(list(namespaces)).encode()], list(namespaces.values()))
        if not init.recv(16):
            raise OSError(errno.ECONNRESET, "the lab's init did not take the namespaces")


def own(kind: str) -> int:
    """This thread's namespace of a kind, as a descriptor."""
    return os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


# The underlay and the nodes


def build_underlay(plan: Plan) -> None:
    """The switch, and each node with its uplink."""
    nodes = {name: make_node(name) for name in plan.node_names}
    set_sysctls()
    with netlink() as switch:
        up(switch, "lo")
        add_bridge(switch, SWITCH, plan.underlay(SWITCH_HOST), plan.underlay_mtu)
        for name, network in nodes.items():
            connect(switch, SWITCH, f"to-{name}", network, plan.underlay_mtu)
            with ns.network_of(network), netlink() as node:
                up(node, "lo")
                up(node, UPLINK, plan.node_underlay(name))
                add_default_routes(node, plan.underlay(SWITCH_HOST))
    for network in nodes.values():
        os.close(network)


def make_node(name: str) -> int:
    """Make a node's namespaces and furnish them. Returns its network namespace."""
    with ExitStack() as stack:
        home = {kind: own(kind) for kind in NODE_KINDS}
        for fd in home.values():
            stack.callback(os.close, fd)
        ns.unshare(ns.CLONE_NEWNS | ns.CLONE_NEWNET | ns.CLONE_NEWUTS)
        ns.sethostname(name)
        set_sysctls()
        mount_node()
        made = {kind: own(kind) for kind in NODE_KINDS}
        for kind, fd in home.items():
            ns.setns(fd, ns.KINDS[kind])
        keep({f"{name}.{kind}": fd for kind, fd in made.items()})
        os.close(made["uts"])
        os.close(made["mnt"])
        return made["net"]


def mount_node() -> None:
    """A node's own /run and state directory; the lab's directory stays what it is everywhere."""
    lab = os.open(LAB_DIR, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ns.mount("tmpfs", "/run", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755")
    os.mkdir(LAB_DIR)
    ns.mount(f"/proc/self/fd/{lab}", LAB_DIR, flags=ns.MS_BIND)
    os.close(lab)
    ns.mount("tmpfs", STATE_DIR, "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755")
    try:
        # So that /sys/class/net lists this node's links. A container may refuse; tulle itself does not need it.
        ns.mount("sysfs", "/sys", "sysfs", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    except PermissionError:
        return


def set_sysctls() -> None:
    """For the network namespace that this thread is in. What the kernel does not have is left out."""
    for name, value in SYSCTLS.items():
        path = Path("/proc/sys", name)
        if path.exists():
            path.write_text(value)


# Pods


def build_pods(plan: Plan, nets: Mapping[str, NodeNet]) -> None:
    """On each node the bridge and the pods."""
    for node, net in nets.items():
        network = os.open(f"{LAB_DIR}/ns/{node}.net", os.O_RDONLY | os.O_CLOEXEC)
        with ns.network_of(network), netlink() as links:
            gateways = net.pod(0)
            add_bridge(links, BRIDGE, gateways, net.mtu)
            for number, pod in enumerate(plan.pod_names, start=1):
                make_pod(links, node, pod, net.pod(number), gateways, net.mtu)
        os.close(network)


def make_pod(
    links: Any, node: str, pod: str, addresses: Sequence[Interface], gateways: Sequence[Interface], mtu: int
) -> None:
    """Called in the node's network namespace."""
    home = own("net")
    ns.unshare(ns.CLONE_NEWNET)
    set_sysctls()
    network = own("net")
    ns.setns(home, ns.CLONE_NEWNET)
    os.close(home)
    keep({f"{node}.{pod}.net": network})
    connect(links, BRIDGE, f"to-{pod}", network, mtu)
    with ns.network_of(network), netlink() as inside:
        up(inside, "lo")
        up(inside, UPLINK, addresses)
        add_default_routes(inside, gateways)
    os.close(network)


# Netlink


def netlink() -> Any:
    """A netlink socket of the network namespace that this thread is in."""
    from pyroute2 import IPRoute

    return IPRoute(groups=0)  # an unread notification would be reported as ENOBUFS later


def ask(links: Any, noun: str, verb: str, **arguments: Any) -> None:
    """One netlink request. Raises OSError, with the request in its text, as everything else here does."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        getattr(links, noun)(verb, **arguments)
    except NetlinkError as error:
        raise OSError(error.code, f"{os.strerror(error.code)}: {noun} {verb} {arguments}") from error


def index_of(links: Any, name: str) -> int:
    found = links.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, f"no link {name!r}")
    return int(found[0])


def add_bridge(links: Any, name: str, addresses: Sequence[Interface], mtu: int) -> None:
    # Without snooping no neighbour solicitation waits for a multicast querier (RFC 4541).
    ask(links, "link", "add", ifname=name, kind="bridge", br_mcast_snooping=0)
    ask(links, "link", "set", index=index_of(links, name), mtu=mtu)
    up(links, name, addresses)


def connect(links: Any, bridge: str, near: str, network: int, mtu: int) -> None:
    """A veth pair from a port of `bridge` to the uplink of another network namespace."""
    far = {"ifname": UPLINK, "net_ns_fd": network, "mtu": mtu}
    ask(links, "link", "add", ifname=near, kind="veth", mtu=mtu, peer=far)
    ask(links, "link", "set", index=index_of(links, near), master=index_of(links, bridge), state="up")


def up(links: Any, name: str, addresses: Sequence[Interface] = ()) -> None:
    index = index_of(links, name)
    for address in addresses:
        flags = IFA_F_NODAD if address.version == 6 else 0
        ask(
            links,
            "addr",
            "add",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            flags=flags,
        )
    ask(links, "link", "set", index=index, state="up")


def add_default_routes(links: Any, gateways: Sequence[Interface]) -> None:
    for gateway in gateways:
        anywhere = "0.0.0.0/0" if gateway.version == 4 else "::/0"
        ask(links, "route", "add", dst=anywhere, gateway=str(gateway.ip))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
