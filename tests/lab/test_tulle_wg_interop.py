"""`tulle-wg` and the distribution's wireguard-go as each other's only peer: real processes, real TUNs, one wire."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab.wgnet import SOCKETS, Key, Net, net, wait_for
from tulle_wireguard.alone import FOLLOW_S

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-tulle-wg-interop")]

OURS, THEIRS = "a", "c"
INNER = {OURS: ("10.9.0.1", "fd09::1"), THEIRS: ("10.9.0.3", "fd09::3")}
PORTS = {OURS: 51821, THEIRS: 51823}
PSK, WRONG_PSK = "/run/psk", "/run/wrong-psk"
MB = 1 << 20
SILENT_S = 15.334
"""After this long without an answer a side asks for a new handshake (paper section 6.5, with the jitter)."""
SLOW_S = 10.0
"""For what is done in less than a second, on a machine that does other things."""
SCAN = """
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as probe:
    probe.bind(("", 0))
    for kind in (0, 1, 2, 3, 4, 5, 255):
        for size in (0, 1, 4, 32, 64, 92, 148, 149, 1400):
            body = (bytes([kind, 0, 0, 0]) + os.urandom(size))[:size]
            probe.sendto(body, (host, port))
    probe.settimeout(1.0)
    try:
        print("answered", probe.recv(2000).hex())
    except TimeoutError:
        print("silent")
"""


def other(host: str) -> str:
    return THEIRS if host == OURS else OURS


class Pair:
    """Ours on host a, theirs on host c."""

    def __init__(self, wires: Net, *, outer: int = 4, wire_mtu: int = 1500, mtu: int = 1420) -> None:
        self.net, self.outer, self.mtu = wires, outer, mtu
        self.keys = {host: Key(wires) for host in (OURS, THEIRS)}
        wires.run("", "sh", "-c", f"umask 077; wg genpsk > {PSK}; wg genpsk > {WRONG_PSK}")
        for host in (OURS, THEIRS):
            wires.host(host, wire_mtu)
            self.start(host)

    def start(self, host: str) -> None:
        """The program, and all but the peer."""
        (self.net.tulle_wg if host == OURS else self.net.wireguard_go)(host, f"wg-{host}")
        self.net.give_key(host, f"wg-{host}", self.keys[host].private)
        self.net.wg(host, "set", f"wg-{host}", "listen-port", str(PORTS[host]))
        four, six = INNER[host]
        addresses = [f"{four}/24", f"{six}/64"] if self.mtu >= 1280 else [f"{four}/24"]  # RFC 8200 section 5
        self.net.up(host, f"wg-{host}", *addresses, mtu=self.mtu)

    def know(self, host: str, *, endpoint: bool = True, psk: str = "", key: Key | None = None) -> None:
        """The host has the other one as its peer."""
        far = other(host)
        words = [
            "peer",
            (key or self.keys[far]).public,
            "allowed-ips",
            f"{INNER[far][0]}/32,{INNER[far][1]}/128",
        ]
        if endpoint:
            words += ["endpoint", self.endpoint(far)]
        if psk:
            words += ["preshared-key", psk]
        self.net.wg(host, "set", f"wg-{host}", *words)

    def endpoint(self, host: str) -> str:
        four, six = self.net.addresses[host]
        return f"{four}:{PORTS[host]}" if self.outer == 4 else f"[{six}]:{PORTS[host]}"

    def about(self, host: str) -> dict[str, Any]:
        """What `wg` says there of the other one."""
        names = ("psk", "endpoint", "allowed", "handshake", "received", "sent", "keepalive")
        ((_, found),) = self.net.dump(host, f"wg-{host}")[1].items()
        return dict(zip(names, found, strict=True))

    def ping(self, host: str, **how: Any) -> int:
        """Of the other one's addresses, how many answered."""
        there = INNER[other(host)] if self.mtu >= 1280 else INNER[other(host)][:1]
        return sum(self.net.ping(host, *there, **how).values())

    def stop(self, host: str) -> None:
        """As by a crash."""
        for name in (f"wg-{host}", f"/run/tulle-wg/wg-{host}"):
            for pid in self.net.processes(name):
                self.net.run("", "kill", "-9", str(pid))
        wait_for(lambda: self.net.run(host, "ip", "link", "show", f"wg-{host}", check=False).returncode)
        self.net.run("", "rm", "-f", f"{SOCKETS}/wg-{host}.sock")


MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair() -> Iterator[MakePair]:
    with ExitStack() as stack:
        yield lambda **how: Pair(stack.enter_context(net()), **how)


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    made = make_pair()
    for host in (OURS, THEIRS):
        made.know(host)
    return made


