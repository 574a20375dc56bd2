"""What the data path needs of the kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from tulle.contracts.backend import Family
from tulle.doctor.kernel import gro_error, judge_batches, judge_ipv6, judge_tun, open_error


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.ENOENT, "modprobe tun"), (errno.ENODEV, "modprobe tun"), (errno.EACCES, "sudo tulle doctor")],
)
def test_a_tun_that_cannot_be_opened_has_its_own_advice(number: int, mend: str) -> None:
    found = judge_tun(OSError(number, os.strerror(number)))
    assert found.severity == "error"
    assert found.mend.startswith(mend)


def test_a_tun_that_opens_is_ok() -> None:
    assert judge_tun(None).severity == "ok"


@pytest.mark.parametrize(
    ("families", "everywhere", "on_link", "severity", "mend"),
    [
        ((4,), None, None, "ok", ""),
        ((4, 6), "0", "0", "ok", ""),
        ((6,), None, None, "error", "cat /proc/cmdline"),
        ((6,), "1", "0", "error", "sysctl -w net.ipv6.conf.all.disable_ipv6=0"),
        ((4, 6), "0", "1", "error", "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0"),
    ],
)
def test_ipv6_matters_where_the_cluster_has_it(
    families: Collection[Family], everywhere: str | None, on_link: str | None, severity: str, mend: str
) -> None:
    found = judge_ipv6(families, everywhere, "eth0", on_link)
    assert found.severity == severity
    assert found.mend.startswith(mend)


def test_missing_batches_cost_speed_only() -> None:
    assert judge_batches([], None).severity == "ok"
    found = judge_batches(["UDP_SEGMENT is off: EIO"], OSError(errno.ENOPROTOOPT, "not available"))
    assert found.severity == "warning"
    assert "UDP_SEGMENT is off" in found.what
    assert "UDP_GRO" in found.what


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert isinstance(open_error(tmp_path / "none"), FileNotFoundError)
    (tmp_path / "there").touch()
    assert open_error(tmp_path / "there") is None


def test_this_kernel_takes_udp_gro() -> None:
    assert gro_error() is None
