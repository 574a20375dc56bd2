"""The two ends of the interop scenarios: a real wireguard-go on wg0, and a device of ours with a socket and no TUN.

Used by beside_wireguard_go.py, which runs as a program of its own in namespaces of its own.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from tulle.lab.namespaces import mount
from tulle.net.checksum import checksum, pseudo_header_sum
from tulle_wireguard.crypto import public_key
from tulle_wireguard.device import Device
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.messages import kind
from tulle_wireguard.outputs import Outputs

LONG_S = 10.0
UAPI = Path("/run/wireguard/wg0.sock")
THEIRS, OURS = {4: "10.9.0.1", 6: "fd09::1"}, {4: "10.9.0.2", 6: "fd09::2"}
PORT = 7777
GO_PORT = 51820
THEIR_INTERVAL_S = 0.2
"""Far more than the 20 ms in which they take one initiation of a peer: they count when they get to it."""
IFF_RUNNING = 0x40  # linux/if.h
TENTATIVE = 0x40  # IFA_F_TENTATIVE, linux/if_addr.h
STRANGER = Endpoint(b"\x7f\0\0\x02", 9)
"""Where nobody is: a flood's source."""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def udp_packet(family: int, payload: bytes, port: int = PORT) -> bytes:
    """From us to their address."""
    source, destination = ip_address(OURS[family]).packed, ip_address(THEIRS[family]).packed
    length = 8 + len(payload)
    body = PORT.to_bytes(2) + port.to_bytes(2) + length.to_bytes(2) + b"\0\0" + payload
    check = checksum(body, pseudo_header_sum(source, destination, 17, length)) or 0xFFFF
    body = body[:6] + check.to_bytes(2) + body[8:]
    if family == 6:
        return bytes([0x60, 0, 0, 0]) + length.to_bytes(2) + bytes([17, 64]) + source + destination + body
    head = bytes([0x45, 0]) + (20 + length).to_bytes(2) + bytes([0, 0, 0x40, 0, 64, 17, 0, 0])
    head += source + destination
    return head[:10] + checksum(head).to_bytes(2) + head[12:] + body


def payload_of(packet: bytes) -> bytes:
    return packet[48:] if packet[0] >> 4 == 6 else packet[28:]


