"""The longest-prefix table against asking every prefix."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from timeit import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.net.prefix import Prefix, prefix_from_int
from tulle.net.table import PrefixTable

# Few values of few bits, so that prefixes nest, repeat and meet the addresses.
_BITS = {4: 32, 6: 128}
families = st.sampled_from([4, 6])
addresses = st.builds(
    lambda family, high, low: (family, high << (_BITS[family] - 4) | low),
    families,
    st.integers(0, 15),
    st.integers(0, 15),
)


def _prefix(address: tuple[int, int], length: int) -> Prefix:
    family, number = address
    bits = _BITS[family]
    length = min(length, bits)
    return prefix_from_int(family, number >> (bits - length) << (bits - length), length)


prefixes = st.builds(_prefix, addresses, st.sampled_from([0, 1, 2, 3, 4, 5, 28, 31, 32, 127, 128]))


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Prefix, int]]:
    """Changes of a few prefixes, so that what is removed was mostly there."""
    pool = draw(st.lists(prefixes, min_size=1, max_size=6))
    step = st.tuples(st.sampled_from(["insert", "insert", "remove"]), st.sampled_from(pool), st.integers())
    return draw(st.lists(step, max_size=30))


def linear(model: dict[Prefix, int], family: int, number: int) -> int | None:
    """Longest match by asking every prefix."""
    address = ip_address(number.to_bytes(_BITS[family] // 8, "big"))
    found = [prefix for prefix in model if prefix.version == family and address in prefix]
    return model[max(found, key=lambda prefix: prefix.prefixlen)] if found else None


@given(steps(), st.lists(addresses, max_size=10))
@settings(max_examples=300)
def test_a_lookup_agrees_with_asking_every_prefix(
    changes: list[tuple[str, Prefix, int]], asked: list[tuple[int, int]]
) -> None:
    table: PrefixTable[int] = PrefixTable()
    model: dict[Prefix, int] = {}
    for what, prefix, value in changes:
        if what == "insert":
            table.insert(prefix, value)
            model[prefix] = value
        else:
            assert table.remove(prefix) == model.pop(prefix, None)
    assert dict(table.items()) == model
    assert len(table) == len(model)
    inside = [(prefix.version, int(prefix.network_address)) for _, prefix, _ in changes]
    for family, number in [*asked, *inside]:
        packed = number.to_bytes(_BITS[family] // 8, "big")
        assert table.lookup(packed) == linear(model, family, number)
    for _, prefix, _ in changes:
        assert table.get(prefix) == model.get(prefix)


def test_one_prefix_of_each_family_does_not_answer_for_the_other() -> None:
    table: PrefixTable[str] = PrefixTable()
    table.insert(IPv4Network("0.0.0.0/0"), "four")
    assert table.lookup(bytes(16)) is None
    table.insert(IPv6Network("::/0"), "six")
    assert table.lookup(bytes(16)) == "six"
    assert table.lookup(bytes(4)) == "four"


def test_removing_one_prefix_leaves_its_neighbour_of_the_same_length() -> None:
    table: PrefixTable[str] = PrefixTable()
    for third, value in ((1, "one"), (2, "two")):
        table.insert(IPv4Network(f"10.5.{third}.0/24"), value)
    assert table.remove(IPv4Network("10.5.1.0/24")) == "one"
    assert table.lookup(bytes([10, 5, 1, 9])) is None
    assert table.lookup(bytes([10, 5, 2, 9])) == "two"


@pytest.mark.parametrize("length", [0, 1, 3, 5, 8, 15, 17])
def test_bytes_that_are_no_address_find_nothing(length: int) -> None:
    table: PrefixTable[str] = PrefixTable()
    table.insert(ip_network("0.0.0.0/0"), "all")
    table.insert(ip_network("::/0"), "all")
    assert table.lookup(bytes(length)) is None


def test_a_lookup_among_100_000_takes_about_as_long_as_among_three() -> None:
    def filled(count: int) -> PrefixTable[int]:
        table: PrefixTable[int] = PrefixTable()
        for index in range(count):
            table.insert(IPv4Network((0x0A000000 + (index << 8), 24)), index)
        return table

    small, large = filled(3), filled(100_000)
    address = bytes([10, 0, 1, 5])
    assert small.lookup(address) == large.lookup(address) == 1

    def best(table: PrefixTable[int]) -> float:
        return min(timeit(lambda: table.lookup(address), number=2_000) for _ in range(7))

    # A scan would take ten thousand times as long; the bound leaves room for a busy machine.
    assert best(large) < best(small) * 20
