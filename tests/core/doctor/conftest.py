"""A node to examine: what a healthy tulled would have said of it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle import __version__
from tulle.contracts.backend import Peer
from tulle.contracts.doctor import DoctorContext

MakeContext = Callable[..., DoctorContext]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """`make_context(device="", ...)`: n1 of a cluster of two, with differences."""

    def make(**different: Any) -> DoctorContext:
        base = DoctorContext(
            node="n1",
            run_dir=tmp_path / "run",
            state_dir=tmp_path / "state",
            subnet_file=tmp_path / "subnet.env",
            status={
                "node": "n1",
                "version": __version__,
                "ready": True,
                "not_ready_because": [],
                "problems": [],
                "dataplane": {"engine": "python", "forwarder_pid": 7},
            },
            store_at="memory (of the test)",
            prefix="/coreos.com/network",
            networks=(ip_network("10.42.0.0/16"),),
            subnets=(ip_network("10.42.1.0/24"),),
            peers=(
                Peer(
                    key="10.42.2.0-24",
                    node="n2",
                    prefixes=(ip_network("10.42.2.0/24"),),
                    endpoints=(ip_address("192.0.2.2"),),
                    backend="",
                ),
            ),
            link="eth0",
            device="tulle0",
            port=8285,
            overhead_bytes={4: 28, 6: 48},
        )
        return msgspec.structs.replace(base, **different)

    return make


@pytest.fixture
def context(make_context: MakeContext) -> DoctorContext:
    return make_context()
