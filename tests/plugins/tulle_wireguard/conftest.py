"""Devices on a simulated network and a clock that tests move; and a real wireguard-go with scenarios beside it."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tulle.net.prefix import parse_prefix
from tulle.testing.faults.network import Address, Network, Weather
from tulle_wireguard import uapi_socket
from tulle_wireguard.device import Device
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.outputs import Outputs
from tulle_wireguard.peer import Peer
from tulle_wireguard.tai64n import Stamps

HERE = Path(__file__).parent
BUILD_S = 280.0
SCENARIO_S = 60.0
NO_GO = 3

_NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child")


PORT = 51820
START = 1_000_000.0
YEAR_2026_NS = 1_767_225_600 * 10**9


def endpoint(address: Address) -> Endpoint:
    return Endpoint(ip_address(address.host).packed, address.port)


class Node:
    """A device, where it is, and what came out of it. Over a restart it keeps its keys, peers and last stamp."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.inner = f"10.42.{number}.0/24"
        self.address = Address(f"192.0.2.{number}", PORT)
        self.rng = random.Random(number)
        self.private = self.rng.randbytes(32)
        self.clock_ns = YEAR_2026_NS
        """Of the wall clock, at START."""
        self.received: list[tuple[bytes, bytes]] = []
        """Public key of the sender, packet."""
        self.sent: list[tuple[Endpoint, int, bytes]] = []
        """Endpoint, DS byte, datagram."""
        self._settings: dict[bytes, dict[str, Any]] = {}
        self.device = self._boot(Stamps())

    def _boot(self, stamps: Stamps) -> Device:
        self.stamps = stamps
        return Device(self.private, self.rng.randbytes, self._unix_ns, self.world.now, stamps=stamps)

    def _unix_ns(self) -> int:
        return self.clock_ns + int((self.world.now - START) * 10**9)

    def restart(self) -> None:
        self.device = self._boot(Stamps(self.stamps.last_ns))
        for public, settings in self._settings.items():
            self.device.add_peer(public, self.world.now, **settings)
        self.act(self.device.tick(self.world.now))

    def knows(self, other: Node, *, found: bool = True, **settings: Any) -> Peer:
        """`found`: it is told where the other is."""
        settings = {
            "endpoints": [endpoint(other.address)] if found else [],
            "allowed": [parse_prefix(other.inner)],
            **settings,
        }
        self._settings[other.device.public] = settings
        return self.device.add_peer(other.device.public, self.world.now, **settings)

    def packet(self, other: Node, payload: bytes) -> bytes:
        """From our .2 to the other's .2."""
        source, destination = (ip_address(one.inner.replace(".0/24", ".2")).packed for one in (self, other))
        head = bytes([0x45, 0]) + (20 + len(payload)).to_bytes(2) + bytes([0, 0, 0x40, 0, 64, 253, 0, 0])
        return head + source + destination + payload

    def send(self, other: Node, *payloads: bytes) -> list[bytes]:
        packets = [self.packet(other, payload) for payload in payloads]
        self.act(self.device.packets_to_send(packets, self.world.now))
        return packets

    def act(self, outputs: Outputs) -> None:
        for send in outputs.sends:
            to = Address(str(ip_address(send.endpoint.address)), send.endpoint.port)
            for pieces in send.datagrams:
                datagram = b"".join(pieces)
                self.sent.append((send.endpoint, send.ds, datagram))
                self.world.network.send(self.world.now, self.address, to, datagram)
        self.received += [(one.peer.public, packet) for one in outputs.received for packet in one.packets]

    def hear(self, source: Address, datagram: bytes, ds: int = 0) -> None:
        self.act(self.device.datagram_received(datagram, endpoint(source), self.world.now, ds))

    def kinds(self) -> list[int]:
        """The types of all that was sent."""
        return [datagram[0] for _, _, datagram in self.sent]

    def payloads(self) -> list[bytes]:
        return [packet[20:] for _, packet in self.received]


class World:
    """Nodes on one network. `run` moves the time from event to event."""

    def __init__(self, seed: int = 1, weather: Weather | None = None, *, nodes: int = 2) -> None:
        self.now = START
        self.network = Network(seed, weather or Weather(delay_s=0.01))
        self.nodes = [Node(self, number + 1) for number in range(nodes)]

    def pair(self, **settings: Any) -> tuple[Node, Node]:
        """Two nodes that know each other."""
        a, b = self.nodes[:2]
        a.knows(b, **settings)
        b.knows(a, **settings)
        return a, b

    def run(self, seconds: float = 1.0) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            due = [one.device.deadline(self.now) for one in self.nodes]
            arrival = self.network.next_arrival()
            moment = min([one for one in (*due, arrival) if one is not None], default=math.inf)
            if moment > end:
                self.now = end
                return
            self.now = max(self.now, moment)
            for datagram in self.network.deliver(self.now):
                for node in self.nodes:
                    if node.address == datagram.destination:
                        node.hear(datagram.source, datagram.payload)
            for node in self.nodes:
                node.act(node.device.tick(self.now))
                after = node.device.deadline(self.now)
                assert after is None or after > self.now, "a deadline that has passed makes loops spin"
        raise AssertionError("more events than anybody needs")


@pytest.fixture(autouse=True)
def wg_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where backends and programs of these tests have their `wg` sockets: not where this machine's are. The path is
    short, as a socket's must be (unix(7))."""
    with TemporaryDirectory(prefix="wg-") as directory:
        monkeypatch.setattr(uapi_socket, "DIRECTORY", Path(directory))
        yield Path(directory)


@pytest.fixture(scope="session")
def make_world() -> type[World]:
    return World


@pytest.fixture(scope="session")
def wireguard_go() -> str:
    """The program. Built once for a checkout."""
    done = subprocess.run(
        [HERE / "wireguard_go.sh"], capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode == NO_GO:
        pytest.skip(f"no wireguard-go to talk to: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def own_namespaces() -> list[str]:
    """What runs a program as root of its own namespaces."""
    command = ["unshare", *_NAMESPACES]
    if os.getuid() != 0:
        command += ["--user", "--map-root-user"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun here: load the driver (modprobe tun)")
    return command


Scenario = Callable[..., dict[str, Any]]


@pytest.fixture
def beside(wireguard_go: str, own_namespaces: list[str]) -> Scenario:
    """`beside("rekey")` runs a scenario of beside_wireguard_go.py to its end and gives what it found."""

    def run(scenario: str, seconds: float = SCENARIO_S) -> dict[str, Any]:
        program = [sys.executable, str(HERE / "beside_wireguard_go.py"), wireguard_go, scenario]
        done = subprocess.run(
            [*own_namespaces, *program], capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run
