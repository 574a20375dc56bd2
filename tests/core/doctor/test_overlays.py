"""Other overlay networks on the node."""

from __future__ import annotations

from tulle.doctor.overlays import judge


def test_flanneld_on_the_same_node_is_an_error_and_others_are_warnings() -> None:
    found = judge({5: "flanneld", 6: "cilium-agent", 7: "sshd"}, ["eth0"])
    assert [(one.subject, one.severity) for one in found] == [
        ("flanneld", "error"),
        ("cilium-agent", "warning"),
    ]
    assert found[0].mend == "kill 5"


def test_an_interface_without_its_daemon_is_left_over() -> None:
    found = judge({}, ["eth0", "flannel.1", "flannel-v6.1", "cilium_host", "flannelish"])
    assert [one.mend for one in found] == [
        "ip link delete dev flannel.1",
        "ip link delete dev flannel-v6.1",
        "ip link delete dev cilium_host",
    ]


def test_an_interface_of_a_daemon_that_runs_is_not_named_twice() -> None:
    assert [one.subject for one in judge({5: "flanneld"}, ["flannel.1"])] == ["flanneld"]


def test_a_node_without_any_is_ok() -> None:
    assert [one.severity for one in judge({1: "init"}, ["eth0", "tulle0"])] == ["ok"]
