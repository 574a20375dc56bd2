"""A subnet manager: where this node's subnet and the others' come from.

The built-in one keeps leases in a `Store`. Another one (Kubernetes node objects) can take its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from tulle.contracts.backend import Address, Advertisement, Family, Peer
from tulle.net.prefix import Prefix


class Claim(msgspec.Struct, frozen=True):
    """What we ask for and tell the others."""

    node: str
    public: dict[Family, Address]
    advertisement: Advertisement
    previous: tuple[Prefix, ...] = ()
    """Our subnets of the last run, from subnet.env: a preference."""
    candidates: tuple[Address, ...] = ()
    """Further addresses that others may reach us at, best first; `public` comes before them."""


class SubnetManager(Protocol):
    """Proven by `tulle.testing.subnet_contract.SubnetManagerContract`."""

    async def network_config(self) -> bytes:
        """The network config's JSON text. Waits until there is one."""
        ...

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        """Our subnets; from here on they are kept. Waits where none is free or the store is away."""
        ...

    async def update(self, claim: Claim) -> None:
        """Tell the others something new about us (address, advertisement)."""
        ...

    def peers(self) -> AsyncIterator[Sequence[Peer]]:
        """The other nodes: the whole set now, and again after each change (several changes at once may come
        as one set)."""
        ...

    async def release(self) -> None:
        """Give the subnets back."""
        ...
