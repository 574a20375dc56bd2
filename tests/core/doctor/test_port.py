"""Who has the backend's port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.port import bound, check, judge
from tulle.kernel.holders import Holder

OURS, THIEF = Holder("tulle-forwarder", 7), Holder("nc", 9)


@pytest.mark.parametrize(
    ("holders", "is_bound", "running", "severity", "mend"),
    [
        ([OURS], True, True, "ok", ""),
        ([], False, False, "ok", ""),
        ([THIEF], True, False, "error", "kill 9 "),
        ([OURS, THIEF], True, True, "error", "kill 9 "),
        ([], True, True, "error", "ip -d link show type vxlan"),
        ([], False, True, "error", "tulle status"),
    ],
)
def test_the_port_is_the_forwarders_alone(
    holders: Sequence[Holder], is_bound: bool, running: bool, severity: str, mend: str
) -> None:
    (found,) = judge(8285, holders, {7}, is_bound, running)
    assert found.severity == severity
    assert found.mend.startswith(mend)


def test_a_port_that_the_kernel_has_for_our_own_device_is_ours() -> None:
    (found,) = judge(8472, [], (), True, True, "flannel.1")
    assert (found.severity, found.what) == ("ok", "is held by the kernel, for flannel.1")


def test_a_backend_without_a_port_is_skipped() -> None:
    assert judge(0, [], (), False, True)[0].severity == "skipped"


def test_each_port_is_looked_at(make_context: Callable[..., DoctorContext]) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free,
    ):
        taken.bind(("::1", 0))
        free.bind(("127.0.0.1", 0))
        ports = free.getsockname()[1], taken.getsockname()[1]
        found = asyncio.run(check(make_context(port=ports[0], ports=ports)))
        assert [one.subject for one in found] == [f"port {one}/udp" for one in ports]
        assert {one.severity for one in found} == {"error"}


def test_a_bound_port_is_seen_in_the_kernels_table() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert bound(port)
