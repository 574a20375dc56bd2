"""Which leases share addresses, against asking every pair."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from tulle.lease.overlaps import Overlaps
from tulle.net.prefix import Prefix

# Few bits, so that prefixes meet.
V4 = st.builds(
    lambda number, length: ip_network((number << 24, length), strict=False),
    st.integers(0, 3),
    st.integers(5, 10),
)
V6 = st.builds(
    lambda number, length: ip_network((0xFD << 120 | number << 64, length), strict=False),
    st.integers(0, 3),
    st.integers(61, 66),
)
PREFIXES = st.lists(st.one_of(V4, V6), max_size=3, unique=True)


def meet(some: list[Prefix], others: list[Prefix]) -> bool:
    return any(
        one.version == other.version and one.overlaps(other)  # type: ignore[arg-type]
        for one in some
        for other in others
    )


@given(st.lists(st.tuples(st.sampled_from("abcd"), PREFIXES), max_size=20))
def test_the_others_that_share_addresses_are_found(steps: list[tuple[str, list[Prefix]]]) -> None:
    overlaps = Overlaps()
    held: dict[str, list[Prefix]] = {}
    for key, prefixes in steps:
        overlaps.put(key, prefixes)
        held[key] = prefixes
        for one in held:
            expected = {other for other in held if other != one and meet(held[one], held[other])}
            assert overlaps.of(one) == expected


def test_what_is_not_there_meets_nothing() -> None:
    assert Overlaps().of("a") == set()
