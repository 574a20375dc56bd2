"""tulled is killed and started again: the kernel is told nothing, as long as nothing differs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-nothing-flaps")]

MARK = "198.51.100.0/24"
"""A route that the test makes and removes: what the monitors heard between its two changes is all there was."""
OF_ITSELF = re.compile(r"\b(REACHABLE|STALE|DELAY|PROBE|INCOMPLETE|FAILED|NOARP)\b")
"""States that the kernel gives to ordinary neighbours by itself (NUD_* of linux/neighbour.h); ours are PERMANENT."""
PODS_BRIDGE = re.compile(r"^(\d+: )?(cni0|to-p\d+@\S+): ")
"""Its own news come a second after the lab has made it; it is not tulle's."""
WITHIN_S = 20.0
MONITORS = (
    ("ip", "-o", "monitor", "link", "address", "route", "neigh", "rule"),
    ("bridge", "monitor", "fdb"),
)


@contextmanager
def monitors(lab: Lab, name: str) -> Iterator[Callable[[], list[str]]]:
    """What the kernel tells of changes there; what it gives ends that and returns the lines."""
    running = [
        lab.popen(name, ["stdbuf", "-oL", *words], stdout=subprocess.PIPE, text=True) for words in MONITORS
    ]
    try:
        time.sleep(0.5)  # until they listen; that they did, the mark shows

        def finish() -> list[str]:
            time.sleep(0.5)  # what was told last is read
            lines = []
            for one in running:
                one.terminate()
                output, _ = one.communicate(timeout=WITHIN_S)
                lines += output.splitlines()
            return lines

        yield finish
    finally:
        for one in running:
            one.kill()
            one.communicate()


@pytest.mark.parametrize("backend", ["vxlan", "udp", "host-gw"])
def test_nothing_changes_in_the_kernel_when_tulled_is_killed_and_started_again(
    make_lab: Callable[..., Lab], backend: str
) -> None:
    lab = make_lab(nodes=3, pods=1, family="dual", backend=backend)
    lab.wait_ready()
    assert set(lab.ping_all(1).values()) == {1}  # neighbours that are learnt by traffic are known now
    forwarder = lab.forwarder_pid("n1")
    with monitors(lab, "n1") as changes:
        lab.run("n1", ["ip", "route", "add", MARK, "dev", "eth0"])
        for _ in range(2):
            lab.kill_tulled("n1")
            lab.start_tulled("n1")
            lab.wait_ready()
        time.sleep(2.0)  # a look at the kernel, and one at the node's files, lie in it
        lab.run("n1", ["ip", "route", "del", MARK])
        heard = [line.strip() for line in changes() if line.strip()]
    told = [line for line in heard if not OF_ITSELF.search(line) and not PODS_BRIDGE.search(line)]
    assert [line.split()[:2] for line in told] == [[MARK, "dev"], ["Deleted", MARK]], told
    assert lab.forwarder_pid("n1") == forwarder
    assert lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n3/p1", family=6) == 1


def test_a_change_is_heard(make_lab: Callable[..., Lab], eventually: Callable[..., bool]) -> None:
    """Else the test above could not fail: an entry of each kind is taken away, and its return is told."""
    lab = make_lab(nodes=3, pods=1, family="dual", backend="vxlan")
    lab.wait_ready()
    neighbours = ["ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"]

    def entry() -> list[str]:
        return lab.run("n1", neighbours).stdout.split()

    address, mac = entry()[0], entry()[2]
    with monitors(lab, "n1") as changes:
        lab.run("n1", ["ip", "neigh", "del", address, "dev", "flannel.1"])
        shown = lab.run("n1", ["bridge", "fdb", "show", "dev", "flannel.1"]).stdout.splitlines()
        outer = next(line.split()[2] for line in shown if line.startswith(f"{mac} dst "))
        lab.run("n1", ["bridge", "fdb", "del", mac, "dev", "flannel.1", "dst", outer])
        eventually(lambda: lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n3/p1") == 1)
        eventually(
            lambda: f"{mac} dst" in lab.run("n1", ["bridge", "fdb", "show", "dev", "flannel.1"]).stdout
        )
        eventually(lambda: address in entry())
        heard = [line for line in changes() if not OF_ITSELF.search(line)]
    assert any(line.startswith(f"{address} ") and "PERMANENT" in line for line in heard), heard
    assert any(mac in line and f"dst {outer}" in line and "Deleted" not in line for line in heard), heard
