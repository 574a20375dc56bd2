"""A cable in user space: what passes between a lab's node and the switch is delayed, reordered, duplicated and lost.

    with wire(lab, "to-n1", Weather(delay_s=0.05, reorder=0.1), seed=7):
        ...

It takes the node's port out of the switch's bridge and stands in its place with a port of its own; frames go through
this program, both ways. Offloads survive: each frame carries its virtio_net_hdr (packet(7), PACKET_VNET_HDR). A few
ten thousand frames a second.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from tulle.testing.faults.line import Line, Weather
from tulle.testing.faults.places import Places

SWITCH = "switch"
READY = "ready"
START_S = 10.0

ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23  # linux/socket.h, linux/if_packet.h
FRAME_BYTES = 10 + 14 + 65536  # virtio_net_hdr, Ethernet, the largest IP packet or GSO frame
BUFFER_BYTES = 8 << 20
LONGEST_WAIT_S = 0.5


@contextmanager
def wire(places: Places, port: str, weather: Weather, seed: int = 0, switch: str = SWITCH) -> Iterator[None]:
    """`port`: the switch's end of the node's cable, "to-n1" in a lab. Both directions have that weather."""
    near, far = f"w-{port}", f"x-{port}"

    def ip(*words: str) -> str:
        return places.run(switch, ["ip", *words]).stdout

    (link,) = json.loads(ip("-json", "link", "show", "dev", port))
    ip("link", "add", "name", near, "mtu", str(link["mtu"]), "type", "veth", "peer", "name", far)
    try:
        ip("link", "set", far, "mtu", str(link["mtu"]), "master", link["master"], "up")
        ip("link", "set", near, "addrgenmode", "none", "up")
        ip("link", "set", port, "nomaster", "addrgenmode", "none")
        with _carrying(places, switch, [port, near, msgspec.json.encode(weather).decode(), str(seed)]):
            yield
    finally:
        ip("link", "set", port, "master", link["master"])
        ip("link", "del", near)


@contextmanager
def _carrying(places: Places, switch: str, arguments: list[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "tulle.testing.faults.wire", *arguments]
    process = places.popen(switch, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        out = process.stdout
        assert out is not None
        if not select.select([out], [], [], START_S)[0] or out.readline().decode().strip() != READY:
            raise RuntimeError("the wire did not start: its reason is on the standard error output")
        yield
    finally:
        process.communicate()  # the end of its standard input is its end


class Wire:
    """The frames that are under way between two links."""

    def __init__(self, links: tuple[str, str], weather: Weather, seed: int) -> None:
        self._sockets = [_open(link) for link in links]
        self._lines = [Line(weather, random.Random(f"{seed} {number}")) for number in range(2)]
        self._air: list[tuple[float, int, socket.socket, bytes]] = []
        self._number = 0

    def run(self, until: int) -> None:
        """Until the descriptor `until` is at its end."""
        poller = select.poll()
        poller.register(until, select.POLLIN)
        for one in self._sockets:
            poller.register(one, select.POLLIN)
        numbers = {one.fileno(): number for number, one in enumerate(self._sockets)}
        while True:
            wait_s = self._air[0][0] - time.monotonic() if self._air else LONGEST_WAIT_S
            # poll(2) takes whole milliseconds: rounded down, and a frame that is a little late is sent by then.
            for descriptor, _ in poller.poll(max(0, int(wait_s * 1000))):
                if descriptor == until:
                    return
                self._take(numbers[descriptor])
            self._deliver(time.monotonic())

    def _take(self, number: int) -> None:
        other = self._sockets[1 - number]
        with suppress(BlockingIOError):
            for _ in range(64):
                frame = self._sockets[number].recv(FRAME_BYTES)
                for moment in self._lines[number].arrivals(time.monotonic()):
                    self._number += 1
                    heapq.heappush(self._air, (moment, self._number, other, frame))

    def _deliver(self, now: float) -> None:
        while self._air and self._air[0][0] <= now:
            _, _, target, frame = heapq.heappop(self._air)
            with suppress(OSError):  # a link that is down or full loses it, as a cable does
                target.send(frame)


def _open(link: str) -> socket.socket:
    """All frames that arrive at the link, with their offload header."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        opened.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    opened.bind((link, ETH_P_ALL))
    return opened


def main(arguments: list[str]) -> None:
    """LINK LINK WEATHER SEED; ends with its standard input."""
    one, other, weather, seed = arguments
    carried = Wire((one, other), msgspec.json.decode(weather, type=Weather), int(seed))
    print(READY, flush=True)
    carried.run(sys.stdin.fileno())


if __name__ == "__main__":
    main(sys.argv[1:])
