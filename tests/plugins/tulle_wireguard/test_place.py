"""Addresses with ports as text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.place import Place, parse_place, shown

addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda one: one.ipv4_mapped is None)


@given(st.builds(Place, addresses, st.integers(1, 65535)))
def test_what_is_written_is_read(place: Place) -> None:
    assert parse_place(str(place)) == place


def test_it_is_written_as_wg_writes_it() -> None:
    assert str(Place(IPv4Address("192.0.2.1"), 5)) == "192.0.2.1:5"
    assert str(Place(IPv6Address("2001:db8::1"), 5)) == "[2001:db8::1]:5"


def test_an_ipv4_address_inside_an_ipv6_one_is_ipv4() -> None:
    assert parse_place("[::ffff:192.0.2.1]:5") == Place(IPv4Address("192.0.2.1"), 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "[192.0.2.1]:5",
        "2001:db8::1:5",
        "[fe80::1%eth0]:5",
        "x.y:5",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_place(text)


def test_hostile_text_in_a_message_is_short_and_plain() -> None:
    said = shown("\x1b[2J" + "x" * 10_000)
    assert len(said) < 100
    assert said.isprintable()
