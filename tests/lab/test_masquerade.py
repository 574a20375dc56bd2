"""Masquerading between real nodes, by both tools and in both families: what a stranger outside sees, what others do to
the firewall, and what is left of ours when it is to go."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-masquerade")]

TOOLS = ("nft", "iptables")
PORT = 4711
PAIRS = (("n1/p1", "n2/p1"), ("n2/p1", "n1/p1"))
MEND_S = 2.0
"""What is promised."""
WITHIN_S = 20.0
"""Ten times that, for machines under load; the figure is recorded."""
FLUSHES = 10
OURS = ("tulle-masq", "TULLE-POSTRTG")

SEND_FROM = """
import socket
with socket.socket({family}, socket.SOCK_DGRAM) as opened:
    opened.bind(("{source}", 0))
    opened.sendto(b"x", ("{target}", {port}))
"""
FAMILIES = {4: "socket.AF_INET", 6: "socket.AF_INET6"}


@pytest.fixture(scope="module", params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(tool: str, make_lab: Callable[..., Lab]) -> Lab:
    """Two nodes whose rules that tool writes."""
    for program in ("nft", "iptables-nft", "iptables-legacy"):
        if shutil.which(program) is None:
            pytest.fail(f"these tests need {program}: apt install nftables iptables")
    made = make_lab(nodes=2, pods=1, family="dual", name=f"masq-{tool}", tulled_args=("--ip-masq",))
    if made.status("n1")["components"]["masquerade"]["tool"] != tool:
        text = json.dumps({**made.plan.network_config(), "EnableNFTables": tool == "nft"})
        words = [sys.executable, "-m", "tulle.cli.main", "config", "set", "-", *made.plan.store_args()]
        made.run("switch", words, input=text)
        for node in made.plan.node_names:
            restart(made, node)
        made.wait_ready()
    assert made.status("n1")["components"]["masquerade"]["tool"] == tool
    return made


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    """n1 at work: what an earlier test took down is started again."""
    for name in lab.plan.node_names:
        if lab.tulled_pid(name) is None:
            lab.start_tulled(name)
    lab.wait_ready()
    return hands(lab)


def restart(lab: Lab, node: str, *more: str) -> None:
    if lab.tulled_pid(node) is not None:
        lab.kill_tulled(node, signal.SIGTERM)
    lab.start_tulled(node, more)


def sh(lab: Lab, place: str, line: str) -> str:
    return lab.run(place, ["sh", "-ec", line]).stdout


def rules(lab: Lab, node: str) -> str:
    """Of every tool, without numbers of packets."""
    saves = "; ".join(f"ip{six}tables-{kind}-save" for six in ("", "6") for kind in ("nft", "legacy"))
    return sh(lab, node, rf"nft -s list ruleset; ({saves}) | sed -e '/^#/d' -e 's/\[[0-9:]*\]//'")


def ours(lab: Lab, node: str) -> bool:
    return any(word in rules(lab, node) for word in OURS)


def masquerades(lab: Lab, node: str) -> bool:
    """Rules for both families are there."""
    text = rules(lab, node)
    by_iptables = "10.42.0.0/16 ! -d 224.0.0.0/4" in text and "fd42::/48 ! -d ff00::/8" in text
    by_nft = "10.42.0.0/16 ip daddr != 224.0.0.0/4" in text and "fd42::/48 ip6 daddr != ff00::/8" in text
    return by_iptables or by_nft


def seen(node: Any, place: str, target: str, send: Callable[[], object]) -> set[str]:
    """Source addresses of what arrives for that address at a place, of one datagram that `send` sends."""
    prefix = f"{target}/{ip_address(target).max_prefixlen}"
    with node.capture(place, link="", within=[prefix], outer=PORT) as finish:
        send()
        lines = finish()
    return {source(bytes.fromhex(one["packet"])) for one in lines}


def source(packet: bytes) -> str:
    return str(ip_address(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]))


def send(node: Any, place: str, target: str) -> Callable[[], object]:
    return lambda: node.wire(place, do="udp", to=[target, PORT], payload="00")


@pytest.mark.parametrize("family", [4, 6])
def test_outside_a_pods_packets_come_from_its_node(lab: Lab, node: Any, family: int) -> None:
    outside = lab.address("switch", family)
    assert seen(node, "switch", outside, send(node, "n1/p1", outside)) == {lab.address("n1", family)}
    assert lab.ping("n1/p1", "switch", 1, family=family) == 1


@pytest.mark.parametrize("family", [4, 6])
def test_between_pods_they_come_from_the_pod(lab: Lab, node: Any, family: int) -> None:
    there = lab.address("n2/p1", family)
    assert seen(node, "n2/p1", there, send(node, "n1/p1", there)) == {lab.address("n1/p1", family)}
    assert lab.ping_all(1, family=family) == dict.fromkeys(PAIRS, 1)


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_sees_who_asks_from_outside(lab: Lab, node: Any, family: int) -> None:
    (subnet,) = [one for one in lab.status("n1")["subnets"] if ip_network(one).version == family]
    route = f"{subnet} via {lab.address('n1', family)}"
    pod, stranger = lab.address("n1/p1", family), lab.address("switch", family)
    sh(lab, "switch", f"ip -{family} route add {route}")
    try:
        assert seen(node, "n1/p1", pod, send(node, "switch", pod)) == {stranger}
    finally:
        sh(lab, "switch", f"ip -{family} route del {route}")


@pytest.mark.parametrize("family", [4, 6])
def test_a_nodes_own_address_does_not_reach_pods_of_others_unmasqueraded(
    lab: Lab, node: Any, family: int
) -> None:
    """Else the answer would take another way back."""
    pod, own = lab.address("n2/p1", family), lab.address("n1", family)
    program = SEND_FROM.format(family=FAMILIES[family], source=own, target=pod, port=PORT)
    found = seen(node, "n2/p1", pod, lambda: lab.run("n1", [sys.executable, "-c", program]))
    assert found
    subnets = [ip_network(one) for one in lab.status("n1")["subnets"]]
    assert all(any(ip_address(one) in subnet for subnet in subnets) for one in found), found


def test_subnet_env_tells_the_bridge_not_to_masquerade(lab: Lab, node: Any) -> None:
    assert "FLANNEL_IPMASQ=true\n" in lab.read_file("n1", "/run/flannel/subnet.env")
    written = node.tulle("n1", "docker-opts", "-d", "-").stdout
    assert 'DOCKER_OPT_IPMASQ="--ip-masq=false"\n' in written
    assert f"--bip={lab.nets['n1'].gateways[0]}" in written


def test_after_flushes_all_is_back_within_two_seconds(
    lab: Lab, node: Any, tool: str, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    took: list[float] = []
    before = lab.status("n1")["mends"]
    for _ in range(FLUSHES):
        sh(lab, "n1", "nft flush ruleset")
        begun = time.monotonic()
        eventually(lambda: masquerades(lab, "n1"), WITHIN_S)
        took.append(time.monotonic() - begun)
    say(
        f"mended after nft flush ruleset, {tool}",
        f"{max(took):.2f} s at most of {FLUSHES}, promised {MEND_S:g} s",
    )
    assert lab.status("n1")["mends"] >= before + FLUSHES
    assert lab.ping("n1/p1", "switch", 1) == 1


FOREIGN = """
iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 -m comment --comment 'of docker' -j MASQUERADE
ip6tables-nft -t nat -A POSTROUTING -s fd17::/64 -j MASQUERADE
iptables-nft -P FORWARD DROP
iptables-nft -A FORWARD -i docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-legacy -t nat -A POSTROUTING -s 172.18.0.0/16 -j RETURN
ip6tables-legacy -t nat -L >/dev/null
nft add table inet theirs
nft add chain inet theirs f '{ type filter hook forward priority 5; policy drop; }'
nft add rule inet theirs f ct state established accept comment theirs
"""
WIPED = "nft flush ruleset; iptables-legacy -t nat -F"


def test_down_leaves_nothing_of_ours_and_foreign_rules_to_the_letter(lab: Lab, node: Any, tool: str) -> None:
    """tulled itself takes the one tool's away, and the command those of the other, since tulled is dead."""
    node.tulle("n1", "down")
    assert not ours(lab, "n1")
    sh(lab, "n1", FOREIGN)
    try:
        before = rules(lab, "n1")
        lab.start_tulled("n1")
        lab.wait_ready()
        assert ours(lab, "n1")
        if tool == "iptables":
            lab.kill_tulled("n1")
        done = node.tulle("n1", "down")
        assert rules(lab, "n1") == before
        assert "removed" in done.stdout
        assert any(word in done.stdout for word in OURS), done.stdout
    finally:
        sh(lab, "n1", WIPED)


