"""A pod gets what another one sent: nothing but the hop count has changed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.net.checksum import checksum

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-packets")]

HOPS = 2
"""The sender's node and the receiver's route the packet, as they would without tulle."""
TTL = 61
EXPERIMENT = 253  # RFC 3692: a protocol that nobody speaks, so that no kernel has an opinion on its content
UDP = 17
DF, MF = 0x4000, 0x2000
PAYLOAD = bytes(range(256)) * 3 + b"tulle lab: it must arrive as it is"
FRAGMENT_UNIT = 8


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, family="dual")


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


def ipv4(source: str, target: str, payload: bytes, **fields: int) -> bytes:
    tos, number, flags = fields.get("tos", 0), fields.get("number", 0x4242), fields.get("flags", 0)
    protocol, ttl = fields.get("protocol", EXPERIMENT), fields.get("ttl", TTL)
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), number, flags, ttl, protocol, 0)
    head += ip_address(source).packed + ip_address(target).packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source: str, target: str, payload: bytes, **fields: int) -> bytes:
    first = 6 << 28 | fields.get("traffic_class", 0) << 20 | fields.get("label", 0)
    head = struct.pack(
        "!IHBB", first, len(payload), fields.get("protocol", EXPERIMENT), fields.get("ttl", TTL)
    )
    return head + ip_address(source).packed + ip_address(target).packed + payload


def arrived(node: Any, packet: bytes, mark: bytes) -> list[bytes]:
    """Send it in n1/p1 as it is; what n2/p1 gets that ends in `mark`."""
    with node.capture("n2/p1", link="eth0") as finish:
        node.wire("n1/p1", do="raw", packet=packet.hex())
        seen = [bytes.fromhex(one["packet"]) for one in finish() if not one["sent"]]
    return [one for one in seen if one.endswith(mark) and one[0] >> 4 == packet[0] >> 4]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"flags": DF},
        {"flags": DF, "number": 1},
        {"tos": 0xB8},
        {"tos": 0x03},
        {"number": 0xFFFF},
        {"flags": MF},
        {"flags": 100},
        {"protocol": UDP},
    ],
    ids=["plain", "DF", "DF and an ID", "DSCP", "ECN", "ID", "first fragment", "last fragment", "bad UDP"],
)
def test_an_ipv4_packet_arrives_as_it_was_sent(lab: Lab, node: Any, fields: dict[str, int]) -> None:
    source, target = lab.address("n1/p1", 4), lab.address("n2/p1", 4)
    payload = PAYLOAD[: len(PAYLOAD) // FRAGMENT_UNIT * FRAGMENT_UNIT]
    sent = ipv4(source, target, payload, **fields)
    assert arrived(node, sent, payload[-16:]) == [ipv4(source, target, payload, **fields, ttl=TTL - HOPS)]


@pytest.mark.parametrize(
    "fields",
    [{}, {"traffic_class": 0xB8}, {"traffic_class": 0x03}, {"label": 0xABCDE}, {"protocol": UDP}],
    ids=["plain", "DSCP", "ECN", "flow label", "bad UDP"],
)
def test_an_ipv6_packet_arrives_as_it_was_sent(lab: Lab, node: Any, fields: dict[str, int]) -> None:
    source, target = lab.address("n1/p1", 6), lab.address("n2/p1", 6)
    sent = ipv6(source, target, PAYLOAD, **fields)
    assert arrived(node, sent, PAYLOAD[-16:]) == [ipv6(source, target, PAYLOAD, **fields, ttl=TTL - HOPS)]


@pytest.mark.parametrize("size", [1, 8, 100, 1400, 1452])
def test_payloads_of_all_sizes_arrive_whole(lab: Lab, node: Any, size: int) -> None:
    """1452 and a header of 20 bytes are the tunnel's MTU."""
    source, target = lab.address("n1/p1", 4), lab.address("n2/p1", 4)
    payload = bytes([size & 0xFF]) * size
    assert arrived(node, ipv4(source, target, payload), payload) == [
        ipv4(source, target, payload, ttl=TTL - HOPS)
    ]


def test_a_packet_whose_hops_run_out_on_the_way_is_reported_to_its_sender(lab: Lab, node: Any) -> None:
    """flannel's udp wraps TTL 0 to 255. Here the second kernel that routes it answers: ICMP type 11 (RFC 792)."""
    packet = ipv4(lab.address("n1/p1", 4), lab.address("n2/p1", 4), PAYLOAD, ttl=HOPS)
    with node.capture("n1/p1", link="eth0") as finish, node.capture("n2/p1", link="eth0") as far:
        node.wire("n1/p1", do="raw", packet=packet.hex())
        got = [bytes.fromhex(one["packet"]) for one in finish() if not one["sent"]]
        assert [one for one in far() if PAYLOAD.hex() in one["packet"]] == []
    answers = [one for one in got if one[0] == 0x45 and one[9] == 1 and one[20:22] == b"\x0b\x00"]
    assert len(answers) == 1
    assert str(ip_address(answers[0][12:16])) == str(
        ip_address(lab.status("n2")["subnets"][0].partition("/")[0])
    )
