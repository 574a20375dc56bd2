"""What do 5,000 peers cost where the kernel carries their packets?

A process of its own, in a network namespace of its own, does with them what a node does: backend, keeper and kernel are
real, the peers come from a list. Measured are the first apply, one more peer (until the kernel has it), a
whole look that finds nothing to do, and how long all is back after somebody has taken the routes or the device.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import resident_mb
from tulle.contracts.backend import Advertisement, Backend, Peer, Underlay
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted, cover
from tulle.node.context import Context, KeptKernel, NoDataPlane
from tulle.node.keeper import Keeper
from tulle_hostgw.backend import HostGwBackend
from tulle_vxlan.backend import VxlanBackend
from tulle_vxlan.options import VxlanOptions

QUESTION = "What do 5,000 peers cost where the kernel carries their packets?"

PEERS, QUICK_PEERS = 5_000, 300
CHANGES = 10
CLUSTER, UNDERLAY, OUTER = ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"), ip_network("198.18.0.0/15")
FIRST, CHANGE, LOOK = "first apply", "one more peer", "whole look"
BACK_ROUTES, BACK_LINK, MEMORY = "back after a flush of routes", "back after the link's end", "memory"
UNITS = {
    FIRST: "s",
    CHANGE: "ms of processor time",
    LOOK: "s of processor time",
    BACK_ROUTES: "s",
    BACK_LINK: "s",
    MEMORY: "MB resident",
}
AIMS = {FIRST: 1.0, CHANGE: 5.0, LOOK: 0.3, BACK_ROUTES: 2.0, BACK_LINK: 2.0}
LIMIT_S = 300
BACKENDS: dict[str, Callable[[], Backend]] = {
    "vxlan": lambda: VxlanBackend(VxlanOptions(mode="kernel")),
    "host-gw": HostGwBackend,
}
LINKS = {"vxlan": "flannel.1", "host-gw": "up0"}


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    peers = effort.of(PEERS, QUICK_PEERS)
    for _ in range(effort.turns):
        for name in BACKENDS:
            told = _as_a_node(name, peers)
            for figure, value in told["figures"].items():
                turns.add(figure, name, value)
            counts[f"{name}: routes"] = told["routes"]
    aims = {figure: [Aim(name, limit) for name in BACKENDS] for figure, limit in AIMS.items()}
    figures = [turns.figure(name, unit, "lower", aims=aims.get(name, ())) for name, unit in UNITS.items()]
    return Result(figures, counts, [f"{peers} peers; most of a first apply is the kernel's own work"])


def _as_a_node(backend: str, peers: int) -> dict[str, Any]:
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    order = json.dumps({"backend": backend, "peers": peers})
    command = ["unshare", "--net", *rights, sys.executable, "-m", "benchmarks.kernel_peers", order]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peer(backend: str, number: int) -> Peer:
    prefix = ip_network((int(CLUSTER[0]) + (number << 8), 24))
    mac = (0x020000000000 + number).to_bytes(6, "big").hex(":")
    data = {"VNI": 1, "VtepMAC": mac} if backend == "vxlan" else {}
    key = str(prefix).replace("/", "-")
    return Peer(key, f"n{number}", (prefix,), (OUTER[number],), backend, data, revision=number)


async def _measured(backend: str, peers: int) -> dict[str, Any]:
    _shell(
        "ip link set lo up; ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; "
        f"ip address add {UNDERLAY[1]}/24 dev up0; ip address add {OUTER[1]}/{OUTER.prefixlen} dev up0"
    )
    figures: dict[str, float] = {}
    everybody = [peer(backend, number) for number in range(2, 2 + peers + CHANGES)]
    async with Netlink() as netlink:
        keeper = Keeper(netlink)
        keeper.want("node", Wanted(routes=(cover(CLUSTER),)))
        made = BACKENDS[backend]()
        context = _context(keeper, netlink)
        await made.advertise(context)
        await made.start(context)

        async def reconcile(count: int) -> None:
            report = await made.reconcile(everybody[:count])
            if report.problems or keeper.problems:
                raise RuntimeError(f"not all could be set: {report.problems[:1]} {keeper.problems[:1]}")

        figures[FIRST] = await _seconds(lambda: reconcile(peers))
        each = []
        for number in range(1, CHANGES + 1):
            began = time.process_time()
            await reconcile(peers + number)
            each.append(time.process_time() - began)
        figures[CHANGE] = 1000 * statistics.median(each)
        began = time.process_time()
        await keeper.settle()
        figures[LOOK] = time.process_time() - began
        link = LINKS[backend]
        _shell(f"ip route flush dev {link} proto 116")
        figures[BACK_ROUTES] = await _seconds(keeper.settle)
        _shell(
            f"ip link del {link}" if backend == "vxlan" else f"ip link set {link} down; ip link set {link} up"
        )
        figures[BACK_LINK] = await _seconds(keeper.settle)
        figures[MEMORY] = resident_mb(os.getpid())
    return {"figures": figures, "routes": int(_shell(f"ip route show dev {link} proto 116 | wc -l"))}


def _context(keeper: Keeper, netlink: Netlink) -> Context:
    async def publish(advertisement: Advertisement) -> None:
        """Nobody listens."""

    here = {4: ip_address(UNDERLAY[1])}
    underlay = Underlay("up0", 2, 1500, here, here, "a benchmark says so", (UNDERLAY, OUTER))  # type: ignore[arg-type]
    return Context(
        node="here",
        underlay=underlay,
        networks=(CLUSTER,),
        state_dir=Path("/nonexistent"),
        dataplane=NoDataPlane(),
        kernel=KeptKernel(keeper, netlink),
        on_publish=publish,
        prefixes=(ip_network("10.255.255.0/24"),),
    )


async def _seconds(what: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await what()
    return time.perf_counter() - began


def _shell(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measured(**json.loads(sys.argv[1])))))
