"""What others send to the tunnel's port is delivered only where it can be a peer's."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.testing.packets import packet

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-spoofing")]

PORT = 8285
SENT = 7
"""An odd number of packets, so that it is not found in a counter by accident."""
MARK = b"tulle lab: it must not get here"
DISCARD = b"\x00\x09\x00\x09"
"""UDP ports 9 and 9 (RFC 863)."""


@pytest.fixture(scope="module", params=["4", "6"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3, pods=1, family=request.param)


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    return hands(lab)


def inner(source: str, destination: str, payload: bytes = MARK) -> bytes:
    """A UDP packet, without a checksum of its own: nobody gets so far as to look at it."""
    length = (8 + len(payload)).to_bytes(2, "big")
    return packet(source, destination, DISCARD + length + b"\0\0" + payload)


def pushed(node: Any, place: str, content: bytes, *, at: str = "n1") -> tuple[dict[str, int], list[Any]]:
    """Send it to a node's tunnel port. Returns by how much its counters rose, and what its pod got of it."""
    before = settled_counters(node, at)
    with node.capture(f"{at}/p1") as finish:
        target = [node.lab.address(at), PORT]
        node.wire(
            place,
            do="udp",
            to=target,
            payload=content.hex(),
            source=PORT if place == "switch" else 0,
            count=SENT,
        )
        after = settled_counters(node, at)
        got = [one for one in finish() if MARK.hex() in one["packet"]]
    rose = {
        name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)
    }
    return {name: rise for name, rise in rose.items() if name != "drop-multicast"}, got


def settled_counters(node: Any, at: str) -> dict[str, int]:
    """tulled asks once a second: what is counted now is known after the second answer."""
    time.sleep(2.2)
    return dict(node.counters(at))


def test_a_stranger_on_the_underlay_is_dropped_and_counted(lab: Lab, node: Any) -> None:
    """The switch is no node of the cluster; the inner packet is one that n2's pod could have sent."""
    content = inner(lab.address("n2/p1"), lab.address("n1/p1"))
    assert pushed(node, "switch", content) == ({"drop-unknown-peer": SENT}, [])


def test_a_peer_that_uses_another_nodes_address_inside_is_dropped_and_counted(lab: Lab, node: Any) -> None:
    content = inner(lab.address("n3/p1"), lab.address("n1/p1"))
    assert pushed(node, "n2", content) == ({"drop-source": SENT}, [])


def test_a_peer_that_uses_our_own_address_inside_is_dropped_and_counted(lab: Lab, node: Any) -> None:
    content = inner(lab.address("n1/p1"), lab.address("n1/p1"))
    assert pushed(node, "n2", content) == ({"drop-source": SENT}, [])


def test_a_peers_packet_that_is_not_for_us_is_dropped_and_counted(lab: Lab, node: Any) -> None:
    """We would route it on, and be used to reach what the sender cannot."""
    content = inner(lab.address("n2/p1"), lab.address("n3/p1"))
    assert pushed(node, "n2", content) == ({"drop-destination": SENT}, [])


@pytest.mark.parametrize(
    "content", [b"\0" * 20, b"\x45", b"", b"no packet at all", inner("10.42.1.2", "10.42.2.2")[:-1]]
)
def test_what_is_no_packet_is_dropped_and_counted(lab: Lab, node: Any, content: bytes) -> None:
    """flannel's udp delivers twenty zero bytes."""
    assert pushed(node, "n2", content) == ({"drop-bad-inner": SENT}, [])


def test_a_peers_own_packet_passes_from_any_port(lab: Lab, node: Any) -> None:
    """The counter-check of the tests above: the same way, with nothing wrong."""
    content = inner(lab.address("n2/p1"), lab.address("n1/p1"))
    rose, got = pushed(node, "n2", content)
    assert rose == {"packets-in": SENT, "bytes-in": SENT * len(content)} or rose.get("packets-in", 0) >= SENT
    assert len([one for one in got if not one["sent"]]) == SENT


def test_a_pod_is_told_that_no_node_has_the_address_it_wants(lab: Lab, node: Any) -> None:
    """What ping prints as "Destination Net Unreachable" (type 3, code 0, RFC 792), for IPv6 "no route" (RFC 4443)."""
    nobody = str(free_address(lab))
    answer = node.wire("n1/p1", do="probe", to=[nobody, 9], size=100, fragment=False)
    family = lab.plan.families[0]
    assert (answer["type"], answer["code"]) == ({4: 3, 6: 1}[family], 0)
    own = lab.status("n1")["subnets"][0]
    assert answer["from"] == str(ip_network(own).network_address)


def free_address(lab: Lab) -> Any:
    """In the cluster network and in no node's subnet."""
    taken = {ip_network(lab.status(node)["subnets"][0]) for node in lab.plan.node_names}
    (length,) = {one.prefixlen for one in taken}
    network = ip_network(lab.status("n1")["networks"][0])
    return next(one for one in network.subnets(new_prefix=length) if one not in taken)[1]
