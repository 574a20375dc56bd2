"""The wireguard backend with real packets: who reaches whom, what is seen on the wire, and what is lost when something
is killed, replaced or deleted (nothing)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry
from tulle.testing.packets import packet

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-wireguard")]

PORT, PORT_V6 = 51820, 51821
UDP = 17
UDP_HEADER_BYTES = 8
IP_HEADER_BYTES = {4: 20, 6: 40}
KINDS = {1: 148, 2: 92, 3: 64}
"""Handshake messages and their lengths (paper sections 5.4.2 to 5.4.7)."""
INITIATION = 1
TRANSPORT, TRANSPORT_LEAST_BYTES = 4, 32
TOO_BIG = {4: (3, 4), 6: (2, 0)}  # ICMP type and code: RFC 792, RFC 4443 section 3.2
UNDERLAY_MTU, TUNNEL_MTU = 1500, 1420
PROBE_PORT = 7777
RATE = 2_000.0
SENT = 5
MARK = b"tulle lab: whose is it?"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, backend="wireguard", family="dual")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


class Seen:
    """What passed on a wire, from its IP headers on."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self.packets = [bytes.fromhex(line["packet"]) for line in lines]

    def datagrams(self) -> list[bytes]:
        """The UDP payloads to WireGuard's ports."""
        found = []
        for one in self.packets:
            start = IP_HEADER_BYTES[one[0] >> 4]
            port = int.from_bytes(one[start + 2 : start + 4])
            if one[9 if start == 20 else 6] == UDP and port in (PORT, PORT_V6):
                found.append(one[start + UDP_HEADER_BYTES :])
        return found

    def initiations(self) -> int:
        return sum(one[0] == INITIATION for one in self.datagrams())


@contextmanager
def wire(hands: Any) -> Iterator[Callable[[], Seen]]:
    """What passes between the switch and n1."""
    with hands.capture("switch", link="to-n1") as finish:
        yield lambda: Seen(finish())


def is_wireguard(datagram: bytes) -> bool:
    kind = datagram[0]
    if datagram[1:4] != bytes(3):
        return False
    return len(datagram) == KINDS.get(kind) or (
        kind == TRANSPORT and len(datagram) >= TRANSPORT_LEAST_BYTES and len(datagram) % 16 == 0
    )


# --- who reaches whom --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("4", {}),
        ("6", {"PSK": "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="}),
        ("dual", {}),
        ("dual", {"Mode": "auto", "PersistentKeepaliveInterval": 1}),
        pytest.param("dual", {"Mode": "ipv6", "ListenPort": 7000}, marks=pytest.mark.soak),
        pytest.param("4", {"Mode": "ipv4", "ExactOverhead": True}, marks=pytest.mark.soak),
    ],
)
def test_each_pod_of_three_nodes_reaches_each_pod_and_what_they_send_arrives_unchanged(
    registry: Registry, family: Any, options: dict[str, Any]
) -> None:
    with Lab(
        nodes=3, pods=2, backend="wireguard", family=family, backend_options=options, registry=registry
    ) as lab:
        for version in lab.plan.families:
            answers = lab.ping_all(3, family=version)
            assert len(answers) == 6 * 5
            assert {pair: count for pair, count in answers.items() if count != 3} == {}
            assert lab.transfer("n1/p1", "n3/p2", 16 << 20, family=version).unchanged
        assert lab.nets["n1"].mtu == TUNNEL_MTU + (20 if "ExactOverhead" in options else 0)
        assert lab.status("n1")["problems"] == []


@pytest.mark.parametrize("family", [4, 6])
def test_sixty_four_megabytes_arrive_unchanged(
    lab: Lab, family: int, say: Callable[[str, object], None]
) -> None:
    moved = lab.transfer("n1/p1", "n2/p1", 64 << 20, family=family)
    say("stream", moved)
    assert (moved.bytes, moved.unchanged) == (64 << 20, True)


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_and_another_node_reach_each_other(lab: Lab, family: int) -> None:
    assert lab.ping("n1", "n2/p1", 3, family=family) == 3
    assert lab.ping("n2", "n1/p1", 3, family=family) == 3


# --- what is seen on the wire --------------------------------------------------------------------------------------


