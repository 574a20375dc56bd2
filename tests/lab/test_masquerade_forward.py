"""Accept rules in chains of others that drop, between real nodes; connections of subnets that have gone; what doctor
says of all that."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-masquerade-forward")]

PORT = 4711
SETTLES_S = 2.0
"""What is promised."""
WITHIN_S = 20.0
"""Ten times that, for machines under load."""
STORE = (sys.executable, str(Path(__file__).with_name("store.py")))
STRANGER, STRANGERS_POD = "10.42.250.0-24", "10.42.250.9"
"""A lease that a hand writes into the store."""
MARKED = "tulle-masq:40424765"
"""The accept rule for what comes from 10.42.0.0/16."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    for program in ("nft", "iptables-nft", "iptables-legacy"):
        if shutil.which(program) is None:
            pytest.fail(f"these tests need {program}: apt install nftables iptables")
    return make_lab(nodes=2, pods=1, family="dual", tulled_args=("--ip-masq",))


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    """Both at work: what an earlier test took down is started again."""
    for name in lab.plan.node_names:
        if lab.tulled_pid(name) is None:
            lab.start_tulled(name)
    lab.wait_ready()
    return hands(lab)


def restart(lab: Lab, node: str, *more: str) -> None:
    lab.kill_tulled(node, signal.SIGTERM)
    lab.start_tulled(node, more)
    lab.wait_ready()


def sh(lab: Lab, place: str, line: str) -> str:
    return lab.run(place, ["sh", "-ec", line]).stdout


def rules(lab: Lab, node: str) -> str:
    """Of every tool, without numbers of packets."""
    saves = "; ".join(f"ip{six}tables-{kind}-save" for six in ("", "6") for kind in ("nft", "legacy"))
    return sh(lab, node, rf"nft -s list ruleset; ({saves}) | sed -e '/^#/d' -e 's/\[[0-9:]*\]//'")


def datagram(node: Any, place: str, target: str) -> None:
    node.wire(place, do="udp", to=[target, PORT], payload="00")


POLICIES = {
    "nft": (
        "nft 'table inet fw {{ chain f {{ type filter hook forward priority 0; policy {policy}; }}; }}'",
        "nft delete table inet fw",
    ),
    "iptables-nft": ("iptables-nft -P FORWARD {policy}; ip6tables-nft -P FORWARD {policy}", ""),
    "iptables-legacy": ("iptables-legacy -P FORWARD {policy}; ip6tables-legacy -P FORWARD {policy}", ""),
}


def findings(node: Any, *checks: str) -> list[dict[str, Any]]:
    words = [word for one in checks for word in ("--check", one)]
    asked = node.tulle("n1", "doctor", *words, "-o", "json", check=False)
    return list(json.loads(asked.stdout)["findings"])


@contextmanager
def dropping(lab: Lab, node: str, firewall: str) -> Iterator[None]:
    """A FORWARD that drops, and none afterwards."""
    text, gone = POLICIES[firewall]
    sh(lab, node, text.format(policy="drop" if firewall == "nft" else "DROP"))
    try:
        yield
    finally:
        sh(lab, node, gone or text.format(policy="ACCEPT"))


@pytest.mark.parametrize("firewall", POLICIES)
def test_beside_a_forward_that_drops_pods_talk_and_it_is_as_it_was_afterwards(
    lab: Lab, node: Any, eventually: Callable[..., Any], firewall: str
) -> None:
    with dropping(lab, "n1", firewall):
        pass  # what tables there will be is there before we look
    eventually(lambda: MARKED not in rules(lab, "n1"), WITHIN_S)
    before = rules(lab, "n1")
    with dropping(lab, "n1", firewall):
        for family in (4, 6):
            eventually(lambda: lab.ping("n1/p1", "n2/p1", 1, family=family), WITHIN_S)  # noqa: B023
            assert lab.ping("n2/p1", "n1/p1", 1, family=family) == 1
            assert lab.ping("n1/p1", "switch", 1, family=family) == 1
        found = rules(lab, "n1")
        assert "accept comment" in found or "-j ACCEPT" in found
        assert "drop" in found.lower()  # nobody has touched the policy
        assert [one["severity"] for one in findings(node, "firewall", "masquerade")] == ["ok", "ok"]
    eventually(lambda: rules(lab, "n1") == before, WITHIN_S)


