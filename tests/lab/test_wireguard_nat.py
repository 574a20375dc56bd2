"""wireguard nodes behind a NAT: two behind the same one, and a public one. Who reaches whom, by which way, and how soon
again when the router has forgotten its mappings and gives other ports.

    n1, n2 -- bridge "inside" -- the router (the lab's switch) -- bridge "switch" -- n3

What is bridged between n1 and n2 does not come to the router, so a capture at its own interface of either bridge shows
what it handles, and nothing else.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-wireguard-nat")]

INSIDE = {"n1": "10.77.0.1", "n2": "10.77.0.2"}
GATEWAY = "10.77.0.254"
PORT = 51820
KEEPALIVE_S = 1
FIRST_PORTS = range(40000, 40100)
OTHER_PORTS = range(41000, 41100)
"""That the router gives; no node's own port is among them, so that who is reached was learned."""
UDP = 17
IPV4_HEADER_BYTES, UDP_HEADER_BYTES = 20, 8
TRANSPORT = 4  # paper section 5.4.6
PINGS = 5
PING_EVERY_S = 0.2
SLOW = 10
"""So many times the figure, on a machine that does other things."""
CANDIDATE_S = 5.334
"""After this long without an answer the next candidate is tried (REKEY_TIMEOUT with its jitter)."""
TOLD_S = 1.0
"""How often a forwarder says where its peers are."""
FORGET = "from pyroute2 import NFCTSocket\nwith NFCTSocket() as known:\n    known.flush()"
RULES = """
table ip nat
delete table ip nat
table ip nat {{
 chain out {{
  type nat hook postrouting priority srcnat;
  oifname "switch" ip saddr 10.77.0.0/24 meta l4proto udp masquerade to :{first}-{last}
 }}
 chain through {{
  type filter hook forward priority filter;
  iifname "switch" oifname "inside" ct state new drop
 }}
}}
"""