def test_the_wire_shows_wireguard_alone_and_no_byte_of_what_is_inside(lab: Lab, node: Any) -> None:
    secret = bytes(range(64, 124)) * 4
    with wire(node) as seen:
        for family in (4, 6):
            target = [lab.address("n2/p1", family), PROBE_PORT]
            for _ in range(
                SENT
            ):  # one at a time: a batch is one packet where this capture looks (UDP_SEGMENT)
                node.wire("n1/p1", do="udp", to=target, payload=secret.hex())
        found = seen()
    datagrams = found.datagrams()
    assert len([one for one in datagrams if one[0] == TRANSPORT]) >= 2 * SENT
    assert [one for one in datagrams if not is_wireguard(one)] == []
    inside = [secret[:16], *(ip_address(lab.address("n1/p1", family)).packed for family in (4, 6))]
    for seen_packet in found.packets:
        for text in inside:
            assert text not in seen_packet


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_with_df_that_is_too_big_is_answered_with_the_tunnels_mtu(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    for place, link in (("n1", "cni0"), ("n1", "to-p1"), ("n1/p1", "eth0")):
        node.kernel(place, ("link", "set", {"link": link, "mtu": UNDERLAY_MTU}))
    headers = IP_HEADER_BYTES[family] + UDP_HEADER_BYTES
    target = [lab.address("n2/p1", family), PROBE_PORT]
    size = TUNNEL_MTU + 1 - headers
    answer = eventually(lambda: node.wire("n1/p1", do="probe", to=target, size=size, wait_s=1.2))
    assert (answer["type"], answer["code"], answer["mtu"]) == (*TOO_BIG[family], TUNNEL_MTU)
    with wire(node) as seen:
        fits = node.wire("n1/p1", do="probe", to=target, size=size - 1, wait_s=1.0)
        found = seen()
    assert fits is None or fits["code"] == {4: 3, 6: 4}[family]  # the port: it has arrived
    assert max(map(len, found.packets)) == UNDERLAY_MTU - (20 if family == 4 else 0)  # never cut


@pytest.mark.parametrize("family", [4, 6])
def test_a_node_that_sends_in_anothers_name_is_not_heard(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    mine, target = lab.address("n2/p1", family), lab.address("n1/p1", family)
    nobodys = {4: "10.42.250.9", 6: "fd42:0:0:fa::9"}[family]
    assert lab.ping("n2", "n1/p1", family=family) == 1
    before = node.counters("n1").get("drop-source", 0)
    with node.capture("n1/p1") as finish:
        for source in (nobodys, target, mine):
            length = (8 + len(MARK)).to_bytes(2, "big")
            forged = packet(source, target, b"\x00\x09\x00\x09" + length + b"\0\0" + MARK)
            node.wire("n2", do="raw", packet=forged.hex())
        if family == 4:  # the counters are those of the first device
            eventually(lambda: node.counters("n1").get("drop-source", 0) == before + 2)
        seen = [bytes.fromhex(one["packet"]) for one in finish() if not one["sent"]]
    sources = [one[12:16] if family == 4 else one[8:24] for one in seen if MARK in one]
    assert sources == [ip_address(mine).packed]


# --- what is lost: nothing -----------------------------------------------------------------------------------------


def test_a_new_forwarder_goes_on_with_the_sessions_and_loses_no_packet(
    lab: Lab, node: Any, say: Callable[[str, object], None]
) -> None:
    for family in (4, 6):
        assert lab.ping("n1/p1", "n2/p1", 3, family=family) == 3
    old = lab.status("n1")["dataplane"]["forwarder_pid"]
    count = int(RATE * 4)
    with (
        wire(node) as seen,
        lab.flood("n1/p1", "n2/p1", count=count, rate=RATE) as out,
        lab.flood("n2/p1", "n1/p1", count=count, rate=RATE, family=6) as back,
    ):
        time.sleep(0.5)
        said = node.tulle("n1", "forwarder", "replace").stdout
        results = [out.finish(), back.finish()]
        handshakes = seen().initiations()
    say("said", said)
    say("floods", results)
    assert [(one.lost, one.duplicates) for one in results] == [(0, 0), (0, 0)]
    assert handshakes == 0
    assert lab.status("n1")["dataplane"]["forwarder_pid"] != old


def test_a_killed_forwarder_is_replaced_and_finds_its_peers_by_a_handshake(
    lab: Lab, eventually: Callable[..., Any]
) -> None:
    before = lab.forwarder_pid("n1")
    lab.kill_forwarder("n1", signal.SIGKILL)
    eventually(lambda: lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n2/p1", family=6) == 1)
    assert lab.forwarder_pid("n1") != before
    lab.wait_ready()


@pytest.mark.parametrize("device", ["tulle-wg", "tulle-wg-v6"])
def test_a_deleted_link_comes_back_and_carries_packets(
    lab: Lab, node: Any, eventually: Callable[..., Any], device: str
) -> None:
    lab.wait_ready()
    node.kernel("n1", ("link", "del", {"link": device}))
    eventually(lambda: device in node.links("n1"))
    eventually(lambda: lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n2/p1", family=6) == 1)
    lab.wait_ready()


# --- keys ------------------------------------------------------------------------------------------------------------


def public_keys(lab: Lab, node: str = "n1") -> list[str]:
    return list(lab.status(node)["backend"]["public_keys"])


def test_a_key_is_replaced_under_a_flood_and_no_packet_is_lost(
    lab: Lab, node: Any, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    for family in (4, 6):
        assert lab.ping("n1/p1", "n2/p1", 3, family=family) == 3
    before, other = public_keys(lab), public_keys(lab, "n2")
    count = int(RATE * 8)
    with (
        wire(node) as seen,
        lab.flood("n1/p1", "n2/p1", count=count, rate=RATE) as out,
        lab.flood("n2/p1", "n1/p1", count=count, rate=RATE, family=6) as back,
    ):
        time.sleep(0.5)
        said = json.loads(node.tulle("n1", "wireguard", "rotate-key", "--grace", "3", "-o", "json").stdout)
        assert list(said["public_keys"].values()) == public_keys(lab)
        eventually(lambda: "old-key-dropped device=tulle-wg-v6" in lab.logs("n1"))
        results = [out.finish(), back.finish()]
        handshakes = seen().initiations()
    say("floods", results)
    say("handshakes", handshakes)
    assert [(one.lost, one.duplicates) for one in results] == [(0, 0), (0, 0)]
    assert handshakes >= 2  # on each device one with the new key
    assert not set(before) & set(public_keys(lab))
    assert public_keys(lab, "n2") == other
    for device, key in said["public_keys"].items():
        name = {"tulle-wg": "wireguard.key", "tulle-wg-v6": "wireguard-v6.key"}[device]
        kept = lab.read_file("n1", f"/var/lib/tulle/{name}")
        assert len(kept.split()) == 1
        shown = lab.run("n1", ["wg", "pubkey"], input=kept).stdout.strip()
        assert shown == key


def test_the_key_is_private_and_survives_a_restart(lab: Lab) -> None:
    before = public_keys(lab)
    mode = lab.run("n1", ["stat", "-c", "%a %U", "/var/lib/tulle/wireguard.key"]).stdout.split()
    assert mode[0] == "600"
    lab.kill_tulled("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert public_keys(lab) == before
    secret = lab.read_file("n1", "/var/lib/tulle/wireguard.key").split()[0]
    told = json.dumps(lab.status("n1")) + lab.logs("n1")
    arguments = " ".join(word for one in lab.residents() for word in one.argv)
    assert secret not in told + arguments


def test_what_is_taken_down_leaves_the_key_alone(lab: Lab, node: Any, eventually: Callable[..., Any]) -> None:
    before = public_keys(lab)
    said = node.tulle("n1", "down").stdout
    assert lab.tulled_pid("n1") is None
    eventually(lambda: not {"tulle-wg", "tulle-wg-v6"} & set(node.links("n1")))
    eventually(lambda: lab.forwarder_pid("n1") is None)
    assert "tulle-wg" in said
    assert node.exists("n1", "/var/lib/tulle/wireguard.key")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert public_keys(lab) == before
    eventually(lambda: lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n2/p1", family=6) == 1)


def test_a_damaged_key_file_ends_tulled_with_what_to_do(
    registry: Registry, eventually: Callable[..., Any]
) -> None:
    with Lab(nodes=1, pods=0, backend="wireguard", registry=registry) as lab:
        lab.kill_tulled("n1")
        lab.write_file("n1", "/var/lib/tulle/wireguard.key", "what is this?\n")
        lab.start_tulled("n1")
        eventually(lambda: lab.tulled_pid("n1") is None)
        said = [line for line in lab.logs("n1").splitlines() if "cannot-go-on" in line]
        assert "/var/lib/tulle/wireguard.key: holds no WireGuard key" in said[-1]
        assert lab.read_file("n1", "/var/lib/tulle/wireguard.key") == "what is this?\n"
