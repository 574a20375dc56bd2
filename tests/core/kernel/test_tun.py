"""TUN descriptors on the real driver."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tulle.kernel import tun
from tulle.kernel.tun import DeviceLost, Tun, adopt, attach, open_tun, set_offload

pytestmark = pytest.mark.lab

TUNGETVNETHDRSZ = 0x800454D7
TUN_F_CSUM, TUN_F_TSO4 = 1, 2  # linux/if_tun.h


@pytest.fixture
def device(netns: Any) -> Iterator[Tun]:
    with netns.call(open_tun, "tulle0") as opened:
        yield opened


def test_a_new_device_has_the_flags_that_cannot_be_set_later(netns: Any, device: Tun) -> None:
    (shown,) = netns.json("-d link show tulle0")
    data = shown["linkinfo"]["info_data"]
    assert (data["type"], data["pi"], data["vnet_hdr"], data["multi_queue"]) == ("tun", False, True, True)
    assert "persist" not in data or not data["persist"]


def test_a_read_carries_the_10_byte_header_before_the_packet(netns: Any, device: Tun) -> None:
    (size,) = struct.unpack("i", fcntl.ioctl(device.fileno(), TUNGETVNETHDRSZ, bytes(4)))
    assert size == 10
    netns.batch("link set tulle0 addrgenmode none\nlink set tulle0 up\naddress add 10.0.0.1/24 dev tulle0\n")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("10.0.0.2", 9))

    netns.call(send)
    packet = os.read(device.fileno(), 65_536)
    assert packet[10] == 0x45
    assert packet.endswith(b"hello")


def test_the_descriptor_does_not_block_and_is_not_inherited(device: Tun) -> None:
    assert not os.get_blocking(device.fileno())
    assert not os.get_inheritable(device.fileno())
    with pytest.raises(BlockingIOError):  # no packet: it returns at once
        os.read(device.fileno(), 2048)


def test_a_name_that_is_taken_by_a_tun_is_refused_and_its_holder_named(netns: Any, device: Tun) -> None:
    with pytest.raises(OSError, match=rf"tulle0 .* held by .*\(pid {os.getpid()}\)") as caught:
        netns.call(open_tun, "tulle0")
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize(
    "words",
    [
        "tuntap add tulle0 mode tun",
        "tuntap add tulle0 mode tun vnet_hdr multi_queue",
        "tuntap add tulle0 mode tap vnet_hdr multi_queue",
        "link add tulle0 type veth peer name y",
    ],
)
def test_a_device_of_another_kind_or_another_maker_is_left_alone(netns: Any, words: str) -> None:
    netns.ip(words)
    with pytest.raises(OSError, match=r"ip link delete tulle0"):
        netns.call(open_tun, "tulle0")
    assert netns.json("link show tulle0")


def test_a_device_without_our_flags_takes_no_queue_of_ours(netns: Any) -> None:
    netns.ip("tuntap add tulle0 mode tun")
    with pytest.raises(OSError, match=r"tulle0"):
        netns.call(attach, "tulle0")


def test_a_queue_more_can_be_attached_and_none_to_a_device_that_is_gone(netns: Any, device: Tun) -> None:
    with netns.call(attach, "tulle0") as second:
        assert second.name == "tulle0"
        (shown,) = netns.json("-d link show tulle0")
        assert shown["linkinfo"]["info_data"]["numqueues"] == 2
    device.close()
    with pytest.raises(DeviceLost, match="tulle0"):
        netns.call(attach, "tulle0")


@pytest.mark.parametrize("name", ["", "sixteen-bytes-xx", "ü" * 8])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(OSError, match="is no name for a TUN"):
        open_tun(name)


def test_a_descriptor_passed_to_another_process_works_there_and_is_adopted_when_it_comes_back(
    netns: Any, device: Tun
) -> None:
    """The other process is a plain Python that sends back what it got, after this one has closed its own."""
    echo = (
        "import socket\n"
        "s = socket.socket(fileno=0)\n"
        "data, fds, _, _ = socket.recv_fds(s, 1, 1)\n"
        "s.recv(1)\n"
        "socket.send_fds(s, [b'x'], fds)\n"
    )
    here, there = socket.socketpair()
    with here, there, subprocess.Popen([sys.executable, "-c", echo], stdin=there.fileno()) as other:
        socket.send_fds(here, [b"x"], [device.fileno()])
        # The byte after it says: ours is closed.
        device.close()
        here.send(b"y")
        _, fds, _, _ = socket.recv_fds(here, 1, 1)
        assert other.wait(30) == 0
    with adopt(fds[0]) as back:
        assert (back.name, back.fileno(), back.alive()) == ("tulle0", fds[0], True)
        assert netns.json("link show tulle0")
    assert "tulle0" not in netns.ip("link show")


def test_a_dead_device_is_recognised(netns: Any, device: Tun) -> None:
    assert device.alive()
    netns.ip("link del tulle0")
    assert not device.alive()
    with pytest.raises(DeviceLost, match="was deleted"):
        adopt(device.fileno())


def test_what_is_no_tun_of_ours_is_not_adopted(netns: Any) -> None:
    with socket.socket() as other, pytest.raises(OSError, match="is not a TUN's"):
        adopt(other.fileno())

    def plain() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, tun.TUNSETIFF, tun.IFREQ.pack(b"plain0", 0x0001 | 0x1000))
        return fd

    fd = netns.call(plain)
    try:
        with pytest.raises(OSError, match="plain0 lacks IFF_VNET_HDR, IFF_MULTI_QUEUE"):
            adopt(fd)
        with pytest.raises(OSError, match="plain0"):
            adopt(fd)  # still open, still the caller's
    finally:
        os.close(fd)


def test_offloads_are_switched_on_the_descriptor(device: Tun) -> None:
    set_offload(device.fileno(), TUN_F_CSUM | TUN_F_TSO4)
    set_offload(device.fileno(), 0)
    with pytest.raises(OSError, match="Invalid argument"):
        set_offload(device.fileno(), 1 << 30)


def test_no_descriptor_is_left_after_failures_and_closing(netns: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    netns.ip("link add x type veth peer name y")
    for _ in range(5):
        with pytest.raises(OSError, match="x"):
            netns.call(open_tun, "x")
        opened = netns.call(open_tun, "tulle0")
        opened.close()
        opened.close()
        assert opened.fileno() == -1
        assert not opened.alive()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_size_of_ifreq_is_the_kernels() -> None:
    assert tun.IFREQ.size == 16 + 24  # union of 24 bytes on 64-bit machines
