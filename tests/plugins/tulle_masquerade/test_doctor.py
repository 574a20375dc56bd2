"""What is said of our rules and of flannel's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle_masquerade.doctor import Seen, check, judge

Shell = Callable[[str], str]
OURS = frozenset({("inet", "tulle-masq")})


def status(**mine: Any) -> dict[str, Any]:
    return {"components": {"masquerade": {"masquerading": True, "tool": "nft", "refused": [], **mine}}}


def severities(seen: Seen, told: dict[str, Any] | None) -> list[str]:
    return [one.severity for one in judge(seen, told)]


def test_rules_that_a_running_tulled_keeps_are_no_finding() -> None:
    assert severities(Seen(OURS), status()) == []
    assert severities(Seen(saved={"iptables-nft": [":TULLE-POSTRTG - [0:0]"]}), status(tool="iptables")) == []


def test_rules_that_nobody_keeps_are_left_over() -> None:
    (found,) = judge(Seen(OURS), None)
    assert (found.severity, found.subject) == ("warning", "table inet tulle-masq")
    assert found.mend.startswith("tulle down")


def test_rules_that_are_missing_are_an_error() -> None:
    assert severities(Seen(), status()) == ["error"]
    assert severities(Seen(), status(masquerading=False)) == []


def test_a_drop_that_cannot_be_overruled_is_told_as_tulled_tells_it() -> None:
    (found,) = judge(Seen(OURS), status(refused=["chain inet theirs f drops what pods send"]))
    assert found.severity == "error"
    assert "inet theirs f" in found.what


@pytest.mark.parametrize("told", [{}, {"components": None}, {"components": {"masquerade": 5}}])
def test_a_status_of_another_shape_is_no_exception(told: dict[str, Any]) -> None:
    assert judge(Seen(OURS), told) == []


def test_flannels_tables_and_chains_come_with_the_commands_that_remove_them() -> None:
    lines = [
        ":FLANNEL-POSTRTG - [0:0]",
        '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
    ]
    found = judge(Seen(OURS | {("ip", "flannel-ipv4")}, {"iptables-nft": lines}), status())
    assert [one.mend for one in found] == [
        "nft delete table ip flannel-ipv4",
        'iptables-nft -t nat -D POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG; '
        "iptables-nft -t nat -F FLANNEL-POSTRTG; iptables-nft -t nat -X FLANNEL-POSTRTG",
    ]


def test_the_commands_do_remove_what_flannel_left(shell: Shell, tmp_path: Path) -> None:
    for kind in ("nft", "legacy"):
        shell(
            f"ip6tables-{kind} -t nat -N FLANNEL-POSTRTG; ip6tables-{kind} -t nat -A FLANNEL-POSTRTG -j RETURN"
        )
        shell(
            f"ip6tables-{kind} -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG"
        )
        shell(f"iptables-{kind} -N FLANNEL-FWD; iptables-{kind} -A FORWARD -j FLANNEL-FWD")
    shell("nft add table ip flannel-ipv4; nft add table ip6 flannel-ipv6")
    ctx = DoctorContext(node="n1", run_dir=tmp_path, state_dir=tmp_path, subnet_file=tmp_path / "subnet.env")
    found = asyncio.run(check(ctx))
    assert [one.severity for one in found] == ["warning"] * 6
    for one in found:
        shell(one.mend)
    assert [one.severity for one in asyncio.run(check(ctx))] == ["ok"]
