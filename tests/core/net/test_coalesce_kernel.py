"""The kernel cuts what `coalesce` joined into the very segments: they go in by one TUN, are routed, and leave by
another one that has no offloads."""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from tulle.kernel.tun import Tun, open_tun
from tulle.net.coalesce import group, join
from tulle.net.gso import HEADER_BYTES, PLAIN
from tulle.net.packet import TCP

pytestmark = pytest.mark.lab

CLONE_NEWNET = 0x40000000  # linux/sched.h
WAIT_S = 5.0
PAIRS = {
    4: (bytes([10, 5, 1, 2]), bytes([10, 5, 2, 3])),
    6: (bytes.fromhex("fd050001") + bytes(11) + b"\x02", bytes.fromhex("fd050002") + bytes(11) + b"\x03"),
}
SET_UP = """
link set in0 addrgenmode none
link set out0 addrgenmode none
link set in0 up mtu 1500
link set out0 up mtu 1500
address add 10.5.1.1/24 dev in0
address add 10.5.2.1/24 dev out0
address add fd05:1::1/64 dev in0 nodad
address add fd05:2::1/64 dev out0 nodad
"""

T = TypeVar("T")


class Router:
    """A network namespace in a thread, with two TUNs and forwarding between them."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self.call(_enter_new_namespace)
        self.inward: Tun = self.call(open_tun, "in0")
        self.outward: Tun = self.call(open_tun, "out0")
        self.call(_forward)

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        return self._thread.submit(function, *arguments).result(WAIT_S)

    def close(self) -> None:
        self.inward.close()
        self.outward.close()

    def comes_out(self, count: int) -> list[bytes]:
        """The next TCP packets. Raises TimeoutError."""
        found: list[bytes] = []
        while len(found) < count:
            if not select.select([self.outward], [], [], WAIT_S)[0]:
                raise TimeoutError(f"{len(found)} of {count} packets came")
            frame = os.read(self.outward.fileno(), 1 << 17)
            assert frame[:HEADER_BYTES] == PLAIN
            packet = frame[HEADER_BYTES:]
            if (packet[9] if packet[0] == 0x45 else packet[6]) == TCP:
                found.append(packet)
        return found


def _enter_new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _forward() -> None:
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", switch).write_text("1")
    subprocess.run(["ip", "-batch", "-"], input=SET_UP, text=True, check=True, timeout=WAIT_S)


@pytest.fixture
def router() -> Iterator[Router]:
    with ThreadPoolExecutor(1) as thread:
        try:
            made = Router(thread)
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")
        yield made
        made.close()


def segments(slow: SimpleNamespace, version: int, count: int, size: int) -> list[bytes]:
    """A stream whose last segment is shorter and pushed."""
    source, target = PAIRS[version]
    made = []
    for number in range(count):
        last = number == count - 1
        sequence = (2**31 + number * size) % 2**32
        body = slow.tcp(sequence, 0x18 if last else 0x10, os.urandom(size // 2 if last else size), 3)
        check = slow.checksum(slow.pseudo(source, target, TCP, len(body)) + body)
        body = body[:16] + check.to_bytes(2) + body[18:]
        # IPv4's identification wraps on the way.
        fields = {"identification": (65530 + number) % 2**16, "flags": 0x4000} if version == 4 else {}
        made.append((slow.ipv4 if version == 4 else slow.ipv6)(source, target, TCP, body, **fields))
    return made


def routed(slow: SimpleNamespace, packet: bytes) -> bytes:
    """One hop further."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] - 1]) + packet[8:]
    head = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + b"\0\0" + packet[12:20]
    return head[:10] + int(slow.checksum(head)).to_bytes(2) + head[12:] + packet[20:]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("count", "size"), [(2, 100), (17, 1001), (44, 1400)])
def test_the_kernel_cuts_a_super_packet_into_the_same_bytes(
    router: Router, slow: SimpleNamespace, version: int, count: int, size: int
) -> None:
    packets = segments(slow, version, count, size)
    (run,) = group(packets)
    os.writev(router.inward.fileno(), join(run))
    assert router.comes_out(count) == [routed(slow, one) for one in packets]
