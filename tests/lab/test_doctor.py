"""`tulle doctor` in a lab: each thing is broken, its finding is looked for, and is gone after the printed command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.inside import stop
from tulle.lab.registry import Registry

pytestmark = pytest.mark.lab

Findings = list[dict[str, Any]]
NODE = "n1"


@pytest.fixture(scope="module")
def lab(registry: Registry) -> Iterator[Lab]:
    """tulled is told to leave chains of others alone: else it mends what doctor is to find."""
    flags = ("--iptables-forward-rules=false",)
    with Lab(nodes=2, pods=1, family="dual", registry=registry, tulled_args=flags) as made:
        yield made


def sh(lab: Lab, script: str, *, node: str = NODE, check: bool = True) -> str:
    return lab.run(node, ["sh", "-ec", script], check=check).stdout


def examine(lab: Lab, *words: str, node: str = NODE) -> dict[str, Any]:
    """What `tulle doctor -o json` prints, with its exit status checked against it."""
    done = lab.run(
        node, [sys.executable, "-m", "tulle.cli.main", "doctor", "-o", "json", *words], check=False
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["errors"] else 0), done.stderr
    return report


def problems(lab: Lab, check: str, *words: str, node: str = NODE) -> Findings:
    found: Findings = examine(lab, "--check", check, *words, node=node)["findings"]
    assert {one["check"] for one in found} == {check}
    return [one for one in found if one["severity"] in ("warning", "error")]


def peer_subnet(lab: Lab) -> str:
    """n2's IPv4 subnet."""
    return str(next(one for one in lab.status("n2")["subnets"] if ":" not in one))


def test_a_healthy_node_has_neither_errors_nor_warnings_and_every_check_says_something(lab: Lab) -> None:
    report = examine(lab)
    assert [one for one in report["findings"] if one["severity"] in ("warning", "error")] == []
    assert len({one["check"] for one in report["findings"]}) >= 17
    assert (report["node"], report["errors"], report["warnings"]) == ("n1", 0, 0)


BREAKS = {
    "forwarding is off": (
        "forwarding",
        "sysctl -qw net.ipv4.conf.tulle0.forwarding=0",
        "net.ipv4.conf.tulle0.forwarding",
        "sysctl -qw net.ipv4.conf.tulle0.forwarding=1",
    ),
    "the bridge's MTU is too large": (
        "mtu",
        "ip link set cni0 mtu 1500",
        "cni0",
        "ip link set cni0 mtu 1472",
    ),
    "a forward chain drops by policy": (
        "firewall",
        "nft 'add table inet other; add chain inet other forw { type filter hook forward priority 0; policy drop; }'",
        "chain inet other forw",
        "nft delete table inet other",
    ),
    "an input chain drops the backend's port": (
        "firewall",
        "nft 'add table ip other; add chain ip other in { type filter hook input priority 0; }';"
        "nft add rule ip other in udp dport 8000-9000 counter drop",
        "chain ip other in",
        "nft delete table ip other",
    ),
    "a jump leads to a reject": (
        "firewall",
        "nft 'add table inet other; add chain inet other no; add rule inet other no ip daddr 10.42.0.0/16 reject';"
        "nft 'add chain inet other forw { type filter hook forward priority 5; }';"
        "nft add rule inet other forw oifname tulle0 ct state new jump no",
        "chain inet other forw",
        "nft delete table inet other",
    ),
    "a foreign route takes a peer's pods": (
        "leftovers",
        "ip route add {peer} dev eth0",
        "{peer}",
        "ip route del {peer} dev eth0 2>/dev/null || true",
    ),
    "strict reverse path filter with a way back elsewhere": (
        "rp-filter",
        "sysctl -qw net.ipv4.conf.tulle0.rp_filter=1; ip route add {peer} dev eth0",
        "tulle0",
        "sysctl -qw net.ipv4.conf.tulle0.rp_filter=0; ip route del {peer} dev eth0",
    ),
    "an interface of flannel is left": (
        "overlays",
        "ip link add flannel.1 type vxlan id 1 dstport 8472 dev eth0",
        "flannel.1",
        "ip link del flannel.1 2>/dev/null || true",
    ),
    "IPv6 is off on the underlay": (
        "kernel",
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        "net.ipv6.conf.eth0.disable_ipv6",
        "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; ip -6 addr replace 2001:db8::1/64 dev eth0 nodad",
    ),
    "the underlay is down": (
        "underlay",
        "ip link set eth0 down",
        "eth0",
        "ip link set eth0 up; ip route replace default via 192.0.2.254;"
        "ip -6 addr replace 2001:db8::1/64 dev eth0 nodad; ip -6 route replace default via 2001:db8::fe",
    ),
}
"""Name -> check, what breaks it, the finding's subject, what cleans up whatever happens."""


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_thing_is_found_and_the_printed_command_mends_it(lab: Lab, name: str) -> None:
    check, breaking, subject, clean = (text.replace("{peer}", peer_subnet(lab)) for text in BREAKS[name])
    assert problems(lab, check) == []
    sh(lab, breaking)
    try:
        found = [one for one in problems(lab, check) if one["subject"] == subject]
        assert found, f"no finding about {subject}"
        assert all(one["why"] and one["mend"] for one in found)
        for one in found:
            sh(lab, one["mend"])
        assert problems(lab, check) == []
    finally:
        sh(lab, clean)


