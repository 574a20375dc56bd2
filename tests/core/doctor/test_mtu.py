"""MTUs that must fit each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.mtu import check, judge_bridges, judge_subnet_env, judge_tunnel, pods_mtu


@pytest.mark.parametrize(
    ("underlay", "severity"),
    [(1500, "ok"), (9000, "ok"), (1499, "warning"), (749, "error"), (None, "skipped")],
)
def test_tunnel_and_overhead_must_fit_the_underlay(
    context: DoctorContext, underlay: int | None, severity: str
) -> None:
    found = judge_tunnel(context, underlay, 1472, {4: 28})
    assert found.severity == severity
    if severity in ("warning", "error"):
        assert found.mend.startswith("ip link set dev eth0 mtu 1500 ")


def test_without_a_tunnel_there_is_nothing_to_compare(context: DoctorContext) -> None:
    assert judge_tunnel(context, 1500, None, {4: 28}).severity == "skipped"
    assert judge_tunnel(context, 1500, 1472, {}).severity == "skipped"


@pytest.mark.parametrize(
    ("text", "tunnel", "severity"),
    [
        ("FLANNEL_MTU=1472\n", 1472, "ok"),
        ("FLANNEL_MTU=1500\n", 1472, "warning"),
        ("FLANNEL_SUBNET=10.0.0.1/24\n", 1472, "warning"),
        (None, 1472, "warning"),
        ("FLANNEL_MTU=1500\n", None, "skipped"),
    ],
)
def test_subnet_env_must_say_what_the_tunnel_has(text: str | None, tunnel: int | None, severity: str) -> None:
    assert judge_subnet_env("/run/flannel/subnet.env", text, tunnel).severity == severity


@given(st.text(max_size=80))
def test_any_text_of_subnet_env_is_judged(text: str) -> None:
    assert judge_subnet_env("f", text, 1472).severity in ("ok", "warning")


def test_a_bridge_may_be_smaller_than_the_tunnel_but_not_larger(context: DoctorContext) -> None:
    links = {"tulle0": 1472}
    assert judge_bridges(context, {"cni0": 1472, "cni1": 1400}, links) == []
    (found,) = judge_bridges(context, {"cni0": 1500}, links)
    assert found.mend.startswith("ip link set dev cni0 mtu 1472")


def test_each_device_of_the_tunnel_is_looked_at_and_the_smallest_is_the_pods(
    make_context: Callable[..., DoctorContext],
) -> None:
    ctx = make_context(device="wg", devices=("wg", "wg-v6"))
    assert [one.subject for one in asyncio.run(check(ctx))][:2] == ["wg", "wg-v6"]
    links = {"wg": 1440, "wg-v6": 1420}
    assert pods_mtu(ctx, links) == 1420
    assert pods_mtu(ctx, {}) is None
    assert len(judge_bridges(ctx, {"cni0": 1440}, links)) == 1
    found = judge_tunnel(ctx, 1490, 1420, {6: 80}, "wg-v6")
    assert (found.severity, "full packets of wg-v6 need 1500" in found.what) == ("warning", True)
