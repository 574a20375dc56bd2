"""Prefixes, and flannel's keys for them."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tulle.net.prefix import (
    Prefix,
    first_host,
    parse_covering_prefix,
    parse_prefix,
    parse_subnet_key,
    prefix_from_int,
    subnet_key,
)


@st.composite
def prefixes(draw: st.DrawFn, family: int) -> Prefix:
    bits = 32 if family == 4 else 128
    length = draw(st.integers(0, bits))
    return prefix_from_int(family, draw(st.integers(0, 2**length - 1)) << (bits - length), length)


KEYS = st.one_of(st.tuples(prefixes(4)), st.tuples(prefixes(6)), st.tuples(prefixes(4), prefixes(6)))


def test_a_dual_stack_key_is_written_as_flannel_writes_it() -> None:
    both = (ip_network("10.12.13.0/24"), ip_network("fd00:12:13::/56"))
    assert subnet_key(both) == "10.12.13.0-24&fd00:12:13::-56"
    assert subnet_key(both[:1]) == "10.12.13.0-24"
    assert subnet_key(both[1:]) == "fd00:12:13::-56"


@given(KEYS)
def test_every_key_is_read_back_as_it_was_written(key: tuple[Prefix, ...]) -> None:
    assert parse_subnet_key(subnet_key(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.5.52.0",
        "10.5.52.0/24",
        "10.5.52.0-33",
        "10.5.52.1-24",
        "10.5.052.0-24",
        "10.5.52.0-024",
        "10.5.52.0-24&",
        "&10.5.52.0-24",
        "10.5.52.0-24&10.5.53.0-24",
        "fd00::-64&10.5.52.0-24",
        "10.5.52.0-24&fd00::-64&fd01::-64",
        "FD00::-64",
        "fd00:0:0:0::-64",
        "fe80::%eth0-64",
        " 10.5.52.0-24",
        "10.5.52.0-24\n",
        "١0.5.52.0-24",
        "10.5.52.0-24/x",
        pytest.param("a" * 100_000, id="very long"),
    ],
)
def test_text_that_is_not_exactly_a_key_is_none(text: str) -> None:
    assert parse_subnet_key(text) is None


@given(st.text() | st.text("0123456789abcdef.:-&", max_size=60))
@example("-&-")
def test_a_key_is_either_none_or_the_one_spelling(text: str) -> None:
    parsed = parse_subnet_key(text)
    assert parsed is None or subnet_key(parsed) == text


@pytest.mark.parametrize("families", [(), (6, 4), (4, 4), (6, 6), (4, 6, 6)])
def test_a_key_of_any_other_combination_is_refused(families: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no key for"):
        subnet_key(tuple(prefix_from_int(family, 0, 8) for family in families))


@pytest.mark.parametrize(
    "text",
    ["10.5.0.1/16", "10.5.0.0", "10.5.0.0/255.255.0.0", "fe80::%eth0/64", "10.5.0.0/33", "", "/", "a/8"],
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_prefix(text)


def test_a_covering_prefix_loses_its_host_bits() -> None:
    assert parse_covering_prefix("10.5.52.7/24") == IPv4Network("10.5.52.0/24")
    assert parse_covering_prefix("fd00::7/64") == IPv6Network("fd00::/64")
    with pytest.raises(ValueError, match="form"):
        parse_covering_prefix("10.5.52.7")


@pytest.mark.parametrize(
    ("prefix", "host"),
    [
        ("10.5.52.0/24", "10.5.52.1/24"),
        ("fd00:5::/64", "fd00:5::1/64"),
        ("10.5.52.0/31", "10.5.52.1/31"),
        ("10.5.52.9/32", "10.5.52.9/32"),
    ],
)
def test_the_first_host_follows_the_network_address(prefix: str, host: str) -> None:
    assert first_host(parse_prefix(prefix)) == host
