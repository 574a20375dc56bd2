"""A tulled of another version finds the forwarder of the old one and replaces it, and packets go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tulle import __version__
from tulle.lab import Lab
from tulle.lab.daemons import is_forwarder
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-upgrade")]

OLD_VERSION = "0.0.9"
OLD_TULLED = (
    *(sys.executable, "-c"),
    f"import tulle; tulle.__version__ = {OLD_VERSION!r}; from tulle.node.main import main; main()",
)
FLOOD_PACKETS = 12_000
FLOOD_RATE = 4_000.0


@pytest.fixture
def old(registry: Registry) -> Iterator[Lab]:
    """Its tulleds are of an old version; only their number differs."""
    with Lab(nodes=2, pods=1, tulled=OLD_TULLED, registry=registry) as lab:
        yield lab


@pytest.fixture
def new(old: Lab, registry: Registry) -> Lab:
    """The same lab; what is started by way of this one is of today's version."""
    return Lab.attach(old.plan.name, registry=registry)


def forwarders(lab: Lab) -> list[int]:
    """Of n1."""
    return [one.pid for one in lab.residents() if one.place.node == "n1" and is_forwarder(one.argv)]


def test_no_packet_is_lost_when_a_new_version_replaces_tulled_and_forwarder(
    old: Lab, new: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    forwarder, device = old.forwarder_pid("n1"), hands(old).links("n1")["tulle0"]
    assert old.status("n1")["version"] == OLD_VERSION
    with new.flood("n1/p1", "n2/p1", count=FLOOD_PACKETS, rate=FLOOD_RATE) as flood:
        time.sleep(0.5)
        old.kill_tulled("n1")
        new.start_tulled("n1")
        new.wait_ready()
        result = flood.finish()
    assert (result.sent, result.lost, result.duplicates) == (FLOOD_PACKETS, 0, 0), result
    assert new.status("n1")["version"] == __version__
    eventually(lambda: len(forwarders(new)) == 1)
    assert forwarders(new) != [forwarder]
    assert hands(new).links("n1")["tulle0"] == device


def test_no_packet_to_the_node_is_lost_either(old: Lab, new: Lab) -> None:
    with new.flood("n2/p1", "n1/p1", count=FLOOD_PACKETS, rate=FLOOD_RATE) as flood:
        time.sleep(0.5)
        old.kill_tulled("n1")
        new.start_tulled("n1")
        new.wait_ready()
        assert flood.finish().lost == 0
