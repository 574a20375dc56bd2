"""Stock `wg` on a live node: it shows all, and sets what is not the store's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tulle.lab import Lab
from tulle_wireguard.crypto import public_key
from tulle_wireguard.keytext import key_bytes, key_text

pytestmark = [
    pytest.mark.lab,
    pytest.mark.xdist_group("lab-wg-socket"),
    pytest.mark.skipif(
        shutil.which("wg") is None, reason="wireguard-tools is not installed; run make setup-dev"
    ),
]

DEVICES = {"tulle-wg": 4, "tulle-wg-v6": 6}
LAPTOP = key_text(public_key(bytes(range(32))))


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, backend="wireguard", family="dual")


class Stock:
    """`wg` on nodes of the lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(
        self, node: str, *words: str, check: bool = True, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return self._lab.run(node, ["wg", *words], check=check, **more)

    def dump(self, node: str, device: str = "tulle-wg") -> tuple[list[str], dict[str, list[str]]]:
        """The device's fields, the peers' by public key."""
        lines = [line.split("\t") for line in self(node, "show", device, "dump").stdout.splitlines()]
        return lines[0], {line[0]: line[1:] for line in lines[1:]}


@pytest.fixture
def wg(lab: Lab) -> Stock:
    lab.wait_ready()
    return Stock(lab)


def test_all_devices_are_shown_with_keys_peers_and_traffic(
    lab: Lab, wg: Stock, eventually: Callable[..., Any]
) -> None:
    for family in (4, 6):
        assert lab.ping("n1/p1", "n2/p1", 3, family=family) == 3
    assert sorted(wg("n1", "show", "interfaces").stdout.split()) == sorted(DEVICES)
    for device in DEVICES:
        ours, peers = wg.dump("n1", device)
        theirs, back = wg.dump("n2", device)
        assert ours[1] == key_text(public_key(key_bytes(ours[0])))
        assert list(peers) == [theirs[1]]
        assert list(back) == [ours[1]]
        _, endpoint, allowed, *_ = peers[theirs[1]]
        assert endpoint.rpartition(":")[2] == theirs[2]
        assert "," not in allowed
        # The counters come to tulled once a second.
        eventually(
            lambda device=device, theirs=theirs: int(wg.dump("n1", device)[1][theirs[1]][4]) >= 3 * 128
        )
        _, _, _, handshake, received, sent, _ = wg.dump("n1", device)[1][theirs[1]]
        assert int(handshake) > 0
        assert int(received) > 0
        assert int(sent) > 0


def test_what_the_store_owns_cannot_be_set(lab: Lab, wg: Stock) -> None:
    ours, peers = wg.dump("n1")
    (peer,) = peers
    for words in (
        ["listen-port", "1234"],
        ["peer", peer, "remove"],
        ["peer", peer, "persistent-keepalive", "5"],
        ["peer", LAPTOP, "allowed-ips", peers[peer][2]],
    ):
        refused = wg("n1", "set", "tulle-wg", *words, check=False)
        assert refused.returncode != 0
        assert "Operation not permitted" in refused.stderr
    after, same = wg.dump("n1")
    assert (after, list(same), same[peer][2]) == (ours, [peer], peers[peer][2])
    assert lab.ping("n1/p1", "n2/p1", 2) == 2


def test_what_is_shown_can_be_set_again(lab: Lab, wg: Stock) -> None:
    script = (
        "umask 077; wg showconf tulle-wg > $1 && wg syncconf tulle-wg $1 && wg setconf tulle-wg $1; rm $1"
    )
    before = wg.dump("n1")[0]
    lab.run("n1", ["sh", "-ec", script, "sh", "/run/wg-shown.conf"])
    assert wg.dump("n1")[0] == before


def test_a_peer_by_hand_and_a_mark_reach_the_forwarder(
    lab: Lab, wg: Stock, eventually: Callable[..., Any]
) -> None:
    words = [
        "peer",
        LAPTOP,
        "allowed-ips",
        "10.99.0.7/32",
        "endpoint",
        "192.0.2.99:9",
        "persistent-keepalive",
        "1",
    ]
    wg("n1", "set", "tulle-wg", "fwmark", "0x51", *words)
    try:
        # The forwarder asks it for a handshake by itself.
        eventually(lambda: int(wg.dump("n1")[1][LAPTOP][5]) >= 148)
        assert wg.dump("n1")[0][3] == "0x51"
        assert lab.ping("n1/p1", "n2/p1", 2) == 2
    finally:
        wg("n1", "set", "tulle-wg", "fwmark", "off", "peer", LAPTOP, "remove")
    assert LAPTOP not in wg.dump("n1")[1]


def test_the_socket_comes_back_with_a_tulled_that_was_killed(
    lab: Lab, wg: Stock, eventually: Callable[..., Any]
) -> None:
    before = wg.dump("n1")[0]
    lab.kill_tulled("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    eventually(lambda: wg("n1", "show", "tulle-wg", check=False).returncode == 0)
    eventually(lambda: wg.dump("n1")[1])
    assert wg.dump("n1")[0] == before


def test_another_key_of_the_node_is_shown(
    lab: Lab, wg: Stock, eventually: Callable[..., Any], hands: Any
) -> None:
    before = wg.dump("n2")[0][1]
    hands(lab).tulle("n2", "wireguard", "rotate-key")
    eventually(lambda: wg.dump("n2")[0][1] != before)
    fresh = wg.dump("n2")[0][1]
    eventually(lambda: fresh in wg.dump("n1")[1])
    assert lab.ping("n1/p1", "n2/p1", 2) == 2


def test_down_takes_away_the_sockets_of_a_tulled_that_was_killed(lab: Lab, wg: Stock) -> None:
    lab.kill_tulled("n2")
    try:
        paths = [f"/var/run/wireguard/{device}.sock" for device in DEVICES]
        told = lab.run("n2", [sys.executable, "-m", "tulle.cli.main", "doctor", "-o", "json"], check=False)
        left = [
            one["subject"]
            for one in json.loads(told.stdout)["findings"]
            if (one["check"], one["severity"]) == ("wireguard-sockets", "warning")
        ]
        assert left == paths
        done = lab.run("n2", [sys.executable, "-m", "tulle.cli.main", "down"])
        assert all(f"{path}: removed" in done.stdout.splitlines() for path in paths)
        assert lab.run("n2", ["ls", "/var/run/wireguard"]).stdout == ""
    finally:
        lab.start_tulled("n2")
        lab.wait_ready()
    assert sorted(wg("n2", "show", "interfaces").stdout.split()) == sorted(DEVICES)
    # Who has lost its sessions speaks first here: n1 would ask for new ones after 15 s of silence only.
    for family in (4, 6):
        assert lab.ping("n2/p1", "n1/p1", 3, family=family) == 3
