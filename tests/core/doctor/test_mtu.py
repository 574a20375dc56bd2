"""MTUs that must fit each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.mtu import judge_bridges, judge_subnet_env, judge_tunnel


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