# --- handshakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "outer", "psk"), [(OURS, 4, ""), (OURS, 6, PSK), (THEIRS, 4, PSK), (THEIRS, 6, "")]
)
def test_both_families_pass_over_either_whoever_begins(
    make_pair: MakePair, first: str, outer: int, psk: str
) -> None:
    """The second one learns where the first is from what it hears."""
    pair = make_pair(outer=outer)
    pair.know(first, psk=psk)
    pair.know(other(first), endpoint=False, psk=psk)
    assert pair.ping(first, count=3) == 6
    assert pair.ping(other(first), count=3) == 6
    assert pair.about(other(first))["endpoint"] == pair.endpoint(first)


def test_with_different_preshared_keys_nothing_passes(make_pair: MakePair) -> None:
    pair = make_pair()
    pair.know(OURS, psk=PSK)
    pair.know(THEIRS, psk=WRONG_PSK)
    assert pair.ping(OURS, wait_s=1) == 0
    assert pair.ping(THEIRS, wait_s=1) == 0
    assert pair.about(OURS)["handshake"] == "0"


@pytest.mark.soak
def test_a_preshared_key_that_is_put_right_holds_for_the_next_handshake(make_pair: MakePair) -> None:
    pair = make_pair()
    pair.know(OURS, psk=PSK)
    pair.know(THEIRS, psk=WRONG_PSK)
    assert pair.ping(THEIRS, wait_s=1) == 0
    pair.know(THEIRS, psk=PSK)
    assert pair.net.reaches(THEIRS, INNER[OURS][0]) < SLOW_S


@pytest.mark.parametrize("host", [OURS, THEIRS])
def test_to_who_does_not_know_our_key_nothing_passes_and_he_says_nothing(
    make_pair: MakePair, host: str
) -> None:
    pair = make_pair()
    pair.know(host)
    pair.know(other(host), key=Key(pair.net))
    assert pair.ping(host, wait_s=1) == 0
    told = pair.about(host)
    assert int(told["sent"]) >= 148  # an initiation
    assert (told["received"], told["handshake"]) == ("0", "0")


@pytest.mark.parametrize("outer", [4, 6])
def test_a_scanner_gets_no_byte_back(make_pair: MakePair, outer: int) -> None:
    pair = make_pair(outer=outer)
    pair.know(OURS)
    pair.know(THEIRS)
    assert pair.ping(THEIRS) == 2
    address = pair.net.addresses[OURS][outer == 6]
    said = pair.net.run(THEIRS, sys.executable, "-c", SCAN, address, str(PORTS[OURS])).stdout.strip()
    assert said == "silent"
    assert pair.ping(THEIRS, count=2) == 4


@pytest.mark.parametrize("outer", [4, 6])
def test_replayed_datagrams_are_dropped_and_move_nobody(make_pair: MakePair, outer: int) -> None:
    """Handshakes and data, again from where they came and by a stranger, backwards."""
    pair = make_pair(outer=outer)
    pair.know(OURS)
    pair.know(THEIRS)
    wires = pair.net
    wires.host("stranger")
    with wires.capture(OURS, PORTS[OURS]) as captured:
        assert pair.ping(THEIRS, count=2) == 4
    start = (20 if outer == 4 else 40) + 8  # RFC 791, RFC 8200; RFC 768
    assert {packet[start] for packet in captured} >= {1, 4}
    before, told = wires.arrived(OURS, f"wg-{OURS}"), pair.about(OURS)
    to = [wires.addresses[OURS][outer == 6], PORTS[OURS]]
    for packet in reversed(captured):
        wires.wire(THEIRS, do="raw", packet=packet.hex())
        wires.wire("stranger", do="udp", to=to, payload=packet[start:].hex())
    after = pair.about(OURS)
    assert wires.arrived(OURS, f"wg-{OURS}") == before
    assert (after["endpoint"], after["handshake"]) == (told["endpoint"], told["handshake"])
    assert pair.ping(THEIRS, count=3) == 6


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [OURS, THEIRS])
def test_sixty_four_megabytes_arrive_unchanged(pair: Pair, sender: str) -> None:
    found = pair.net.stream(sender, other(sender), INNER[other(sender)][0], 64 * MB)
    assert found["unchanged"], found