class Ours:
    """Our device, its socket, and the loop between them."""

    def __init__(self, outer: int) -> None:
        self.skipped = 0.0
        self.device = Device(os.urandom(32), os.urandom, time.time_ns, self.now())
        self.received: list[bytes] = []
        self.kinds: Counter[str] = Counter()
        """Messages "out-1" to "in-4"."""
        self.mangle: Callable[[bytes], bytes] = lambda datagram: datagram
        self.outer = outer
        self.socket = self._open()

    def _open(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if self.outer == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        opened.bind((LOOPBACK[self.outer], 0))
        return opened

    def move(self) -> None:
        """To another port."""
        self.socket.close()
        self.socket = self._open()

    def now(self) -> float:
        return time.monotonic() + self.skipped

    def act(self, outputs: Outputs) -> None:
        for send in outputs.sends:
            if send.endpoint == STRANGER:
                self.kinds["to-stranger"] += len(send.datagrams)
                continue
            address = (str(ip_address(send.endpoint.address)), send.endpoint.port)
            for pieces in send.datagrams:
                datagram = b"".join(pieces)
                self.kinds[f"out-{kind(datagram)}"] += 1
                self.socket.sendto(self.mangle(datagram), address)
        self.received += [packet for one in outputs.received for packet in one.packets]

    def send(self, packets: list[bytes]) -> None:
        self.act(self.device.packets_to_send(packets, self.now()))

    def pump(self, done: Callable[[], bool], seconds: float = LONG_S) -> bool:
        """Receive and tick until it is done. False: it was not, in that time."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            now = self.now()
            due = self.device.deadline(now)
            wait = min(0.2, max(0.0, due - now)) if due is not None else 0.2
            if select.select([self.socket], [], [], wait)[0]:
                datagram, source = self.socket.recvfrom(65535)
                self.kinds[f"in-{kind(datagram)}"] += 1
                place = Endpoint(ip_address(source[0]).packed, source[1])
                self.act(self.device.datagram_received(datagram, place, self.now()))
            self.act(self.device.tick(self.now()))
        return True


class Go:
    """wireguard-go on wg0."""

    def __init__(self, program: str) -> None:
        mount("tmpfs", "/run", "tmpfs")
        environment = {**os.environ, "LOG_LEVEL": "verbose"}
        self.process = subprocess.Popen(
            [program, "-f", "wg0"], env=environment, stdout=sys.stderr, stderr=sys.stderr
        )
        wait_for(UAPI.exists)
        self.private = os.urandom(32)
        self.public = public_key(self.private)
        # Before the link is up: it opens its sockets anew whenever either changes, and what lay in them is lost.
        self.set(private_key=self.private.hex(), listen_port=str(GO_PORT))
        with IPRoute() as kernel:
            kernel.link("set", index=1, state="up")
            self.index = kernel.link_lookup(ifname="wg0")[0]
            for address, length in ((THEIRS[4], 24), (THEIRS[6], 64)):
                more: dict[str, Any] = {"flags": 0x02} if ":" in address else {}  # IFA_F_NODAD
                kernel.addr("add", index=self.index, address=address, prefixlen=length, **more)
            kernel.link("set", index=self.index, state="up", mtu=1420)
            # The kernel tells IPv6 of a link that is up a little later, where many links come and go.
            wait_for(lambda: kernel.get_links(self.index)[0]["flags"] & IFF_RUNNING)
        wait_for(lambda: not any(int(line.split()[4], 16) & TENTATIVE for line in if_inet6()))
        wait_for(lambda: is_bound(GO_PORT))
        self.inner: dict[int, socket.socket] = {}
        for family, kind_ in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            inner = socket.socket(kind_, socket.SOCK_DGRAM)
            inner.bind((THEIRS[family], PORT))
            inner.setblocking(False)
            self.inner[family] = inner

    def _ask(self, text: str) -> dict[str, list[str]]:
        with socket.socket(socket.AF_UNIX) as uapi:
            uapi.settimeout(LONG_S)
            uapi.connect(str(UAPI))
            uapi.sendall(text.encode())
            answer = b""
            while not answer.endswith(b"\n\n"):
                answer += uapi.recv(65536)
        found: dict[str, list[str]] = {}
        for line in answer.decode().split():
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
        assert found["errno"] == ["0"], found
        return found

    def set(self, **lines: str) -> None:
        self._ask("set=1\n" + "".join(f"{key}={value}\n" for key, value in lines.items()) + "\n")

    def get(self) -> dict[str, list[str]]:
        return self._ask("get=1\n\n")

    def add_peer(self, ours: Ours, *, endpoint: bool = False, psk: bytes | None = None, **more: str) -> None:
        lines = {"public_key": ours.device.public.hex(), "replace_allowed_ips": "true"}
        if psk is not None:
            lines["preshared_key"] = psk.hex()
        if endpoint:
            host, port = ours.socket.getsockname()[:2]
            lines["endpoint"] = f"[{host}]:{port}" if ours.outer == 6 else f"{host}:{port}"
        self.set(**lines, **more, allowed_ip=f"{OURS[4]}/32")
        self.set(public_key=lines["public_key"], allowed_ip=f"{OURS[6]}/128")

    def took(self, family: int) -> list[bytes]:
        """What the kernel behind the TUN received."""
        found = []
        while True:
            try:
                found.append(self.inner[family].recv(65535))
            except BlockingIOError:
                return found

    def say(self, family: int, payload: bytes) -> None:
        self.inner[family].sendto(payload, (OURS[family], PORT))


def is_bound(port: int) -> bool:
    """Both families have a socket with this port."""
    files = (Path("/proc/net/udp"), Path("/proc/net/udp6"))
    return all(f":{port:04X} " in one.read_text() for one in files)


def if_inet6() -> list[str]:
    return Path("/proc/net/if_inet6").read_text().splitlines()


def wait_for(done: Callable[[], object]) -> None:
    end = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < end, f"not within {LONG_S} s"
        time.sleep(0.02)
