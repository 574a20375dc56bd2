"""Which leases share addresses with one another. Pure.

One dict for each prefix length in use, as in `tulle.net.table`: where all subnets of a family have one length, which is
so in every sound cluster, a question is one dict look-up however many leases there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.net.prefix import Prefix

_Place = tuple[int, int, int]
"""Family, length and first bits of a prefix: `ipaddress` is slow to ask, and is asked once."""


class Overlaps:
    """Leases by key, with their prefixes."""

    def __init__(self) -> None:
        self._places: dict[str, list[_Place]] = {}
        self._levels: dict[
            tuple[int, int], dict[int, set[str]]
        ] = {}  # (family, length) -> first bits -> keys

    def put(self, key: str, prefixes: Sequence[Prefix]) -> None:
        """Add a lease, or give it other prefixes; none takes it out."""
        for family, length, bits in self._places.pop(key, ()):
            level = self._levels[family, length]
            level[bits].discard(key)
            if not level[bits]:
                del level[bits]
            if not level:
                del self._levels[family, length]
        if prefixes:
            self._places[key] = [_place(prefix) for prefix in prefixes]
        for family, length, bits in self._places.get(key, ()):
            self._levels.setdefault((family, length), {}).setdefault(bits, set()).add(key)

    def of(self, key: str) -> set[str]:
        """The others that share addresses with this one."""
        found: set[str] = set()
        for family, length, bits in self._places.get(key, ()):
            for (other_family, other_length), level in self._levels.items():
                if other_family != family:
                    continue
                deeper = other_length - length
                if deeper <= 0:
                    found |= level.get(bits >> -deeper, _NONE)
                else:
                    found.update(*(keys for inner, keys in level.items() if inner >> deeper == bits))
        found.discard(key)
        return found


_NONE: frozenset[str] = frozenset()


def _place(prefix: Prefix) -> _Place:
    """The first bits are those of the network, without those of the host."""
    bits = int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)
    return prefix.version, prefix.prefixlen, bits
