"""Real packets between two nodes in namespaces of this machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from tulle.contracts.encapsulation import PathId, PeerId
from tulle.lab import Lab
from tulle.net.packet import addresses
from tulle.testing.encapsulation_contract import KnownPaths
from tulle.testing.packets import packet

from tulle_tagged.encapsulation import TAG_BYTES, Tagged

pytestmark = pytest.mark.lab

PORT = 8286
WAIT_S = 10.0
CAPTURE = """
import socket, sys
ETH_P_ALL = 3  # what is sent is seen by those who ask for everything (packet(7))
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as wire:
    wire.bind(("eth0", ETH_P_ALL))
    wire.settimeout(5.0)
    print("ready", flush=True)
    left = int(sys.argv[2])
    while left:
        packet, (_, ethertype, *_) = wire.recvfrom(65535)
        udp = packet[(packet[0] & 15) * 4 :]
        if ethertype == 0x0800 and packet[9] == 17 and udp[2:4] == int(sys.argv[1]).to_bytes(2, "big"):
            print(udp[8:].hex(), flush=True)
            left -= 1
"""
SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    out.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
"""


def end(cluster: str) -> Tagged:
    made = Tagged(KnownPaths(PeerId(1)), bytes)
    made.configure({"cluster": cluster}, 0.0)
    made.set_peer(PeerId(1), [PathId(1)], {}, 0.0)
    return made


def test_pods_talk_and_large_data_arrives_unchanged(lab: Lab) -> None:
    assert lab.ping("n1/p1", "n2/p1", 3) == 3
    assert lab.transfer("n1/p1", "n2/p1", 8 << 20).unchanged


def test_every_datagram_on_the_wire_carries_the_tag(lab: Lab) -> None:
    capture = lab.popen(
        "n1", [sys.executable, "-c", CAPTURE, str(PORT), "6"], stdout=subprocess.PIPE, text=True
    )
    with capture:
        assert capture.stdout is not None
        assert capture.stdout.readline() == "ready\n"
        assert lab.ping("n1/p1", "n2/p1", 3) == 3
        datagrams = [bytes.fromhex(line) for line in capture.stdout]
    ((_, packets),) = end("blue").open(PathId(1), datagrams, 0.0).deliveries
    assert len(packets) == 6  # three there, three back; `open` has checked every tag
    flows = {addresses(one) for one in packets}
    assert len(flows) == 2
    assert None not in flows


def test_a_packet_of_another_cluster_is_dropped_and_counted_and_the_talk_goes_on(lab: Lab) -> None:
    inner = packet(lab.address("n2/p1"), lab.address("n1/p1"), b"foreign")
    ((_, datagrams),) = end("green").seal(PeerId(1), [inner], 0.0)
    foreign = b"".join(datagrams[0])
    assert len(foreign) == TAG_BYTES + len(inner)
    lab.run("n2", [sys.executable, "-c", SEND, lab.address("n1"), str(PORT), foreign.hex()])
    deadline = time.monotonic() + WAIT_S  # tulled asks its forwarder for the counters once a second
    while not (count := lab.status("n1")["dataplane"]["counters"].get("drop-other-cluster")):
        assert time.monotonic() < deadline, lab.log_tail("n1")
        time.sleep(0.1)
    assert count == 1
    assert lab.ping("n1/p1", "n2/p1", 3) == 3


def test_status_and_lease_tell_the_cluster(lab: Lab) -> None:
    status = lab.status("n1")
    assert status["backend"]["cluster"] == "blue"
    assert [peer["backend"] for peer in status["peers"]] == ["tagged"]
    assert status["problems"] == []
