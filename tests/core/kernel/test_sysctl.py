"""Forwarding: set, remembered, put back; on a directory that stands for /proc/sys and on the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.kernel.sysctl import IP6_FORWARD, IP_FORWARD, Old, apply, forwarding, restore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key, value in {
        IP_FORWARD: "0",
        IP6_FORWARD: "0",
        "net/ipv6/conf/eth0/accept_ra": "1",
        "net/ipv6/conf/eth0.7/accept_ra": "0",
    }.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text(f"{value}\n")
    return tmp_path


def test_only_the_families_in_use_are_forwarded(root: Path) -> None:
    assert forwarding([4], "eth0", root) == {IP_FORWARD: "1"}
    assert set(forwarding([6], "eth0", root)) == {IP6_FORWARD, "net/ipv6/conf/eth0/accept_ra"}


def test_router_advertisements_go_on_being_accepted_only_where_they_were(root: Path) -> None:
    assert forwarding([6], "eth0", root)["net/ipv6/conf/eth0/accept_ra"] == "2"
    assert forwarding([6], "eth0.7", root) == {IP6_FORWARD: "1"}
    assert forwarding([6], "absent", root) == {IP6_FORWARD: "1"}


def test_accept_ra_is_changed_before_forwarding_turns_it_off(root: Path) -> None:
    assert list(forwarding([6], "eth0", root))[-1] == IP6_FORWARD


def test_what_was_applied_stays_wanted_and_is_not_applied_twice(root: Path) -> None:
    wanted = forwarding([4, 6], "eth0", root)
    first = apply(wanted, {}, root)
    assert first.changed == (
        "net.ipv4.ip_forward was 0, set to 1",
        "net.ipv6.conf.eth0.accept_ra was 1, set to 2",
        "net.ipv6.conf.all.forwarding was 0, set to 1",
    )
    assert forwarding([4, 6], "eth0", root) == wanted
    second = apply(wanted, first.remembered, root)
    assert (second.changed, second.problems, second.remembered) == ((), (), first.remembered)


def test_drift_is_set_again_and_the_first_value_stays_remembered(root: Path) -> None:
    wanted = {IP_FORWARD: "1"}
    first = apply(wanted, {}, root)
    (root / IP_FORWARD).write_text("2")
    second = apply(wanted, first.remembered, root)
    assert second.changed == ("net.ipv4.ip_forward was 2, set to 1",)
    assert second.remembered == {IP_FORWARD: Old("0", "1")}


def test_what_is_remembered_survives_json_and_is_put_back(root: Path) -> None:
    applied = apply(forwarding([4, 6], "eth0", root), {}, root)
    kept = msgspec.json.decode(msgspec.json.encode(applied.remembered), type=dict[str, Old])
    assert sorted(restore(kept, root)) == [
        "net.ipv4.ip_forward: put back to 0",
        "net.ipv6.conf.all.forwarding: put back to 0",
        "net.ipv6.conf.eth0.accept_ra: put back to 1",
    ]
    assert (root / IP_FORWARD).read_text() == "0"
    assert restore(kept, root) == []


def test_what_somebody_changed_since_is_left_alone(root: Path) -> None:
    applied = apply({IP_FORWARD: "1"}, {}, root)
    (root / IP_FORWARD).write_text("5")
    assert restore(applied.remembered, root) == []


def test_a_missing_family_is_a_problem_that_names_it(tmp_path: Path) -> None:
    applied = apply({IP6_FORWARD: "1"}, {}, tmp_path)
    (problem,) = applied.problems
    assert problem.code == "sysctl-refused"
    assert "no IPv6" in problem.message
    assert (applied.changed, applied.remembered) == ((), {})


def test_an_unwritable_value_is_a_problem_that_gives_the_command(root: Path) -> None:
    (root / IP_FORWARD).unlink()
    (root / IP_FORWARD).mkdir()  # reads and writes fail, for root too
    (problem,) = apply({IP_FORWARD: "1"}, {}, root).problems
    assert problem.subject == "net.ipv4.ip_forward"


def test_the_dot_of_a_vlan_is_written_as_sysctl_takes_it(root: Path) -> None:
    applied = apply({"net/ipv6/conf/eth0.7/accept_ra": "2"}, {}, root)
    assert applied.changed == ("net.ipv6.conf.eth0/7.accept_ra was 0, set to 2",)


@pytest.mark.lab
def test_on_a_real_kernel_interfaces_that_forwarded_before_still_do_after_the_restore(netns: Any) -> None:
    netns.ip("link add x0 type veth peer name x1")
    conf = Path("/proc/sys/net")

    def values() -> list[str]:
        keys = ["ipv4/ip_forward", "ipv4/conf/x0/forwarding", "ipv4/conf/x1/forwarding"]
        keys += ["ipv6/conf/all/forwarding", "ipv6/conf/x0/forwarding", "ipv6/conf/x0/accept_ra"]
        return [(conf / key).read_text().strip() for key in keys]

    def scenario() -> None:
        (conf / "ipv4/ip_forward").write_text("0")
        (conf / "ipv6/conf/all/forwarding").write_text("0")
        (conf / "ipv4/conf/x0/forwarding").write_text("1")
        (conf / "ipv6/conf/x0/accept_ra").write_text("1")
        before = values()
        assert before == ["0", "1", "0", "0", "0", "1"]
        applied = apply(forwarding([4, 6], "x0"), {})
        assert applied.problems == ()
        assert values() == ["1", "1", "1", "1", "1", "2"]
        assert apply(forwarding([4, 6], "x0"), applied.remembered).changed == ()
        restore(applied.remembered)
        assert values() == before

    netns.call(scenario)
