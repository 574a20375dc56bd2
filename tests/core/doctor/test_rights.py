"""Capabilities, by the mask in /proc/PID/status."""

from __future__ import annotations

from pathlib import Path

from tulle.doctor.rights import NEEDED, NET_BIND_SERVICE, NICE, effective, judge

ALL = (1 << 41) - 1


def test_all_capabilities_are_enough() -> None:
    (found,) = judge(ALL, "tulled (pid 5)", 8285)
    assert found.severity == "ok"


def test_each_missing_capability_is_named() -> None:
    for number, (name, _) in NEEDED.items():
        (found,) = judge(ALL & ~(1 << number), "tulled (pid 5)", 8285)
        assert (found.severity, found.what) == ("error", f"lacks {name}")
    for number, (name, _) in NICE.items():
        (found,) = judge(ALL & ~(1 << number), "tulled (pid 5)", 8285)
        assert (found.severity, found.what) == ("warning", f"lacks {name}")


def test_binding_low_ports_matters_for_low_ports_only() -> None:
    mask = ALL & ~(1 << NET_BIND_SERVICE)
    assert [one.severity for one in judge(mask, "this command", 8285)] == ["ok"]
    assert [one.what for one in judge(mask, "this command", 443)] == ["lacks CAP_NET_BIND_SERVICE"]


def test_the_advice_depends_on_whose_they_are() -> None:
    assert judge(0, "this command", 0)[0].mend == "sudo tulle doctor"
    assert judge(0, "tulled (pid 5)", 0)[0].mend.startswith("systemctl edit tulled")


def test_the_mask_is_read_from_the_kernels_text() -> None:
    assert effective("Name:\tx\nCapEff:\t000001ffffffffff\n") == ALL
    assert effective("Name:\tx\n") is None
    assert effective(Path("/proc/self/status").read_text()) is not None


def test_what_cannot_be_read_is_skipped() -> None:
    assert [one.severity for one in judge(None, "tulled", 0)] == ["skipped"]
