"""What our lease said before this start, so that a backend can go on with what the others know (a MAC, a key). Pure,
but for `recall`."""

from __future__ import annotations

from collections.abc import Collection

from tulle.contracts.backend import Advertisement, JsonObject
from tulle.contracts.store import Store
from tulle.lease.registered import Registered, read
from tulle.net.prefix import Address


async def recall(store: Store, prefix: str, node: str, public: Collection[Address]) -> Advertisement | None:
    """Raises StoreError."""
    return recalled(await read(store, prefix), node, public)


def recalled(known: Registered, node: str, public: Collection[Address]) -> Advertisement | None:
    """Of the lease that our record rightly names; else of one with our address that no record names, which is
    flannel's."""
    mine = known.of_node(node)
    if not mine:
        mine = [
            key
            for key, item in known.leases.items()
            if item.value is not None
            and any(one in public for one in item.value.public.values())
            and known.owner(key) is None
        ]
    for key in mine:
        lease = known.leases[key].value
        if lease is not None:
            text = lease.data if isinstance(lease.data, str) else None
            return Advertisement(lease.backend, _object(lease.data), _object(lease.data_v6), text)
    return None


def _object(data: object) -> JsonObject:
    return dict(data) if isinstance(data, dict) else {}
