"""Every pod reaches every other pod, unchanged, whatever the store and the IP family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tulle.lab import Lab
from tulle.lab.plan import LabFamily
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.etcd]

MOVED_BYTES = {"etcd": 64 << 20, "sqlite": 8 << 20}
"""The stores differ in nothing that a packet meets; one of the two is enough for the long transfer."""


@pytest.mark.parametrize("family", ["4", "6", "dual"])
@pytest.mark.parametrize("store", ["etcd", "sqlite"])
def test_each_pod_of_three_nodes_reaches_each_pod_and_what_they_send_arrives_unchanged(
    registry: Registry, etcd_here: Path, store: str, family: LabFamily
) -> None:
    with Lab(nodes=3, pods=2, store=store, family=family, registry=registry) as lab:
        for version in lab.plan.families:
            answers = lab.ping_all(3, family=version)
            assert len(answers) == 6 * 5
            assert {pair: count for pair, count in answers.items() if count != 3} == {}
            moved = lab.transfer("n1/p1", "n3/p2", MOVED_BYTES[store], family=version)
            assert (moved.bytes, moved.unchanged) == (MOVED_BYTES[store], True)
            assert lab.transfer("n3/p2", "n2/p1", 8 << 20, family=version).unchanged


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_and_another_node_reach_each_other(two_nodes: Lab, family: int) -> None:
    """A node speaks to pods from its address on the tunnel device, and pods to that."""
    assert two_nodes.ping("n1", "n2/p1", 3, family=family) == 3
    assert two_nodes.ping("n2", "n1/p1", 3, family=family) == 3


@pytest.fixture(scope="module")
def two_nodes(registry: Registry) -> Iterator[Lab]:
    with Lab(nodes=2, pods=1, family="dual", registry=registry) as lab:
        yield lab
