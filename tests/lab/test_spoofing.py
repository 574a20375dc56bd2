"""What others send to the tunnel's port is delivered only where it can be a peer's."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, NamedTuple

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry
from tulle.testing.packets import packet

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-spoofing")]

PORT = 8285
STRANGERS, OTHERS_SOURCES, OWN_SOURCES, OTHERS_TARGETS, GENUINE = 7, 11, 13, 17, 5
"""How many datagrams of each kind are sent."""
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


NO_PACKETS = [b"\0" * 20, b"\x45", b"", b"no packet at all"]
"""flannel's udp delivers twenty zero bytes."""


class Outcome(NamedTuple):
    """What became of all that was sent to n1's tunnel port."""

    rose: dict[str, int]
    """Its counters, by how much."""
    got: list[bytes]
    """What its pod received of it."""
    genuine: bytes
    """The one packet that is as it should be."""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """By family."""
    return {}


@pytest.fixture
def outcome(lab: Lab, node: Any, outcomes: dict[str, Outcome]) -> Outcome:
    if lab.plan.family not in outcomes:
        outcomes[lab.plan.family] = send_everything(lab, node)
    return outcomes[lab.plan.family]


def send_everything(lab: Lab, node: Any) -> Outcome:
    """Everything is sent once, each kind another number of times, so that the counters tell them apart."""
    one, two, three = (lab.address(f"n{number}/p1") for number in (1, 2, 3))
    genuine = inner(two, one, MARK + b" unless it is this")
    orders: list[tuple[str, bytes, int]] = [
        ("switch", inner(two, one), STRANGERS),
        ("n2", inner(three, one), OTHERS_SOURCES),
        ("n2", inner(one, one), OWN_SOURCES),
        ("n2", inner(two, three), OTHERS_TARGETS),
        *(("n2", content, 1) for content in (*NO_PACKETS, inner(two, one)[:-1], inner(two, one) + b"\0")),
        ("n2", genuine, GENUINE),
    ]
    before = settled_counters(node)
    with node.capture("n1/p1") as finish:
        for place, content, count in orders:
            port = PORT if place == "switch" else 0
            node.wire(
                place, do="udp", to=[lab.address("n1"), PORT], payload=content.hex(), source=port, count=count
            )
        after = settled_counters(node)
        seen = [bytes.fromhex(packet["packet"]) for packet in finish() if not packet["sent"]]
    rose = {name: count - before.get(name, 0) for name, count in after.items()}
    return Outcome(rose, [content for content in seen if MARK in content], genuine)


def settled_counters(node: Any) -> dict[str, int]:
    """tulled asks once a second: what is counted now is known after the second answer."""
    time.sleep(2.2)
    return dict(node.counters("n1"))


def test_a_stranger_on_the_underlay_is_dropped_and_counted(outcome: Outcome) -> None:
    """The switch is no node of the cluster; the inner packet is one that n2's pod could have sent."""
    assert outcome.rose["drop-unknown-peer"] == STRANGERS


def test_a_peer_that_uses_an_inner_source_that_is_not_its_own_is_dropped_and_counted(
    outcome: Outcome,
) -> None:
    """Another node's, and the receiver's own."""
    assert outcome.rose["drop-source"] == OTHERS_SOURCES + OWN_SOURCES


def test_a_peers_packet_that_is_not_for_this_node_is_dropped_and_counted(outcome: Outcome) -> None:
    """It would be routed on, and the sender reach through us what it cannot reach itself."""
    assert outcome.rose["drop-destination"] == OTHERS_TARGETS


def test_what_is_no_whole_packet_is_dropped_and_counted(outcome: Outcome) -> None:
    assert outcome.rose["drop-bad-inner"] == len(NO_PACKETS) + 2


def test_of_all_that_a_pod_gets_what_its_peer_really_sent_and_nothing_else(outcome: Outcome) -> None:
    """From any port, since a NAT may have changed it. One hop less: the receiving node has routed it."""
    assert len(outcome.got) == GENUINE
    assert {content[-len(MARK) :] for content in outcome.got} == {outcome.genuine[-len(MARK) :]}
    assert outcome.rose["packets-in"] >= GENUINE


def test_a_pod_is_told_that_no_node_has_the_address_it_wants(lab: Lab, node: Any) -> None:
    """What ping prints as "Destination Net Unreachable" (type 3, code 0, RFC 792), for IPv6 "no route" (RFC 4443)."""
    nobody = str(free_address(lab))
    answer = node.wire("n1/p1", do="probe", to=[nobody, 9], size=100)
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


def test_with_source_check_peer_any_inner_source_of_a_peer_passes(
    registry: Registry, hands: Callable[[Lab], Any]
) -> None:
    """For clusters that route more than pods. A stranger is still refused."""
    options = {"SourceCheck": "peer"}
    with Lab(nodes=2, pods=1, backend_options=options, registry=registry) as lab:
        node = hands(lab)
        content = inner("198.51.100.9", lab.address("n1/p1")).hex()
        with node.capture("n1/p1") as finish:
            for place in ("n2", "switch"):
                node.wire(place, do="udp", to=[lab.address("n1"), PORT], payload=content, count=OWN_SOURCES)
            counters = settled_counters(node)
            got = [one for one in finish() if MARK.hex() in one["packet"] and not one["sent"]]
        assert len(got) == OWN_SOURCES
        assert counters["drop-unknown-peer"] == OWN_SOURCES
