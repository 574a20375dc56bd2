"""The subnets of a network: counting, naming, finding."""

from __future__ import annotations

import time
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.net.prefix import prefix_from_int
from tulle.net.subnets import SubnetRange


def subnet_range(network: str, length: int, first: str, last: str) -> SubnetRange:
    return SubnetRange(ip_network(network), length, ip_address(first), ip_address(last))


FLANNEL = subnet_range("10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0")
WIDE = subnet_range("fd00::/8", 64, "fd00:0:0:1::", "fdff:ffff:ffff:ffff::")


def test_a_range_counts_and_names_its_subnets() -> None:
    assert FLANNEL.count == 255
    assert FLANNEL.nth(0) == ip_network("10.5.1.0/24")
    assert FLANNEL.nth(254) == ip_network("10.5.255.0/24")
    assert WIDE.count == 2**56 - 1


@pytest.mark.parametrize("index", [-1, 255])
def test_no_subnet_lies_outside_of_the_range(index: int) -> None:
    with pytest.raises(IndexError):
        FLANNEL.nth(index)


@pytest.mark.parametrize(
    ("prefix", "fits"),
    [
        ("10.5.1.0/24", True),
        ("10.5.255.0/24", True),
        ("10.5.0.0/24", False),
        ("10.6.0.0/24", False),
        ("10.5.1.0/25", False),
        ("10.5.2.0/23", False),
        ("fd00::/24", False),
    ],
)
def test_a_prefix_fits_only_when_it_is_one_of_the_subnets(prefix: str, fits: bool) -> None:
    assert FLANNEL.fits(ip_network(prefix)) is fits


@pytest.mark.parametrize(
    ("network", "length", "first", "last", "message"),
    [
        ("10.5.0.0/16", 8, "10.5.0.0", "10.5.0.0", "do not fit"),
        ("10.5.0.0/16", 33, "10.5.0.0", "10.5.0.0", "do not fit"),
        ("10.5.0.0/16", 24, "10.6.0.0", "10.5.0.0", "is not in"),
        ("10.5.0.0/16", 24, "fd00::", "10.5.0.0", "is not in"),
        ("10.5.0.0/16", 24, "10.5.1.1", "10.5.2.0", "boundary"),
        ("10.5.0.0/16", 24, "10.5.2.0", "10.5.1.0", "after the last"),
    ],
)
def test_a_range_whose_parts_contradict_each_other_is_refused(
    network: str, length: int, first: str, last: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        subnet_range(network, length, first, last)


@st.composite
def small_range_and_taken(draw: st.DrawFn) -> tuple[SubnetRange, list[IPv4Network]]:
    """/20 in /26s, and prefixes of any length near it."""
    base = int(ip_address("10.5.16.0"))
    low = draw(st.integers(0, 63))
    high = draw(st.integers(low, 63))
    first, last = (ip_address(base + index * 64) for index in (low, high))
    taken = draw(
        st.lists(
            st.builds(
                lambda address, length: IPv4Network((address >> (32 - length) << (32 - length), length)),
                st.integers(base - 4096, base + 8191),
                st.integers(18, 32),
            ),
            max_size=12,
        )
    )
    return SubnetRange(ip_network("10.5.16.0/20"), 26, first, last), taken


@given(small_range_and_taken())
def test_free_are_exactly_those_that_overlap_nothing_taken(
    case: tuple[SubnetRange, list[IPv4Network]],
) -> None:
    subnets, taken = case
    everything = (subnets.nth(index) for index in range(subnets.count))
    expected = [one for one in everything if not any(one.overlaps(other) for other in taken)]
    assert list(subnets.free(taken)) == expected
    assert subnets.free_count(taken) == len(expected)
    assert subnets.first_free(taken, 5) == expected[:5]


def test_the_other_familys_prefixes_take_nothing() -> None:
    assert FLANNEL.free_count([ip_network("::/0")]) == 255


def test_the_first_free_of_2_to_the_56_come_at_once() -> None:
    taken = [WIDE.nth(index) for index in range(100)]
    assert list(islice(WIDE.free(taken), 2)) == [WIDE.nth(100), WIDE.nth(101)]
    assert WIDE.free_count(taken) == 2**56 - 101


def test_20_000_taken_subnets_are_passed_over_in_far_less_than_a_second() -> None:
    taken = [prefix_from_int(6, int(WIDE.first) + (index << 64), 64) for index in range(20_000)]
    taken.reverse()
    start = time.process_time()
    assert WIDE.first_free(taken, 1) == [WIDE.nth(20_000)]
    assert time.process_time() - start < 0.5
