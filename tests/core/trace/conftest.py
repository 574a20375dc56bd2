"""A node of a cluster of two, and the way of a packet from it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Peer
from tulle.contracts.doctor import DoctorContext
from tulle.kernel.state import Way
from tulle.kernel.underlay import LocalLink
from tulle.lab.namespaces import CLONE_NEWNET, unshare
from tulle.trace.target import resolve
from tulle.trace.way import Seen

MakeContext = Callable[..., DoctorContext]
MakeSeen = Callable[..., Seen]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """`make_context(device="", ...)`: n1, dual stack, with a tulled that runs; with differences."""

    def make(**different: Any) -> DoctorContext:
        base = DoctorContext(
            node="n1",
            run_dir=tmp_path,
            state_dir=tmp_path,
            subnet_file=tmp_path / "subnet.env",
            status={
                "dataplane": {
                    "engine": "python",
                    "engine_because": "the only one installed",
                    "forwarder_pid": 7,
                }
            },
            prefix="/p",
            networks=(ip_network("10.42.0.0/16"), ip_network("fd42::/48")),
            subnets=(ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64")),
            peers=(
                Peer(
                    key="10.42.2.0-24&fd42:0:0:2::-64",
                    node="n2",
                    prefixes=(ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64")),
                    endpoints=(ip_address("2001:db8::2"), ip_address("192.0.2.2")),
                    backend="",
                ),
                Peer(
                    key="10.42.2.128-25",
                    node="n3",
                    prefixes=(ip_network("10.42.2.128/25"),),
                    endpoints=(ip_address("192.0.2.3"),),
                    backend="",
                ),
            ),
            backend="udp",
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


@pytest.fixture
def make_seen(context: DoctorContext) -> MakeSeen:
    """`make_seen("10.42.2.5", way=..., ...)`: all as it is where nothing is wrong, with differences."""

    def make(destination: str = "10.42.2.5", *, ctx: DoctorContext = context, **different: Any) -> Seen:
        base = Seen(
            ctx=ctx,
            target=resolve(destination, ctx, None, ()),
            way=Way(
                "unicast",
                "tulle0",
                source=ip_address("10.42.1.0"),
                rule='"10.42.0.0/16 dev tulle0" (proto tulle)',
            ),
            links={
                "tulle0": LocalLink("tulle0", 5, 1472, True, ours=True),
                "eth0": LocalLink("eth0", 2, 1500, True),
                "cni0": LocalLink("cni0", 6, 1472, True),
            },
            endpoint=ip_address("192.0.2.2"),
            outer=Way("unicast", "eth0", rule='"192.0.2.0/24 dev eth0" (proto kernel)'),
            lease_left="expires in 23.9 h",
        )
        return msgspec.structs.replace(base, **different)

    return make


@pytest.fixture
def inside() -> Iterator[Callable[..., Any]]:
    """`inside(function)` calls it in a network namespace with loopback alone, `inside(script)` runs it by sh there."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")

        def run(work: Callable[[], Any] | str) -> Any:
            if isinstance(work, str):
                return thread.submit(subprocess.run, ["sh", "-ec", work], check=True, timeout=30).result()
            return thread.submit(work).result()

        run("ip link set lo up")
        yield run