def test_a_node_whose_mtu_differs_is_named_with_both_numbers(lab: Lab, eventually: Any) -> None:
    """n2's tulled follows its narrower wire and tells the others, whose doctors compare."""
    assert problems(lab, "mtu") == []
    (own,) = {lab.status(name)["backend"]["mtu"] for name in lab.plan.node_names}
    sh(lab, "ip link set eth0 mtu 1400", node="n2")
    try:
        eventually(lambda: problems(lab, "mtu") != [])
        (found,) = problems(lab, "mtu")
        theirs = lab.status("n2")["backend"]["mtu"]
        assert theirs < own
        assert (found["severity"], found["subject"]) == ("warning", "n2")
        assert found["what"] == f"pods there have MTU {theirs}, pods of this node {own}"
    finally:
        sh(lab, "ip link set eth0 mtu 1500", node="n2")
    eventually(lambda: problems(lab, "mtu") == [])


def test_a_process_called_flanneld_is_found_and_ended_by_the_printed_command(lab: Lab) -> None:
    program = sh(lab, "cp $(command -v sleep) /run/flanneld; echo /run/flanneld").strip()
    process = lab.popen(NODE, [program, "1000"])
    try:
        found = wait_for(lambda: problems(lab, "overlays"))
        assert (found[0]["subject"], found[0]["severity"]) == ("flanneld", "error")
        sh(lab, found[0]["mend"])
        process.wait(10)
        assert problems(lab, "overlays") == []
    finally:
        stop(process)


def test_a_second_forwarder_of_another_version_is_found(lab: Lab) -> None:
    words = ["tulle-forwarder", "/run/tulle", "--fingerprint", "tulle 0.0.1, engine old, encapsulation udp"]
    process = lab.popen(NODE, [sys.executable, "-c", "import time; time.sleep(1000)", *words])
    try:
        found = wait_for(lambda: problems(lab, "forwarder"))
        said = " ".join(one["what"] for one in found)
        assert "a second forwarder" in said
        assert "tulle 0.0.1" in said
        sh(lab, next(one["mend"] for one in found if "second" in one["what"]))
        process.wait(10)
        assert problems(lab, "forwarder") == []
    finally:
        stop(process)


def test_a_missing_tun_device_is_found(lab: Lab) -> None:
    sh(lab, "mount -t tmpfs none /dev/net")
    try:
        (found,) = problems(lab, "kernel")
        assert (found["subject"], found["mend"]) == ("/dev/net/tun", "modprobe tun")
    finally:
        sh(lab, "umount /dev/net")
    assert problems(lab, "kernel") == []


def test_a_full_state_directory_is_found(lab: Lab) -> None:
    sh(lab, "mount -t tmpfs -o size=1m none /var/lib/tulle")
    try:
        (found,) = problems(lab, "disk")
        assert found["severity"] == "error"
        assert "1 MiB free" in found["what"]
    finally:
        sh(lab, "umount /var/lib/tulle")
    assert problems(lab, "disk") == []


def test_a_command_without_rights_says_which_are_missing(lab: Lab) -> None:
    doctor = f"{sys.executable} -m tulle.cli.main doctor -o json --check rights --run-dir /run/nobody"
    without = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin"
    report = json.loads(sh(lab, f"{without} {doctor} || true"))
    assert [one["what"] for one in report["findings"]] == ["lacks CAP_NET_ADMIN"]


def test_a_store_that_does_not_answer_is_a_finding_and_the_other_checks_go_on(lab: Lab) -> None:
    report = examine(lab, "--store", "sqlite", "--sqlite-file", "/proc/nothing/store.sqlite")
    errors = [one for one in report["findings"] if one["severity"] == "error"]
    assert {one["check"] for one in errors} == {"store"}
    assert "/proc/nothing" in errors[0]["what"]
    assert any(one["check"] == "leases" and one["severity"] == "skipped" for one in report["findings"])


