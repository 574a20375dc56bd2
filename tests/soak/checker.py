"""What must hold whenever the cause of a fault is gone: each node has the subnet that it had, nobody has it twice,
routes and peers are those that there must be, and no process has more of anything than it needs."""

from __future__ import annotations

import base64
import json
import os
import time
from collections import Counter
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab, LabError
from tulle.lab.daemons import is_forwarder, is_ready, is_tulled
from tulle.lab.plan import SUBNET_FILE, SWITCH
from tulle.testing.etcd import find_etcd
from tulle.testing.faults.processes import resident_bytes

PREFIX = "/coreos.com/network"
DEVICE = "tulle0"
SETTLE_S = 20.0
"""For what comes by way of the store: a lease that a node wrote again, a peer's new address."""
POLL_S = 0.3
MORE_DESCRIPTORS = 12
"""Than a process had when it was first seen ready: connections to a store that comes and goes are some."""
MORE_BYTES = 32 << 20
LOG_LINES_A_STEP = 300
"""Of one tulled."""


class Life(NamedTuple):
    """A process, as it was when it was first seen after a check."""

    descriptors: int
    memory: int


class Checker:
    """Knows how a lab was when it was well; `violations` says what is not so now."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._nodes = lab.plan.node_names
        self._lives: dict[int, Life] = {}
        self._logged = dict.fromkeys(self._nodes, 0)
        self._subnets = {node: lab.status(node)["subnets"] for node in self._nodes}
        self._kernel = {node: kernel_state(lab, node) for node in self._nodes}
        self._files = {node: lab.read_file(node, SUBNET_FILE) for node in self._nodes}
        self.most_descriptors = 0
        """More than at the start of a process."""
        self.most_bytes = 0
        self.most_log_lines = 0
        self.ready_s = 0.0
        """How long the last check waited until nothing was wrong any more."""

    def violations(self) -> list[str]:
        """Empty as soon as all is well; what is wrong after SETTLE_S else. What can be true at once only (descriptors,
        memory, log) is looked at then."""
        began = time.monotonic()
        while True:
            try:
                wrong = [*self._nodes_wrong(), *self._store_wrong(), *self._processes_wrong()]
            except (LabError, OSError) as error:
                wrong = [f"cannot be asked: {error}"]
            if not wrong or time.monotonic() - began > SETTLE_S:
                self.ready_s = time.monotonic() - began
                return [*wrong, *self._growth()]
            time.sleep(POLL_S)

    # Nodes

    def _nodes_wrong(self) -> list[str]:
        found = []
        for node in self._nodes:
            status = self._lab.status(node)
            if not is_ready(status, len(self._nodes) - 1):
                found.append(f"{node} is not ready: {status['not_ready_because'] or status['doing']}")
            if status["subnets"] != self._subnets[node]:
                found.append(f"{node} has {status['subnets']}, it had {self._subnets[node]}")
            if (there := kernel_state(self._lab, node)) != self._kernel[node]:
                found.append(f"{node} has in its kernel {there}, it had {self._kernel[node]}")
            if (text := self._lab.read_file(node, SUBNET_FILE)) != self._files[node]:
                found.append(f"{SUBNET_FILE} of {node} says {text!r}, it said {self._files[node]!r}")
            found += [
                f"{node}: {one['code']} {one['subject']}: {one['message']}" for one in status["problems"]
            ]
            found += self._peers_wrong(node, status["peers"])
        return found

    def _peers_wrong(self, node: str, peers: list[dict[str, Any]]) -> list[str]:
        there = {one["node"]: (one["subnets"], sorted(one["endpoints"])) for one in peers}
        addresses = {other: self._underlay(other) for other in self._nodes}
        must = {other: (self._subnets[other], addresses[other]) for other in self._nodes if other != node}
        if len(peers) == len(there) and there == must:
            return []
        return [f"{node} has the peers {there}, there must be {must}"]

    def _underlay(self, node: str) -> list[str]:
        """A node's addresses as its kernel has them now."""
        (link,) = json.loads(self._lab.run(node, ["ip", "-json", "addr", "show", "dev", "eth0"]).stdout)
        return sorted(one["local"] for one in link["addr_info"] if one["scope"] == "global")

    # The store

    def _store_wrong(self) -> list[str]:
        leases, members = records(self._lab, "subnets"), records(self._lab, "members")
        found = []
        if len(leases) != len(self._nodes):
            found.append(f"the store has the leases {sorted(leases)} for {len(self._nodes)} nodes")
        nets = [(ip_network(part.replace("-", "/")), key) for key in leases for part in key.split("&")]
        for index, (net, key) in enumerate(nets):
            for other, other_key in nets[index + 1 :]:
                if net.version == other.version and net.overlaps(other):
                    found.append(f"the leases {key} and {other_key} overlap")
        owners = Counter(key for one in members.values() for key in one["value"]["Subnets"])
        if owners != Counter(leases.keys()):
            found.append(f"the member records name {dict(owners)}, the leases are {sorted(leases)}")
        found += [f"the lease {key} has no TTL" for key, one in leases.items() if not one["lease"]]
        for node in self._nodes:
            mine = members.get(node, {"value": {"Subnets": []}})["value"]["Subnets"]
            must = "&".join(one.replace("/", "-") for one in self._subnets[node])
            if mine != [must]:
                found.append(f"the member record of {node} names {mine}, it has {must}")
        return found

    # Processes

    def _processes_wrong(self) -> list[str]:
        found = []
        residents = self._lab.residents()
        for node in self._nodes:
            here = [one for one in residents if one.place.label == node]
            for what, wanted in (("tulled", is_tulled), ("forwarder", is_forwarder)):
                there = [one.pid for one in here if wanted(one.argv)]
                if len(there) != 1:
                    found.append(f"{node} has {len(there)} processes of {what}")
            others = [one.argv for one in here if not (is_tulled(one.argv) or is_forwarder(one.argv))]
            found += [f"{node} has a process more: {' '.join(one)}" for one in others]
        found += [f"a zombie is left by process {parent}" for parent in zombies(self._daemons())]
        return found

    def _daemons(self) -> list[int]:
        pids = []
        for node in self._nodes:
            pids += [pid for pid in (self._lab.tulled_pid(node), self._lab.forwarder_pid(node)) if pid]
        return pids

    def _growth(self) -> list[str]:
        found = []
        daemons = self._daemons()
        for pid in daemons:
            try:
                now = Life(len(os.listdir(f"/proc/{pid}/fd")), resident_bytes(pid))
            except OSError:
                continue  # it has just ended: the next check sees the next one
            first = self._lives.setdefault(pid, now)
            self.most_descriptors = max(self.most_descriptors, now.descriptors - first.descriptors)
            self.most_bytes = max(self.most_bytes, now.memory - first.memory)
            if now.descriptors - first.descriptors > MORE_DESCRIPTORS:
                found.append(f"process {pid} has {now.descriptors} descriptors, it had {first.descriptors}")
            if now.memory - first.memory > MORE_BYTES:
                found.append(f"process {pid} has {now.memory >> 20} MiB, it had {first.memory >> 20}")
        self._lives = {pid: life for pid, life in self._lives.items() if pid in daemons}
        for node in self._nodes:
            lines = len(self._lab.logs(node).splitlines())
            more, self._logged[node] = lines - self._logged[node], lines
            self.most_log_lines = max(self.most_log_lines, more)
            if more > LOG_LINES_A_STEP:
                found.append(f"{node} wrote {more} lines into its log")
        return found