@pytest.mark.parametrize(
    ("wire_mtu", "mtu"),
    [
        (1500, 8920),
        (1500, 1280),
        pytest.param(9000, 8920, marks=pytest.mark.soak),
        pytest.param(1500, 576, marks=pytest.mark.soak),
    ],
)
def test_packets_of_any_size_pass_with_any_mtu(make_pair: MakePair, wire_mtu: int, mtu: int) -> None:
    """8920 on a wire of 1500: the outer packets are fragmented."""
    pair = make_pair(wire_mtu=wire_mtu, mtu=mtu)
    families = 2 if mtu >= 1280 else 1
    for host in (OURS, THEIRS):
        pair.know(host)
    for size in (0, 1, mtu - 48, mtu):  # 48: headers of IPv6 and ICMP; the last is fragmented inside
        for host in (OURS, THEIRS):
            assert pair.ping(host, size=size) == families, (host, size)
    found = pair.net.stream(OURS, THEIRS, INNER[THEIRS][0], 4 * MB)
    assert found["unchanged"], found
    found = pair.net.stream(THEIRS, OURS, INNER[OURS][0], 4 * MB)
    assert found["unchanged"], found


def test_a_new_mtu_holds_from_the_next_packet_on(pair: Pair) -> None:
    assert pair.ping(OURS) == 2
    for host in (OURS, THEIRS):
        pair.net.run(host, "ip", "link", "set", f"wg-{host}", "mtu", "4000")
    wait_for(lambda: pair.ping(OURS, size=3952) == 2)
    assert pair.ping(THEIRS, size=3952) == 2


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mover", [OURS, THEIRS])
def test_a_peer_that_gets_other_addresses_is_followed(pair: Pair, mover: str) -> None:
    assert pair.ping(OURS) == 2
    pair.net.move(mover)
    if mover == THEIRS:  # it insists on its old source address, until it is told anew where we are
        words = ["peer", pair.keys[OURS].public, "endpoint", pair.endpoint(OURS)]
        pair.net.wg(THEIRS, "set", f"wg-{THEIRS}", *words)
    assert pair.net.reaches(mover, INNER[other(mover)][0]) < SLOW_S
    assert pair.about(other(mover))["endpoint"] == pair.endpoint(mover)
    assert pair.ping(other(mover), count=3) == 6


@pytest.mark.parametrize("mover", [OURS, THEIRS])
def test_a_peer_that_changes_its_port_is_followed(pair: Pair, mover: str) -> None:
    assert pair.ping(OURS) == 2
    before = pair.about(OURS)["handshake"]
    pair.net.wg(mover, "set", f"wg-{mover}", "listen-port", "4000")
    assert pair.net.reaches(mover, INNER[other(mover)][0]) < SLOW_S
    assert pair.about(other(mover))["endpoint"].endswith(":4000")
    assert pair.ping(other(mover), count=3) == 6
    if mover == OURS:
        assert pair.about(OURS)["handshake"] == before  # the session goes on


def test_an_endpoint_that_is_set_again_holds_though_the_peer_was_heard_elsewhere(pair: Pair) -> None:
    assert pair.ping(OURS) == 2
    first = pair.endpoint(THEIRS)
    pair.net.wg(THEIRS, "set", f"wg-{THEIRS}", "listen-port", "4000")
    assert pair.net.reaches(THEIRS, INNER[OURS][0]) < SLOW_S
    assert pair.about(OURS)["endpoint"] != first
    pair.net.wg(OURS, "set", f"wg-{OURS}", "peer", pair.keys[THEIRS].public, "endpoint", first)
    assert pair.about(OURS)["endpoint"] == first


def test_a_source_address_that_goes_is_not_insisted_on(pair: Pair) -> None:
    """They speak to a second address of ours; it is taken away while we answer from it."""
    second = "192.0.2.77"
    pair.net.run(OURS, "ip", "address", "add", f"{second}/24", "dev", "eth0")
    pair.net.wg(
        THEIRS, "set", f"wg-{THEIRS}", "peer", pair.keys[OURS].public, "endpoint", f"{second}:{PORTS[OURS]}"
    )
    assert pair.ping(THEIRS, count=3) == 6
    assert pair.about(THEIRS)["endpoint"] == f"{second}:{PORTS[OURS]}"  # we answer from where they sent to
    pair.net.run(OURS, "ip", "address", "delete", f"{second}/24", "dev", "eth0")
    assert pair.net.reaches(OURS, INNER[THEIRS][0]) < SLOW_S
    assert pair.about(THEIRS)["endpoint"] == pair.endpoint(OURS)


