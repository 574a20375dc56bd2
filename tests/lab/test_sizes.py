"""Packets that are too big for the tunnel or for the way between the nodes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.plan import SUBNET_FILE
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-sizes")]

UNDERLAY_MTU = 1500
OVERHEAD = {"4": 28, "6": 48, "dual": 28}
UDP_HEADERS = {4: 28, 6: 48}
TOO_BIG = {4: (3, 4), 6: (2, 0)}  # ICMP type and code: RFC 792, RFC 4443 section 3.2
PORT = 7777

NARROW_MTU = 1400
RTAX_MTU_BIT = 1 << 2  # linux/rtnetlink.h
MOVED_BYTES = 8 << 20


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], hands: Callable[[Lab], Any]) -> Lab:
    """n1's pod believes in the underlay's MTU, as one that a careless CNI plugin made would."""
    made = make_lab(nodes=2, pods=1, family="dual")
    node = hands(made)
    for place, link in (("n1", "cni0"), ("n1", "to-p1"), ("n1/p1", "eth0")):
        node.kernel(place, ("link", "set", {"link": link, "mtu": UNDERLAY_MTU}))
    return made


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


@contextmanager
def receiving(node: Any, place: str) -> Iterator[Callable[[], bytes | None]]:
    """What comes to UDP port PORT there."""
    with node.capture(place, do="receive", port=PORT, wait_s=5.0) as finish:
        yield lambda: next((bytes.fromhex(line) for line in finish() if line), None)


@pytest.mark.parametrize("family", ["4", "6", "dual"])
def test_pods_are_told_an_mtu_that_leaves_room_for_the_outer_headers(registry: Registry, family: Any) -> None:
    with Lab(nodes=1, pods=1, family=family, registry=registry) as lab:
        assert lab.nets["n1"].mtu == UNDERLAY_MTU - OVERHEAD[family]
        assert lab.status("n1")["backend"]["mtu"] == lab.nets["n1"].mtu


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_with_df_that_is_too_big_is_answered_with_the_tunnels_mtu(
    lab: Lab, node: Any, eventually: Callable[..., Any], family: int
) -> None:
    target = [lab.address("n2/p1", family), PORT]
    size = UNDERLAY_MTU - UDP_HEADERS[family]
    answer = eventually(lambda: node.wire("n1/p1", do="probe", to=target, size=size, wait_s=1.2))
    assert (answer["type"], answer["code"]) == TOO_BIG[family]
    assert answer["mtu"] == lab.nets["n1"].mtu
    biggest = lab.nets["n1"].mtu - UDP_HEADERS[family]
    refused = node.wire("n1/p1", do="probe", to=target, size=biggest, wait_s=1.0)
    assert refused is None or refused["code"] == {4: 3, 6: 4}[family]  # the port: it has arrived


def test_a_packet_without_df_that_is_too_big_arrives_in_pieces(lab: Lab, node: Any) -> None:
    payload = bytes(range(250)) * 5 + b"x" * (UNDERLAY_MTU - UDP_HEADERS[4] - 1250)
    with receiving(node, "n2/p1") as received, node.capture("n2/p1", link="eth0") as finish:
        target = [lab.address("n2/p1", 4), PORT]
        node.wire("n1/p1", do="udp", to=target, payload=payload.hex(), fragment=True)
        assert received() == payload
        seen = [bytes.fromhex(one["packet"]) for one in finish() if not one["sent"]]
    assert len([one for one in seen if one[0] == 0x45 and is_fragment(one)]) == 2


def test_an_ipv6_sender_cuts_its_packets_itself_when_it_has_been_told(lab: Lab, node: Any) -> None:
    """IPv6 routers do not fragment (RFC 8200 section 5): the first is lost, and the sender knows."""
    payload = b"y" * (UNDERLAY_MTU - UDP_HEADERS[6])
    with receiving(node, "n2/p1") as received:
        target = [lab.address("n2/p1", 6), PORT]
        for _ in range(2):
            node.wire("n1/p1", do="udp", to=target, payload=payload.hex())
        assert received() == payload


def is_fragment(packet: bytes) -> bool:
    """More fragments, or an offset (RFC 791)."""
    return bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)


@pytest.mark.parametrize("family", ["4", "6"])
def test_outer_packets_are_fragmented_where_the_nodes_own_interface_has_become_narrow(
    registry: Registry, hands: Callable[[Lab], Any], family: Any
) -> None:
    """While tulled, which would follow it, cannot. A batch that no longer fits one send (UDP_SEGMENT, EMSGSIZE) goes
    one by one."""
    with Lab(nodes=2, pods=1, family=family, registry=registry) as lab:
        node = hands(lab)
        lab.kill_tulled("n1", signal.SIGSTOP)
        node.kernel("n1", ("link", "set", {"link": "eth0", "mtu": NARROW_MTU}))
        with node.capture("switch", link="to-n1") as finish:
            assert lab.transfer("n1/p1", "n2/p1", MOVED_BYTES >> 3).unchanged
            assert biggest_outer(finish(), lab.address("n1")) <= NARROW_MTU
        assert lab.transfer("n1/p1", "n2/p1", MOVED_BYTES).unchanged
        lab.kill_tulled("n1", signal.SIGCONT)
        lab.wait_ready()
        assert "segments-turned-off" not in node.counters("n1")


def test_the_tunnel_follows_the_mtu_of_the_nodes_interface(
    registry: Registry, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        node, wanted = hands(lab), NARROW_MTU - OVERHEAD["4"]
        before = node.links("n1")["tulle0"]
        node.kernel("n1", ("link", "set", {"link": "eth0", "mtu": NARROW_MTU}))
        eventually(lambda: node.links("n1")["tulle0"]["mtu"] == wanted)
        eventually(lambda: f"FLANNEL_MTU={wanted}" in lab.read_file("n1", SUBNET_FILE).split())
        assert node.links("n1")["tulle0"]["index"] == before["index"]
        # The pods were made before and still believe in the old one: path MTU discovery tells them.
        assert lab.transfer("n1/p1", "n2/p1", MOVED_BYTES >> 3).unchanged
        node.kernel("n1", ("link", "set", {"link": "eth0", "mtu": UNDERLAY_MTU}))
        eventually(lambda: node.links("n1")["tulle0"] == before)


def test_outer_packets_are_fragmented_by_a_router_with_a_narrow_way(
    registry: Registry, hands: Callable[[Lab], Any]
) -> None:
    """The switch routes between the nodes, and only NARROW_MTU bytes pass: what plain udp allows (no DF outside)."""
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        node, two = hands(lab), lab.address("n2")
        for name, value in (
            ("ip_forward", "1"),
            ("conf/all/send_redirects", "0"),
            ("conf/switch/send_redirects", "0"),
        ):
            lab.write_file("switch", f"/proc/sys/net/ipv4/{name}", f"{value}\n")
        narrow = {"mtu": NARROW_MTU, "lock": RTAX_MTU_BIT}
        node.kernel("switch", ("route", "add", {"dst": f"{two}/32", "link": "switch", "metrics": narrow}))
        node.kernel("n1", ("route", "add", {"dst": f"{two}/32", "gateway": lab.address("switch")}))
        with node.capture("switch", link="to-n2") as finish:
            assert lab.transfer("n1/p1", "n2/p1", MOVED_BYTES >> 3).unchanged
            assert biggest_outer(finish(), lab.address("n1")) <= NARROW_MTU
        assert lab.transfer("n1/p1", "n2/p1", MOVED_BYTES).unchanged


def biggest_outer(seen: list[dict[str, Any]], source: str) -> int:
    """The longest packet that is a piece of one of a node's tunnel datagrams; there must be some."""
    packets = [bytes.fromhex(one["packet"]) for one in seen]
    if ":" in source:
        pieces = [one for one in packets if one[0] >> 4 == 6 and one[6] == 44]  # the fragment header
    else:
        pieces = [
            one for one in packets if one[0] >> 4 == 4 and is_fragment(one) and dotted(one[12:16]) == source
        ]
    assert pieces
    return max(map(len, pieces))


def dotted(address: bytes) -> str:
    return ".".join(map(str, address))
