"""A subnet manager: where this node's subnet and the others' come from, and who tells us of the other nodes.

The built-in one keeps leases in a `Store` (`tulle.lease.manager`). A plugin's (Kubernetes node objects) takes its
place where `--store` names it.

Its life: the factory -> `run` as a task, to the end -> `network_config` -> `acquire` -> `peers`, with `update` and
`release` in between -> `close` where tulled ends by SIGTERM -> `run` is cancelled.

Errors. tulled ends with status 1 and the error's text as its last word by `DuplicateNode`, `SubnetLost`, any
`contracts.store.StoreError`, OSError and ValueError, and with status 2 by `tulle.config.errors.ConfigError`. Say in
the text what happened, to what, and what to do next. Anything else is told as a fault of the plugin, and ends tulled
too. So wait, and say so in the log, where a later try may work: a node that ends has no one who tries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from tulle.contracts.backend import Address, Advertisement, Family, JsonObject, Peer
from tulle.contracts.store import Health
from tulle.net.prefix import Prefix


class DuplicateNode(Exception):
    """Another tulled is alive under our node's name."""


class SubnetLost(Exception):
    """Our subnet belongs to another node now (we were away for longer than the lease). Traffic for it goes there:
    start again, with another subnet."""


class Claim(msgspec.Struct, frozen=True):
    """What we ask for and tell the others."""

    node: str
    public: dict[Family, Address]
    advertisement: Advertisement
    previous: tuple[Prefix, ...] = ()
    """Our subnets of the last run, from subnet.env: a preference."""
    candidates: tuple[Address, ...] = ()
    """Further addresses that others may reach us at, best first; `public` comes before them."""
    node_id: str = ""
    """Random, kept in the state directory: of two machines that claim one name, whose is whose."""
    mtu: int = 0
    """Of our pods' packets, for `tulle doctor` of the others; 0: not known yet, what was told before stays."""


@runtime_checkable
class SubnetManager(Protocol):
    """Proven by `tulle.testing.subnet_contract.SubnetManagerContract`."""

    @property
    def location(self) -> str:
        """Where it keeps what it knows, for people: "https://10.0.0.1:6443". No secrets. Known before `run`."""
        ...

    async def run(self) -> None:
        """Its task, for ever: what follows the others and keeps what is ours. It may be called once, and until it runs
        nothing else needs to answer. Ends only by an exception (`SubnetLost`, `DuplicateNode`, ...) or by being
        cancelled: then it lets go of its connections and files, within a second or two, and what we hold stays."""
        ...

    async def network_config(self) -> bytes:
        """The network config's JSON text. Waits until there is one."""
        ...

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        """Our subnets, IPv4 before IPv6; from here on they are kept. Waits where none is free or the store is away.
        Raises DuplicateNode where another machine is alive under our name."""
        ...

    async def update(self, claim: Claim) -> None:
        """Tell the others something new about us (address, advertisement). What is away is told later: no error."""
        ...

    def peers(self) -> AsyncIterator[Sequence[Peer]]:
        """The other nodes: the whole set now, and again after each change (several changes at once may come
        as one set). Without end; what is away means that no new set comes, never an empty one."""
        ...

    async def health(self) -> Health:
        """Whether what it stands on answers, and we hear of changes: one cheap round trip, asked every few seconds, for
        `tulle status` and metrics alone. Raises StoreError (`Unavailable`), with a text for people, where not."""
        ...

    def status(self) -> JsonObject:
        """What else `tulle status -o json` is to show, as `store.detail`; JSON-ready, no I/O, no secrets.

        Some words have a place of their own there, where they are of the right shape: "mirrors" (by name, as
        `tulle.store.Mirror` tells of itself: `tulle.node.answers.MirrorAnswer`), "lease"
        (`tulle.node.answers.LeaseAnswer`), and "problems" (a list of `contracts.backend.Problem`: what does not work
        now, and what to do)."""
        ...

    async def release(self) -> None:
        """Give subnets and name back (`tulle down --release`). Raises StoreError: then nothing else is taken down."""
        ...

    async def close(self) -> None:
        """tulled ends by SIGTERM: give the name back, so that nobody waits for it, and keep the subnets, which this
        node comes back for. tulled waits two seconds for it, and cancels `run` then."""
        ...