def test_without_the_flag_the_same_forward_cuts_the_pods_off(lab: Lab, node: Any) -> None:
    """So the test before shows what it says."""
    restart(lab, "n1", "--iptables-forward-rules=false")
    with dropping(lab, "n1", "iptables-nft"):
        time.sleep(SETTLES_S)
        assert lab.ping("n1/p1", "n2/p1", 1) == 0
        assert "error" in [one["severity"] for one in findings(node, "firewall")]
    restart(lab, "n1")


def test_beside_docker_the_rules_stand_in_the_chain_that_it_leaves_to_users(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    sh(lab, "n1", "iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN")
    sh(lab, "n1", "iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP")
    try:
        eventually(lambda: lab.ping("n1/p1", "n2/p1", 1), WITHIN_S)
        forward = sh(lab, "n1", "iptables-nft -S FORWARD; iptables-nft -S DOCKER-USER").splitlines()
        assert [line for line in forward if "tulle" in line and "-A FORWARD" in line] == []
        assert "tulle-masq" in forward[forward.index("-N DOCKER-USER") + 1]
        sh(
            lab, "n1", "iptables-nft -F DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN"
        )  # as docker restarts
        eventually(lambda: "tulle-masq" in sh(lab, "n1", "iptables-nft -S DOCKER-USER"), WITHIN_S)
    finally:
        sh(lab, "n1", "iptables-nft -P FORWARD ACCEPT; iptables-nft -F FORWARD")
    eventually(lambda: "tulle-masq" not in sh(lab, "n1", "iptables-nft -S DOCKER-USER"), WITHIN_S)
    sh(lab, "n1", "iptables-nft -F DOCKER-USER; iptables-nft -X DOCKER-USER")


TRACKED = """
import asyncio
from tulle.kernel import conntrack
from tulle.kernel.rtsocket import RouteSocket
async def tracked():
    kernel = RouteSocket(conntrack.NETLINK_NETFILTER)
    bodies = [body for family in (4, 6) for body in await kernel.dump(conntrack.list_all(family))]
    kernel.close()
    print(" ".join(sorted({str(one) for body in bodies for one in conntrack.addresses(body)})))
asyncio.run(tracked())
"""


def tracked(lab: Lab, node: str) -> Sequence[str]:
    return lab.run(node, [sys.executable, "-c", TRACKED]).stdout.split()


def test_connections_of_a_subnet_that_has_gone_are_forgotten(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    lease = {"PublicIP": "192.0.2.99", "PublicIPv6": None}

    def known() -> bool:
        return STRANGER in [key for one in lab.status("n1")["peers"] for key in [one["key"]]]

    lab.run("n1", [*STORE, "put", f"subnets/{STRANGER}", json.dumps(lease)])
    eventually(known, WITHIN_S)
    others = [lab.address("n2/p1", 4), lab.address("n2/p1", 6), lab.address("switch", 4)]
    for target in (STRANGERS_POD, *others):
        datagram(node, "n1/p1", target)
    assert {STRANGERS_POD, *others} <= set(tracked(lab, "n1"))
    lab.run("n1", [*STORE, "delete", f"subnets/{STRANGER}"])
    eventually(lambda: STRANGERS_POD not in tracked(lab, "n1"), WITHIN_S)
    assert set(others) <= set(tracked(lab, "n1"))


def test_doctor_names_what_flannel_left_and_what_a_dead_tulled_left(lab: Lab, node: Any) -> None:
    sh(
        lab,
        "n1",
        "iptables-nft -t nat -N FLANNEL-POSTRTG; iptables-nft -t nat -A POSTROUTING -j FLANNEL-POSTRTG",
    )

    (found,) = findings(node, "masquerade")
    assert "FLANNEL-POSTRTG" in found["subject"]
    sh(lab, "n1", found["mend"].partition("#")[0])
    assert [one["severity"] for one in findings(node, "masquerade")] == ["ok"]
    lab.kill_tulled("n1")
    (found,) = findings(node, "masquerade")
    assert found["severity"] == "warning"
    assert found["subject"] == "table inet tulle-masq"