STORE = """
import sys
from tulle.cli.store import find_store
from tulle.contracts.store import Delete, Put
from tulle.plugins import load_plugins

access = find_store(load_plugins(), {})

async def main(store):
    word, key = sys.argv[1:]
    key = f"{access.prefix}/{key}"
    if word == "list":
        print([kv.key for kv in (await store.list(key)).items])
    else:
        value = b'{"PublicIP":"192.0.2.99","PublicIPv6":null}'
        await store.transact([], [Put(key, value) if word == "put" else Delete(key)])

access.run(main)
"""


def store(lab: Lab, word: str, key: str) -> str:
    """List, put a lease or delete, below the prefix."""
    return lab.run(NODE, [sys.executable, "-c", STORE, word, key]).stdout


def test_a_lease_that_overlaps_anothers_is_found(lab: Lab) -> None:
    subnet = peer_subnet(lab)
    key = subnet.replace("/24", "-25")
    store(lab, "put", f"subnets/{key}")
    try:
        (found,) = problems(lab, "leases")
        assert (found["severity"], found["subject"]) == ("error", key)
        assert "of n2" in found["what"]
        command, _, _ = found["mend"].partition("  #")
        sh(lab, f"{command} --yes")  # which a person is asked for
        assert problems(lab, "leases") == []
    finally:
        store(lab, "delete", f"subnets/{key}")
    assert problems(lab, "leases") == []


CLOCK = """
import asyncio, sys, time, msgspec
from tulle.cli.store import find_store
from tulle.doctor import clock
from tulle.doctor.survey import survey
from tulle.plugins import load_plugins

access = find_store(load_plugins(), {})
async def main(store):
    ctx = await survey(access.config, access.plugins, store, "")
    found = await clock.check(ctx, wall=lambda: time.time() + float(sys.argv[1]))
    print(msgspec.json.encode(found).decode())
access.run(main)
"""


@pytest.mark.parametrize(("shift_s", "said"), [(60.0, "60.0 s ahead of"), (-3600.0, "3600.0 s behind")])
def test_a_clock_that_is_off_is_found_by_asking_the_peers(lab: Lab, shift_s: float, said: str) -> None:
    """The kernel's clock is one for all nodes of a lab: this command's is shifted instead."""
    found = json.loads(lab.run(NODE, [sys.executable, "-c", CLOCK, str(shift_s)]).stdout)
    assert [one["severity"] for one in found] == ["error", "skipped"]
    assert said in found[0]["what"]


def test_a_key_of_the_probe_does_not_stay_in_the_store(lab: Lab) -> None:
    assert problems(lab, "store") == []
    assert store(lab, "list", "doctor/") == "[]\n"
    assert "n2" in store(lab, "list", "members/")


def test_without_a_tulled_it_says_so_and_checks_what_it_can(registry: Registry, eventually: Any) -> None:
    """From a killed tulled to a port that somebody else took, and back to health by what is printed."""
    with Lab(nodes=2, pods=0, registry=registry) as lab:
        lab.kill_tulled(NODE)
        (found,) = problems(lab, "tulled")
        assert found["severity"] == "error"
        sh(lab, "sed -i s/FLANNEL_MTU=.*/FLANNEL_MTU=9000/ /run/flannel/subnet.env")
        sh(lab, "ip route add 198.18.0.0/24 dev eth0 proto 116")
        expected = [("mtu", "/run/flannel/subnet.env"), ("leftovers", "198.18.0.0/24"), ("mtu", "eth0")]
        for check, subject in expected:
            if subject == "eth0":  # a tulled that runs follows the underlay's MTU by itself
                sh(lab, "ip link set eth0 mtu 1400")
            (found,) = problems(lab, check)
            assert found["subject"] == subject
            sh(lab, found["mend"])
            assert problems(lab, check) == []

        lab.kill_forwarder(NODE)
        said = {one["what"] for one in problems(lab, "leftovers")}
        assert any("unreachable" in one for one in said), said

        bound = "import socket, time; s = socket.socket(type=2); s.bind(('0.0.0.0', 8285)); time.sleep(1000)"
        thief = lab.popen(NODE, [sys.executable, "-c", bound], stdin=subprocess.DEVNULL)
        try:
            found = wait_for(lambda: problems(lab, "port"))[0]
            lab.start_tulled(NODE)
            eventually(lambda: any("8285" in one["what"] for one in problems(lab, "tulled")))
            sh(lab, found["mend"])
            thief.wait(10)
        finally:
            stop(thief)
        eventually(lambda: problems(lab, "tulled") == [])
        report = examine(lab)
        assert (report["errors"], report["warnings"]) == (0, 0), report["findings"]


def wait_for(ask: Callable[[], Findings]) -> Findings:
    """A program needs a moment to be there."""
    for _ in range(50):
        if found := ask():
            return found
    raise AssertionError("never found")
