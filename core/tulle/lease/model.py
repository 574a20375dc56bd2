"""What the store holds of a node: its lease (flannel's record) and what flannel does not know, its member and
alive records. Pure data."""

from __future__ import annotations

from typing import Any

import msgspec

from tulle.contracts.store import NO_LEASE, LeaseId, Revision
from tulle.net.prefix import Address, Family, Prefix

RESERVED = "Reserved"
"""Further field of a member record, true where a person reserved the subnet for this name before any node had it: then
the record stays when the node gives its subnet back."""

MTU = "MTU"
"""Further field of a member record: the largest packet of the node's pods, in bytes. A record may lack it (of an older
tulle, or of a node that is not ready yet)."""
MTUS = range(68, 65536)
"""RFC 791: every link carries 68 bytes, and no packet is longer than 65535."""


class Lease(msgspec.Struct, frozen=True):
    """One key under `subnets/`."""

    key: str
    """Without what stands before it: "10.5.52.0-24"."""
    prefixes: tuple[Prefix, ...]
    """IPv4 first."""
    public: dict[Family, Address] = {}
    """PublicIP and PublicIPv6, where there are any."""
    backend: str = ""
    """BackendType as it stands there; "" where there is none."""
    data: Any = None
    """BackendData: any JSON (an object, except flannel's extension backend); None where there is none."""
    data_v6: Any = None
    store_lease: LeaseId = NO_LEASE
    revision: Revision = Revision(0)
    extra: dict[str, Any] = {}
    """Fields that nobody here knows; they are written back."""

    @property
    def reserved(self) -> bool:
        """It has no TTL: a person reserved this subnet for its node."""
        return self.store_lease == NO_LEASE


class Member(msgspec.Struct, frozen=True):
    """`members/<name>`: which lease is that node's, whatever address it has. Written in one transaction with the
    lease."""

    name: str
    id: str
    """Random, from the node's state directory."""
    boot_id: str
    subnets: tuple[str, ...] = ()
    """Lease keys as `Lease.key`."""
    endpoints: tuple[Address, ...] = ()
    """Addresses that it may be reached at, best first."""
    extra: dict[str, Any] = {}

    @property
    def reserved(self) -> bool:
        return self.extra.get(RESERVED) is True

    @property
    def mtu(self) -> int:
        """0: it says none, or none that there is."""
        told = self.extra.get(MTU)
        return told if type(told) is int and told in MTUS else 0


class Alive(msgspec.Struct, frozen=True):
    """`alive/<name>`: the tulled that holds this name now. It goes 30 s after its last sign."""

    id: str
    boot_id: str
