"""What can happen to a cluster, each as a block: it lasts as long as the block, and its cause is gone behind it.

`KINDS` has them all. One that is `harmless` must not be noticed by pods that talk; all others may cut the traffic as
long as they last and for RECOVERY_S behind it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_interface
from typing import NamedTuple

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER, RUN_DIR, SUBNET_FILE, SWITCH
from tulle.lab.stores import start_etcd
from tulle.testing.faults.links import address_changed, link_down
from tulle.testing.faults.processes import frozen, kill

UPLINK, DEVICE = "eth0", "tulle0"
OTHER_HOST = 100
"""Added to a node's host number where its address changes."""
DAMAGES = ("rm {0}", ": > {0}", "echo FLANNEL_MTU=1 > {0}", "head -c 40 /dev/urandom > {0}", "chmod 0 {0}")


class Scene(NamedTuple):
    """Where it happens."""

    lab: Lab
    node: str
    rng: random.Random

    def sh(self, script: str) -> None:
        self.lab.run(self.node, ["sh", "-c", script])


Happens = Callable[[Scene], AbstractContextManager[None]]


class Kind(NamedTuple):
    """One kind of fault."""

    name: str
    happens: Happens
    harmless: bool = False
    works: bool = False
    """Traffic has to come back while it lasts, too."""
    store: bool = False
    """It happens to the store: two of these cannot happen at once."""
    momentary: bool = False
    """Its cause is gone at once."""
    learned: bool = False
    """The other nodes have to learn of it: that works where nothing else is broken as long as it lasts."""


@contextmanager
def tulled_killed(scene: Scene) -> Iterator[None]:
    scene.lab.kill_tulled(scene.node, scene.rng.choice((signal.SIGKILL, signal.SIGTERM)))
    yield
    scene.lab.start_tulled(scene.node)


@contextmanager
def forwarder_killed(scene: Scene) -> Iterator[None]:
    scene.lab.kill_forwarder(scene.node)
    yield


@contextmanager
def tulled_frozen(scene: Scene) -> Iterator[None]:
    pid = scene.lab.tulled_pid(scene.node)
    assert pid
    with frozen(pid):
        yield


@contextmanager
def forwarder_frozen(scene: Scene) -> Iterator[None]:
    pid = scene.lab.forwarder_pid(scene.node)
    assert pid
    with frozen(pid):
        yield


@contextmanager
def node_restarted(scene: Scene) -> Iterator[None]:
    """All of its processes end at once; what lies in its memory (/run, the kernel's state) is gone, its disk stays."""
    node, lab = scene.node, scene.lab
    lab.kill_tulled(node)
    lab.kill_forwarder(node)
    scene.sh(f"rm -rf {RUN_DIR} {os.path.dirname(SUBNET_FILE)}")
    for family in ("-4", "-6"):
        scene.sh(f"ip {family} route flush proto {RTPROT_TULLE} || true")
    yield
    lab.start_tulled(node)


def etcd_pid(lab: Lab) -> int:
    (pid,) = [one.pid for one in lab.residents() if one.argv[0].endswith("/etcd")]
    return pid


@contextmanager
def store_killed(scene: Scene) -> Iterator[None]:
    kill(etcd_pid(scene.lab))
    yield
    start_etcd(scene.lab)


@contextmanager
def store_frozen(scene: Scene) -> Iterator[None]:
    with frozen(etcd_pid(scene.lab)):
        yield


@contextmanager
def store_restarted(scene: Scene) -> Iterator[None]:
    kill(etcd_pid(scene.lab), signal.SIGTERM)
    start_etcd(scene.lab)
    yield


@contextmanager
def uplink_flaps(scene: Scene) -> Iterator[None]:
    """Down and up some times, and down for the rest."""
    for _ in range(scene.rng.randrange(3)):
        with link_down(scene.lab, scene.node, UPLINK):
            time.sleep(scene.rng.uniform(0.0, 0.3))
    with link_down(scene.lab, scene.node, UPLINK):
        yield


@contextmanager
def cable_pulled(scene: Scene) -> Iterator[None]:
    with link_down(scene.lab, SWITCH, f"to-{scene.node}"):
        yield


@contextmanager
def address_changes(scene: Scene) -> Iterator[None]:
    """Of one family, while it lasts; the node's peers have to learn it."""
    family = scene.rng.choice(scene.lab.plan.families)
    old = next(one for one in scene.lab.plan.node_underlay(scene.node) if one.version == family)
    new = ip_interface(f"{old.ip + OTHER_HOST}/{old.network.prefixlen}")
    with address_changed(scene.lab, scene.node, str(old), str(new), UPLINK):
        yield


@contextmanager
def device_deleted(scene: Scene) -> Iterator[None]:
    scene.sh(f"ip link del {DEVICE}")
    yield


@contextmanager
def device_down(scene: Scene) -> Iterator[None]:
    scene.sh(f"ip link set {DEVICE} down")
    yield


@contextmanager
def device_bare(scene: Scene) -> Iterator[None]:
    scene.sh(f"ip addr flush dev {DEVICE}; ip link set {DEVICE} mtu {scene.rng.randrange(1280, 1400)}")
    yield


@contextmanager
def routes_removed(scene: Scene) -> Iterator[None]:
    for family in scene.lab.plan.families:
        scene.sh(f"ip -{family} route del {CLUSTER[family]} dev {DEVICE}")
    yield


@contextmanager
def subnet_env_damaged(scene: Scene) -> Iterator[None]:
    scene.sh(scene.rng.choice(DAMAGES).format(SUBNET_FILE))
    yield


@contextmanager
def run_dir_emptied(scene: Scene) -> Iterator[None]:
    scene.sh(f"rm -rf {RUN_DIR}/*")
    yield


KINDS = (
    Kind("tulled killed", tulled_killed, harmless=True),
    Kind("forwarder killed", forwarder_killed, works=True, momentary=True),
    Kind("tulled frozen", tulled_frozen, harmless=True),
    Kind("forwarder frozen", forwarder_frozen),
    Kind("node restarted", node_restarted),
    Kind("store killed", store_killed, harmless=True, store=True),
    Kind("store frozen", store_frozen, harmless=True, store=True),
    Kind("store restarted", store_restarted, harmless=True, store=True, momentary=True),
    Kind("uplink flaps", uplink_flaps),
    Kind("cable pulled", cable_pulled),
    Kind("address changed", address_changes, works=True, learned=True),
    Kind("device deleted", device_deleted, works=True, momentary=True),
    Kind("device down", device_down, works=True, momentary=True),
    Kind("device bare", device_bare, works=True, momentary=True),
    Kind("routes removed", routes_removed, works=True, momentary=True),
    Kind("subnet.env damaged", subnet_env_damaged, harmless=True, momentary=True),
    Kind("run directory emptied", run_dir_emptied, harmless=True, momentary=True),
)
