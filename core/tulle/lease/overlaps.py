"""Which leases share addresses with one another. Pure.

One dict for each prefix length in use, as in `tulle.net.table`: where all subnets of a family have one length, which is
so in every sound cluster, a question is one dict look-up however many leases there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulle.net.prefix import Prefix


class Overlaps:
    """Leases by key, with their prefixes."""

    def __init__(self) -> None:
        self._prefixes: dict[str, Sequence[Prefix]] = {}
        self._levels: dict[
            tuple[int, int], dict[int, set[str]]
        ] = {}  # (family, length) -> first bits -> keys

    def put(self, key: str, prefixes: Sequence[Prefix]) -> None:
        """Add a lease, or give it other prefixes; none takes it out."""
        for prefix in self._prefixes.pop(key, ()):
            level = self._levels[prefix.version, prefix.prefixlen]
            level[_bits(prefix)].discard(key)
            if not level[_bits(prefix)]:
                del level[_bits(prefix)]
            if not level:
                del self._levels[prefix.version, prefix.prefixlen]
        if prefixes:
            self._prefixes[key] = prefixes
        for prefix in prefixes:
            level = self._levels.setdefault((prefix.version, prefix.prefixlen), {})
            level.setdefault(_bits(prefix), set()).add(key)

    def of(self, key: str) -> set[str]:
        """The others that share addresses with this one."""
        found: set[str] = set()
        for prefix in self._prefixes.get(key, ()):
            for (family, length), level in self._levels.items():
                if family != prefix.version:
                    continue
                deeper = length - prefix.prefixlen
                if deeper <= 0:
                    found |= level.get(_bits(prefix) >> -deeper, set())
                else:
                    found.update(*(keys for bits, keys in level.items() if bits >> deeper == _bits(prefix)))
        found.discard(key)
        return found


def _bits(prefix: Prefix) -> int:
    """The bits of the network, without those of the host."""
    return int(prefix.network_address) >> (prefix.max_prefixlen - prefix.prefixlen)
