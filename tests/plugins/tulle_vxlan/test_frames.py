"""Headers as RFC 7348 draws them, and each way in which they can be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.prefix import Family
from tulle.testing.packets import packet
from tulle_vxlan.frames import HEADER_BYTES, PADDED_BYTES, fault, header, unpadded

OURS: dict[Family, bytes] = {4: bytes.fromhex("020000000001"), 6: bytes.fromhex("020000000601")}
THEIRS = bytes.fromhex("020000000002")
IPV4, IPV6 = packet("10.42.2.2", "10.42.1.2", b"x"), packet("fd42:0:0:2::2", "fd42:0:0:1::2", b"x")
GOOD = header(1, OURS[4], THEIRS, 4) + IPV4


def changed(at: int, value: int) -> bytes:
    return GOOD[:at] + bytes([value]) + GOOD[at + 1 :]


def test_the_header_is_the_one_of_the_rfc() -> None:
    assert header(0x123456, OURS[4], THEIRS, 4).hex(" ") == (
        "08 00 00 00 12 34 56 00 02 00 00 00 00 01 02 00 00 00 00 02 08 00"
    )
    assert header(1, OURS[6], THEIRS, 6)[-2:].hex() == "86dd"
    assert len(GOOD) - len(IPV4) == HEADER_BYTES == 22


def test_what_is_right_has_no_fault() -> None:
    assert fault(GOOD, 1, OURS) is None
    assert fault(header(1, OURS[6], THEIRS, 6) + IPV6, 1, OURS) is None


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"", "short"),
        (GOOD[:HEADER_BYTES], "short"),
        (changed(0, 0x00), "flags"),
        (changed(0, 0x88), "flags"),  # group policy
        (changed(0, 0x0C), "flags"),  # generic protocol extension
        (changed(2, 1), "flags"),
        (changed(6, 2), "vni"),
        (changed(7, 1), "vni"),
        (changed(13, 9), "foreign-mac"),
        (GOOD[:8] + b"\xff" * 6 + GOOD[14:], "foreign-mac"),
        (header(1, OURS[6], THEIRS, 4) + IPV4, "foreign-mac"),
        (GOOD[:20] + b"\x08\x06" + GOOD[22:], "not-ip"),  # ARP
        (GOOD[:20] + b"\x81\x00" + GOOD[22:], "vlan"),
        (GOOD[:20] + b"\x88\xa8" + GOOD[22:], "vlan"),
        (GOOD[:HEADER_BYTES] + IPV6, "not-ip"),
        (GOOD[:20] + b"\x86\xdd" + GOOD[22:], "not-ip"),
    ],
)
def test_each_fault_has_its_name(datagram: bytes, expected: str) -> None:
    assert fault(datagram, 1, OURS) == expected


def test_a_family_of_which_we_have_no_mac_is_foreign() -> None:
    assert fault(header(1, OURS[6], THEIRS, 6) + IPV6, 1, {4: OURS[4]}) == "foreign-mac"


@given(st.binary(max_size=80))
def test_any_bytes_are_judged(datagram: bytes) -> None:
    assert fault(datagram, 1, OURS) is None or isinstance(fault(datagram, 1, OURS), str)


@pytest.mark.parametrize("inner", [IPV4, packet("fd42:0:0:2::2", "fd42:0:0:1::2")])
def test_what_a_switch_filled_up_is_cut_again(inner: bytes) -> None:
    filled = inner + bytes(PADDED_BYTES - HEADER_BYTES - len(inner))
    assert unpadded(filled) == inner