class NatLab(Lab):
    """See the module."""

    given: range
    """What the router chooses from."""

    def start_tulled(self, node: str, extra_args: Sequence[str] = ()) -> None:
        """The wires are laid before the first. Who is behind the NAT says its public address in its lease."""
        if node == self.plan.node_names[0]:
            self._lay()
        public = ["--public-ip", self.address("switch")] if node in INSIDE else []
        super().start_tulled(node, [*extra_args, *public])

    def _lay(self) -> None:
        self.ip("switch", "link", "add", "inside", "type", "bridge")
        self.ip("switch", "address", "add", f"{GATEWAY}/24", "dev", "inside")
        self.ip("switch", "link", "set", "inside", "up")
        for node, address in INSIDE.items():
            self.ip("switch", "link", "set", f"to-{node}", "master", "inside")
            self.ip(node, "address", "flush", "dev", "eth0")
            self.ip(node, "address", "add", f"{address}/24", "dev", "eth0")
            self.ip(node, "route", "add", "default", "via", GATEWAY)
        self.run("switch", ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        self.translate(FIRST_PORTS)

    def translate(self, ports: range) -> None:
        """From the next mapping on."""
        self.given = ports
        rules = RULES.format(first=ports[0], last=ports[-1])
        done = self.run("switch", ["nft", "-f", "-"], input=rules, check=False)
        if done.returncode != 0:
            pytest.skip(f"this kernel has no NAT: {done.stderr.strip()}")

    def rebind(self) -> None:
        """All mappings are forgotten, and the next ones have other ports."""
        self.translate(OTHER_PORTS if self.given == FIRST_PORTS else FIRST_PORTS)
        self.run("switch", [sys.executable, "-c", FORGET])

    def ip(self, place: str, *words: str) -> None:
        self.run(place, ["ip", *words])

    def endpoints(self, node: str) -> dict[str, tuple[str, int]]:
        """Where a node has its peers, as its forwarder said within the last seconds: address and port by the peer's
        name."""
        keys = {
            self.run(one, ["wg", "show", "tulle-wg", "public-key"]).stdout.strip(): one
            for one in self.plan.node_names
        }
        found = {}
        for line in self.run(node, ["wg", "show", "tulle-wg", "endpoints"]).stdout.splitlines():
            key, text = line.split()
            address, _, port = text.rpartition(":")
            found[keys[key]] = (address, int(port))
        return found

    def ports(self) -> dict[str, int]:
        """The public port of each node behind the NAT, as n3 has learned it."""
        known = self.endpoints("n3")
        return {node: known[node][1] for node in INSIDE}

    def is_learned(self) -> bool:
        """Whether n3 has them where the router puts them now."""
        return all(port in self.given for port in self.ports().values())

    def is_direct(self) -> bool:
        """Whether the two have each other at their private addresses."""
        pairs = zip(INSIDE, reversed(INSIDE), strict=True)
        return all(self.endpoints(one)[other] == (INSIDE[other], PORT) for one, other in pairs)

    def all_reach_all(self) -> bool:
        return set(self.ping_all().values()) == {1}


class Datagram(NamedTuple):
    """Of UDP, on a wire."""

    source: str
    destination: str
    kind: int


def datagrams(lines: list[dict[str, Any]]) -> list[Datagram]:
    found = []
    for one in (bytes.fromhex(line["packet"]) for line in lines):
        if one[0] >> 4 == 4 and one[9] == UDP:
            source, destination = (str(ip_address(one[start : start + 4])) for start in (12, 16))
            found.append(Datagram(source, destination, one[IPV4_HEADER_BYTES + UDP_HEADER_BYTES]))
    return found


@pytest.fixture(scope="module")
def made(registry: Registry) -> Iterator[NatLab]:
    options = {"PersistentKeepaliveInterval": KEEPALIVE_S}
    with NatLab(nodes=3, pods=1, backend="wireguard", backend_options=options, registry=registry) as lab:
        yield lab


@pytest.fixture
def lab(made: NatLab, eventually: Callable[..., Any]) -> NatLab:
    """Where all have found each other."""
    eventually(made.all_reach_all, within_s=SLOW * CANDIDATE_S)
    eventually(made.is_learned, within_s=SLOW * TOLD_S)
    return made


def test_pods_behind_the_nat_and_the_public_nodes_reach_each_other_in_both_directions(lab: NatLab) -> None:
    assert {pair: count for pair, count in lab.ping_all(PINGS).items() if count != PINGS} == {}
    for node in INSIDE:
        assert lab.transfer(f"{node}/p1", "n3/p1", 4 << 20).unchanged
        assert lab.transfer("n3/p1", f"{node}/p1", 4 << 20).unchanged
    known = lab.endpoints("n3")
    assert {address for address, _ in known.values()} == {lab.address("switch")}
    assert len({*lab.ports().values()} & {*lab.given}) == len(INSIDE)
    assert [lab.status(node)["problems"] for node in lab.plan.node_names] == [[], [], []]


def test_two_nodes_behind_one_nat_reach_each_other_by_their_private_addresses(
    lab: NatLab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    """And the router sees no packet of theirs, while it does see those to n3."""
    node = hands(lab)
    pair = set(INSIDE.values())
    theirs = {*pair, lab.address("switch")}
    eventually(lab.is_direct, within_s=SLOW * TOLD_S)
    with (
        node.capture("switch", link="to-n1") as cable,
        node.capture("switch", link="inside") as inner,
        node.capture("switch", link="switch") as outer,
    ):
        assert lab.ping("n1/p1", "n2/p1", PINGS) == PINGS
        assert lab.ping("n2/p1", "n1/p1", PINGS) == PINGS
        assert lab.transfer("n1/p1", "n2/p1", 1 << 20).unchanged
        time.sleep(2 * KEEPALIVE_S)
        direct, passing = datagrams(cable()), datagrams(inner()) + datagrams(outer())
    data = [one for one in direct if {one.source, one.destination} == pair and one.kind == TRANSPORT]
    for source in pair:
        assert len([one for one in data if one.source == source]) >= 2 * PINGS
    assert [one for one in passing if {one.source, one.destination} <= theirs] == []
    assert lab.address("n3") in {one.destination for one in passing}


def test_traffic_goes_on_within_the_keepalive_time_when_the_nat_has_other_ports(
    lab: NatLab, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    """n3 goes on sending to a port that is nobody's any more; n1 does not speak but for its keepalives."""
    before = lab.ports()
    assert lab.ping("n3/p1", "n1/p1") == 1
    lab.rebind()
    begun = time.monotonic()
    until = ["-c", "1", "-i", str(PING_EVERY_S), "-w", str(SLOW * KEEPALIVE_S)]  # until the first answer
    said = lab.run("n3/p1", ["ping", *until, lab.address("n1/p1")]).stdout
    say("away_s", round(time.monotonic() - begun, 2))
    (sent,) = re.findall(r"(\d+) packets transmitted", said)
    assert int(sent) > 1  # so it was away
    eventually(lab.is_learned, within_s=SLOW * (KEEPALIVE_S + TOLD_S))
    assert not {*before.values()} & {*lab.ports().values()}
    assert {pair: count for pair, count in lab.ping_all(PINGS).items() if count != PINGS} == {}
    assert {address for address, _ in lab.endpoints("n3").values()} == {lab.address("switch")}
    eventually(lab.is_direct, within_s=SLOW * TOLD_S)
