"""What the kernel tells is read right, whatever else comes with it, and what we tell it is what it reads."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.forward import ancillary
from tulle.forward.ancillary import IP_PKTINFO, AncillaryReader, Told, parse, to_send
from tulle.net.trains import SOL_UDP, UDP_GRO

HERE = {4: bytes((10, 0, 0, 9)), 6: bytes.fromhex("fd00") + bytes(13) + b"\x09"}
LINK_LOCAL = b"\xfe\x80" + bytes(13) + b"\1"
GRO = (SOL_UDP, UDP_GRO, struct.pack("=i", 1400))
PKTINFO = {
    4: (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 3, HERE[4], bytes((10, 255, 255, 255)))),
    6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", HERE[6], 3)),
}
DS = {
    4: (socket.IPPROTO_IP, socket.IP_TOS, b"\xb9"),
    6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("=i", 0xB9)),
}


@pytest.mark.parametrize("family", [4, 6])
def test_each_message_is_read_in_any_order(family: int) -> None:
    messages = [GRO, PKTINFO[family], DS[family], (1, 2, b"of no interest")]
    for order in (messages, messages[::-1]):
        assert parse(order) == Told(1400, HERE[family], 0xB9)
    assert parse([GRO]) == Told(1400)
    assert parse([]) == Told()


def test_a_link_local_address_of_ours_is_not_told() -> None:
    info = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", LINK_LOCAL, 3))
    assert parse([info, DS[6]]) == Told(0, b"", 0xB9)


@given(st.lists(st.sampled_from([GRO, *PKTINFO.values(), *DS.values()]), max_size=5), st.integers(0, 30))
def test_what_was_cut_off_is_as_if_it_had_not_been_said(
    messages: list[tuple[int, int, bytes]], cut: int
) -> None:
    assert parse([(level, kind, data[:cut]) for level, kind, data in messages]).ds in (0, 0xB9)


def test_the_same_messages_are_read_once_and_many_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ancillary, "REMEMBERED", 8)
    reader = AncillaryReader()
    for number in range(100):
        gro = (SOL_UDP, UDP_GRO, struct.pack("=i", number))
        first = reader.read([gro, PKTINFO[4]])
        assert first == Told(number, HERE[4])
        assert reader.read([gro, PKTINFO[4]]) is first
        assert len(reader._read) <= 8


def test_nothing_to_say_is_no_message() -> None:
    assert not to_send(4, b"", 0)
    assert not to_send(6, b"", 0)


@pytest.mark.parametrize(("family", "kind"), [(4, socket.AF_INET), (6, socket.AF_INET6)])
def test_the_kernel_reads_what_we_tell_it_and_tells_it_again(family: int, kind: socket.AddressFamily) -> None:
    host = "127.0.0.3" if family == 4 else "::1"
    level, tells = (
        (socket.IPPROTO_IP, (IP_PKTINFO, socket.IP_RECVTOS))
        if family == 4
        else (socket.IPPROTO_IPV6, (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVTCLASS))
    )
    with socket.socket(kind, socket.SOCK_DGRAM) as into, socket.socket(kind, socket.SOCK_DGRAM) as out:
        into.bind((host, 0))
        into.settimeout(5)
        for name in tells:
            into.setsockopt(level, name, 1)
        local = socket.inet_pton(kind, host)
        out.sendmsg([b"x"], to_send(family, local, 0x2A), 0, into.getsockname())
        _, messages, _, source = into.recvmsg(10, 128)
    assert source[0] == host
    assert parse(messages) == Told(0, local, 0x2A)
