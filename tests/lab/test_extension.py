"""extension between real nodes: an operator's script carries the packets, and is run when it is needed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-extension")]

HERE = Path(__file__).parent
STORE = (sys.executable, str(HERE / "store.py"))
STRANGER = "10.42.250.0-24"
"""A lease that a hand writes into the store: the switch's subnet."""
CALLS = "/run/calls"
STATIC = 4  # linux/rtnetlink.h: the script's routes
MTU = 1480
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    commands = {
        "PreStartupCommand": "pre",
        "PostStartupCommand": "post",
        "SubnetAddCommand": "add",
        "SubnetRemoveCommand": "remove",
        "ShutdownCommand": "shutdown",
    }
    options = {name: f"sh '{HERE / 'extension.sh'}' {word}" for name, word in commands.items()}
    return make_lab(
        nodes=3, pods=1, family="dual", backend="extension", backend_options={**options, "MTU": MTU}
    )


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]) -> Any:
    lab.wait_ready()
    eventually(lambda: lab.status("n1")["backend"]["added_peers"] == 2)
    return hands(lab)


def talk(lab: Lab) -> bool:
    return all(answers == 1 for family in (4, 6) for answers in lab.ping_all(family=family).values())


def calls(lab: Lab, name: str) -> list[str]:
    return lab.run(name, ["cat", CALLS]).stdout.splitlines()


def put(lab: Lab, data: str) -> None:
    value = {"PublicIP": "192.0.2.254", "PublicIPv6": None, "BackendType": "extension", "BackendData": data}
    lab.run("n1", [*STORE, "put", f"subnets/{STRANGER}", json.dumps(value)])


def delete(lab: Lab) -> None:
    lab.run("n1", [*STORE, "delete", f"subnets/{STRANGER}"])


def script_routes(node: Any, name: str) -> set[str]:
    """Beside the lab's default routes."""
    found = {one["destination"] for one in node.routes(name, STATIC)}
    return {one for one in found if not one.startswith("any/")}


def test_the_script_carries_the_packets(lab: Lab, node: Any) -> None:
    assert talk(lab)
    result = lab.transfer("n1/p1", "n2/p1", 4 << 20)
    assert result.unchanged
    assert [lab.forwarder_pid(name) for name in lab.plan.node_names] == [None] * 3
    assert lab.nets["n1"].mtu == MTU
    assert lab.status("n1")["problems"] == []


def test_the_commands_were_told_what_flannels_are_told(lab: Lab, node: Any) -> None:
    subnets = {name: lab.status(name)["subnets"][0] for name in lab.plan.node_names}
    pre, post, *peers = calls(lab, "n2")[:4]
    assert pre == "pre   "
    assert post == f"post {subnets['n2']} 192.0.2.2 key of n2"
    assert sorted(peers) == sorted(
        f"add {subnets[name]} {lab.address(name)} key of {name}" for name in ("n1", "n3")
    )


def test_the_lease_holds_what_pre_printed_as_flannels_does(lab: Lab, node: Any) -> None:
    key = lab.status("n1")["store"]["lease"]["key"].rpartition("/")[2]
    lease = json.loads(lab.run("n1", [*STORE, "get", f"subnets/{key}"]).stdout)
    assert (lease["BackendType"], lease["BackendData"]) == ("extension", "key of n1")


@pytest.mark.parametrize("wait_s", [2, 0.5], ids=["later", "soon"])
def test_a_killed_tulled_runs_nothing_again_and_loses_no_packet(lab: Lab, node: Any, wait_s: float) -> None:
    lab.run("n1", ["sleep", str(wait_s)])
    before = calls(lab, "n1")
    with lab.flood("n1/p1", "n2/p1", count=4000, rate=4000.0) as flood:
        lab.kill_tulled("n1")
        lab.start_tulled("n1")
        lab.wait_ready()
        assert flood.finish().lost == 0
    assert calls(lab, "n1") == before


def test_a_tulled_that_is_ended_right_after_a_command_remembers_that(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    put(lab, "text")
    try:
        eventually(lambda: lab.status("n1")["backend"]["added_peers"] == 3, WITHIN_S)
        lab.kill_tulled("n1", signal.SIGTERM)
        before = calls(lab, "n1")
        lab.start_tulled("n1")
        lab.wait_ready()
        assert calls(lab, "n1") == before
    finally:
        delete(lab)
    eventually(lambda: lab.status("n1")["backend"]["added_peers"] == 2, WITHIN_S)
    eventually(lambda: "10.42.250.0/24" not in script_routes(node, "n1"), WITHIN_S)


def test_what_a_peer_says_is_never_a_part_of_a_command(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    data = "$(touch /run/pwned) `touch /run/pwned` '; touch /run/pwned #"
    put(lab, data)
    try:
        expected = f"add 10.42.250.0/24 192.0.2.254 {data}"
        eventually(lambda: expected in calls(lab, "n1"), WITHIN_S)
        assert "10.42.250.0/24" in script_routes(node, "n1")
        assert not node.exists("n1", "/run/pwned")
    finally:
        delete(lab)
    eventually(lambda: f"remove 10.42.250.0/24 192.0.2.254 {data}" in calls(lab, "n1"), WITHIN_S)
    assert "10.42.250.0/24" not in script_routes(node, "n1")
    assert not node.exists("n1", "/run/pwned")


def test_a_command_that_fails_is_named_tried_again_and_stops_nobody(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    def failing() -> list[str]:
        found = lab.status("n1")["problems"]
        return [
            one["message"] for one in found if (one["code"], one["subject"]) == ("command-failed", STRANGER)
        ]

    lab.run("n1", ["touch", "/run/broken"])
    put(lab, "text")
    try:
        (message,) = eventually(failing, WITHIN_S)
        assert "SubnetAddCommand for 10.42.250.0/24 ended with status 1: the lab says it is broken" in message
        assert talk(lab)
        lab.run("n1", ["rm", "/run/broken"])
        eventually(lambda: "10.42.250.0/24" in script_routes(node, "n1"), WITHIN_S)
        eventually(lambda: not failing(), WITHIN_S)
    finally:
        lab.run("n1", ["rm", "-f", "/run/broken"])
        delete(lab)
    eventually(lambda: "10.42.250.0/24" not in script_routes(node, "n1"), WITHIN_S)


def test_down_runs_what_takes_all_away_and_a_start_begins_anew(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    known = len(calls(lab, "n3"))
    assert len(script_routes(node, "n3")) == 4
    node.tulle("n3", "down")
    words = [line.split()[0] for line in calls(lab, "n3")[known:]]
    assert words == ["remove", "remove", "shutdown"]
    assert script_routes(node, "n3") == set()
    assert not node.exists("n3", "/var/lib/tulle/extension.json")
    lab.start_tulled("n3")
    lab.wait_ready()
    eventually(lambda: talk(lab), WITHIN_S)
    words = [line.split()[0] for line in calls(lab, "n3")[known + 3 :]]
    assert (words[:2], sorted(words[2:])) == (["pre", "post"], ["add", "add"])