def test_rules_outlive_tulled_and_nothing_is_written_when_it_comes_back(lab: Lab, node: Any) -> None:
    listing = "nft -sa list ruleset"
    lab.kill_tulled("n1")
    before = sh(lab, "n1", listing)
    assert lab.ping("n1/p1", "switch", 1) == 1
    lab.start_tulled("n1")
    lab.wait_ready()
    assert sh(lab, "n1", listing) == before  # the handles too: no rule was made anew


def test_flags_that_are_taken_back_take_their_rules_with_them(lab: Lab, node: Any) -> None:
    restart(lab, "n1", "--ip-masq=false", "--ip-blackhole-route")
    try:
        lab.wait_ready()
        assert not ours(lab, "n1")
        assert lab.ping("n1/p1", "switch", 1) == 0  # nobody knows the way back to a pod
        assert "FLANNEL_IPMASQ=false\n" in lab.read_file("n1", "/run/flannel/subnet.env")
        assert set(blackholes(node)) == set(lab.status("n1")["subnets"])
        assert lab.ping("n2/p1", "n1/p1", 1) == 1
    finally:
        restart(lab, "n1")
        lab.wait_ready()
    assert ours(lab, "n1")
    assert blackholes(node) == []


def blackholes(node: Any) -> list[str]:
    return [one["destination"] for one in node.routes("n1") if one["kind"] == "blackhole"]