@pytest.mark.soak
def test_keepalives_hold_a_way_through_nat_open(make_pair: MakePair) -> None:
    """Ours lies behind a router that forgets within two seconds; theirs begins to speak after four."""
    pair = make_pair()
    wires = pair.net
    wires.host("r")
    inside, outside = "10.5.0.2", wires.addresses["r"][0]
    wires.run("", "ip", "link", "add", "nat-r", "netns", "r", "type", "veth", "peer", "nat-a", "netns", OURS)
    wires.run("r", "ip", "address", "add", "10.5.0.1/24", "dev", "nat-r")
    wires.run("r", "ip", "link", "set", "nat-r", "up")
    wires.run(OURS, "ip", "link", "set", "eth0", "down")
    wires.run(OURS, "ip", "address", "add", f"{inside}/24", "dev", "nat-a")
    wires.run(OURS, "ip", "link", "set", "nat-a", "up")
    wires.run(OURS, "ip", "route", "add", "default", "via", "10.5.0.1")
    rules = (
        "table ip nat { chain post { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }"
    )
    done = wires.run("r", "nft", rules, check=False)
    if done.returncode != 0:
        pytest.skip(f"this kernel has no NAT: {done.stderr.strip()}")
    settings = ("net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_udp_timeout=2")
    wires.run("r", "sysctl", "-q", "-w", *settings, "net.netfilter.nf_conntrack_udp_timeout_stream=2")
    pair.know(THEIRS, endpoint=False)
    pair.know(OURS)
    assert wires.reaches(OURS, INNER[THEIRS][0]) < SLOW_S
    assert pair.about(THEIRS)["endpoint"].startswith(f"{outside}:")
    time.sleep(4)
    assert pair.ping(THEIRS, wait_s=1) == 0  # so the router does forget
    wires.wg(OURS, "set", f"wg-{OURS}", "peer", pair.keys[THEIRS].public, "persistent-keepalive", "1")
    wait_for(lambda: pair.ping(THEIRS, wait_s=1) == 2)
    time.sleep(4)
    assert pair.ping(THEIRS, count=2) == 4


# --- restarts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [OURS, THEIRS])
def test_who_is_started_again_and_speaks_is_back_within_one_handshake(pair: Pair, host: str) -> None:
    assert pair.ping(OURS, count=2) == 4
    pair.stop(host)
    pair.start(host)
    pair.know(host)
    assert pair.net.reaches(host, INNER[other(host)][0]) < SLOW_S
    assert pair.ping(other(host), count=2) == 4


@pytest.mark.soak
@pytest.mark.parametrize("host", [OURS, THEIRS])
def test_who_is_started_again_and_is_silent_is_back_when_the_other_has_noticed(pair: Pair, host: str) -> None:
    assert pair.ping(OURS, count=2) == 4
    pair.stop(host)
    pair.start(host)
    pair.know(host)
    assert pair.net.reaches(other(host), INNER[host][0], 60) < SILENT_S + SLOW_S


@pytest.mark.soak
def test_a_new_forwarder_knows_where_a_peer_went(make_pair: MakePair) -> None:
    """Ours was never told where theirs is: it learned that, and learns it again after a move."""
    pair = make_pair()
    pair.know(OURS, endpoint=False)
    pair.know(THEIRS)
    assert pair.ping(THEIRS) == 2
    pair.net.wg(THEIRS, "set", f"wg-{THEIRS}", "listen-port", "4000")
    assert pair.net.reaches(THEIRS, INNER[OURS][0]) < SLOW_S
    time.sleep(FOLLOW_S + 1)
    (pid,) = pair.net.processes(f"/run/tulle-wg/wg-{OURS}")
    pair.net.run("", "kill", "-9", str(pid))
    assert pair.net.reaches(OURS, INNER[THEIRS][0]) < SLOW_S
    assert pair.about(OURS)["endpoint"].endswith(":4000")


# --- long -------------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sender", [OURS, THEIRS])
def test_a_gigabyte_arrives_unchanged(pair: Pair, sender: str) -> None:
    size = int(os.environ.get("TULLE_SOAK_BYTES", 1 << 30))
    found = pair.net.stream(sender, other(sender), INNER[other(sender)][0], size)
    assert found["unchanged"], found


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("host", [OURS, THEIRS])
def test_sessions_are_renewed_after_two_minutes_without_a_lost_packet(pair: Pair, host: str) -> None:
    """The one that began the first asks for the next; the other's packets pass too."""
    assert pair.ping(host) == 2
    before = int(pair.about(OURS)["handshake"])
    begun = time.monotonic()
    while time.monotonic() - begun < 130:
        assert pair.ping(OURS) == 2
        assert pair.ping(THEIRS) == 2
        time.sleep(1)
    assert 115 < int(pair.about(OURS)["handshake"]) - before < 130