def kernel_state(lab: Lab, node: str) -> list[str]:
    """The routes and the device of tulle, as texts."""
    found = []
    for family in lab.plan.families:
        words = ["ip", f"-{family}", "-json", "route", "show", "proto", str(RTPROT_TULLE)]
        for one in json.loads(lab.run(node, words).stdout or "[]"):
            found.append(
                f"{one.get('type', 'unicast')} {one['dst']} {one.get('dev', '')} {one.get('metric', 0)}"
            )
    (link,) = json.loads(lab.run(node, ["ip", "-json", "addr", "show", "dev", DEVICE]).stdout)
    found.append(f"{DEVICE} mtu {link['mtu']} {'up' if 'UP' in link['flags'] else 'down'}")
    found += [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"]
    return sorted(found)


def records(lab: Lab, room: str) -> dict[str, dict[str, Any]]:
    """What another client finds below `<prefix>/<room>/`: by the key's last part, value and lease. Raises LabError."""
    binaries = find_etcd()
    assert binaries is not None
    command = [str(binaries / "etcdctl"), "--endpoints", lab.plan.etcd_endpoint(), "--command-timeout=5s"]
    done = lab.run(
        SWITCH, ["env", "ETCDCTL_API=3", *command, "get", "--prefix", f"{PREFIX}/{room}/", "--write-out=json"]
    )
    found = {}
    for kv in json.loads(done.stdout).get("kvs", []):
        name = base64.b64decode(kv["key"]).decode().rpartition("/")[2]
        found[name] = {"value": json.loads(base64.b64decode(kv["value"])), "lease": kv.get("lease", 0)}
    return found


def zombies(parents: list[int]) -> list[int]:
    """The parents of processes that have ended and were not waited for, once for each."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) in parents:
            found.append(int(parent))
    return found
