"""Which subnets a cluster network of one family has to give, and which of them are free.

A range is an arithmetic progression of prefixes of one length. Nothing is ever enumerated: fd00::/8 has 2^56
subnets of length 64, so free ones are found by walking the gaps between the taken ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from tulle.net.prefix import ADDRESS_BITS, Address, Prefix, prefix_from_int


class SubnetRange(msgspec.Struct, frozen=True):
    """The subnets of `length` bits from the one at `first` to the one at `last`, both included."""

    network: Prefix
    length: int
    first: Address
    """Network address of the lowest subnet; aligned to `length`."""
    last: Address
    """Network address of the highest."""

    def __post_init__(self) -> None:
        """Raises ValueError where the four do not belong together."""
        if not self.network.prefixlen <= self.length <= self.network.max_prefixlen:
            raise ValueError(f"subnets of /{self.length} do not fit into {self.network}")
        for address in (self.first, self.last):
            if address.version != self.network.version or address not in self.network:
                raise ValueError(f"{address} is not in {self.network}")
            if int(address) % self.size:
                raise ValueError(f"{address} is not on a /{self.length} boundary")
        if int(self.first) > int(self.last):
            raise ValueError(f"the first subnet {self.first} lies after the last, {self.last}")

    @property
    def size(self) -> int:
        """Addresses in one subnet."""
        return 1 << (self.network.max_prefixlen - self.length)

    @property
    def count(self) -> int:
        """How many subnets there are, free or not."""
        return (int(self.last) - int(self.first)) // self.size + 1

    def nth(self, index: int) -> Prefix:
        """The subnet at `index`, from 0. Raises IndexError."""
        if not 0 <= index < self.count:
            raise IndexError(f"subnet {index} of {self.count}")
        return prefix_from_int(self.network.version, int(self.first) + index * self.size, self.length)

    def fits(self, prefix: Prefix) -> bool:
        """Whether the prefix is one of this range's subnets."""
        return (
            prefix.version == self.network.version
            and prefix.prefixlen == self.length
            and int(self.first) <= int(prefix.network_address) <= int(self.last)
        )

    def free(self, taken: Iterable[Prefix]) -> Iterator[Prefix]:
        """Subnets that overlap none of the taken prefixes, lowest first. Taken prefixes may have any length
        and lie anywhere; those of the other family do not matter. Sorts `taken` at the first step, then
        lazy."""
        for low, high in self._gaps(taken):
            for index in range(low, high):
                yield self.nth(index)

    def first_free(self, taken: Iterable[Prefix], limit: int) -> list[Prefix]:
        """At most `limit` of `free`."""
        return list(islice(self.free(taken), limit))

    def free_count(self, taken: Iterable[Prefix]) -> int:
        """How many subnets are free."""
        return sum(high - low for low, high in self._gaps(taken))

    def _gaps(self, taken: Iterable[Prefix]) -> Iterator[tuple[int, int]]:
        """Half-open runs of free indexes, in order."""
        start = 0
        for low, high in sorted(self._covered(taken)):
            if low > start:
                yield start, low
            start = max(start, high)
        if start < self.count:
            yield start, self.count

    def _covered(self, taken: Iterable[Prefix]) -> Iterator[tuple[int, int]]:
        """For each taken prefix that touches the range, the half-open run of indexes that it touches."""
        version, size, count, base = self.network.version, self.size, self.count, int(self.first)
        bits = ADDRESS_BITS[version]
        for prefix in taken:
            if prefix.version != version:
                continue
            start = int(prefix.network_address) - base
            low = max(start // size, 0)
            high = min((start + (1 << (bits - prefix.prefixlen)) - 1) // size + 1, count)
            if low < high:
                yield low, high
