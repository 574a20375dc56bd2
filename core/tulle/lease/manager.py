"""The subnet manager on a store: what tulled asks for its subnet and for the other nodes.

Everything it knows comes from three mirrors (config, leases, member records) and everything it owns is kept by one
publisher; `run` drives them. Keys and lease values are flannel's.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tulle.config.errors import ConfigError
from tulle.config.network import NetworkConfig, parse_network_config
from tulle.contracts.backend import JsonObject, Peer
from tulle.contracts.store import NO_LEASE, Health, KeyValue, Store, StoreError
from tulle.contracts.subnet import Claim
from tulle.lease.acquire import Acquirer, Holding, Keys, Times
from tulle.lease.allocate import Me
from tulle.lease.claims import overlapping_older
from tulle.lease.codec import decode_lease, decode_member
from tulle.lease.drift import Drift, differences, drift
from tulle.lease.errors import ConfigChanged, SubnetLost, duplicate
from tulle.lease.identity import NameHolder
from tulle.lease.model import RESERVED, Lease, Member
from tulle.lease.table import PeerTable
from tulle.net.prefix import Prefix
from tulle.net.subnets import SubnetRange
from tulle.store.clock import Clock
from tulle.store.items import Item
from tulle.store.mirror import Mirror, MirrorStatus
from tulle.store.publisher import Conflict, Publisher, RecordSet
from tulle.store.retry import OutageLog, RareLog
from tulle.tasks import first_to_end

TTL_S = 86_400
"""24 h, flannel's."""
RENEW_MARGIN_S = 3_600
COALESCE_S = 0.02
"""Changes within this time come as one set of peers."""
_ANOTHER_SUBNET = (
    "start tulled again and it takes another subnet; pods with addresses of the old one must be started anew"
)

_log = logging.getLogger("tulle.lease.manager")


class LeaseManager:
    """A `contracts.subnet.SubnetManager`. `run` must run as a task for anything else here to get an answer."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        node: str,
        node_id: str,
        boot_id: str,
        clock: Clock,
        rng: random.Random,
        ttl_s: int = TTL_S,
        renew_margin_s: int = RENEW_MARGIN_S,
    ) -> None:
        """`node_id` is random and lasts (state directory), `boot_id` is the kernel's. Raises ValueError for a
        node name that cannot be a part of a key, and for times that do not fit."""
        if not node or "/" in node or not node.isprintable():
            raise ValueError(f"{node!r} cannot be a node's name: give a host name such as node-1")
        self._store = store
        self._node, self._node_id, self._boot_id = node, node_id, boot_id
        self._keys = Keys(prefix, node)
        self._clock = clock
        self._outages = outages = OutageLog(
            logging.getLogger("tulle.store"), f"{store.name} at {store.location}", clock
        )
        common: Any = {"clock": clock, "rng": rng, "outages": outages}
        self._config: Mirror[bytes] = Mirror(
            store, self._keys.config, _plain, only=lambda key: key == self._keys.config, **common
        )
        self._subnets: Mirror[Lease] = Mirror(store, self._keys.subnets, decode_lease, **common)
        self._members: Mirror[Member] = Mirror(store, self._keys.members, decode_member, **common)
        self._publisher = Publisher(store, **common)
        self._names = NameHolder(store, self._publisher, self._keys.alive, **common)
        self._acquirer = Acquirer(
            store,
            self._keys,
            self._subnets,
            self._members,
            self._publisher,
            Times(ttl_s, renew_margin_s),
            **common,
        )
        self._claim: Claim | None = None
        self._alive: RecordSet | None = None
        self._holding: Holding | None = None
        self._used: NetworkConfig | None = None
        """What the caller goes by: the last that it was told, then for good that of its subnet."""
        self._allowed: NetworkConfig | None = None
        self._drift: Drift | None = None
        self._acquired = asyncio.Event()
        self._failure: asyncio.Queue[Exception] = asyncio.Queue()

    async def run(self) -> None:
        """Ends only by an exception: SubnetLost, DuplicateNode, or being cancelled. What we hold stays in the
        store then."""
        parts = (
            self._config.run(),
            self._subnets.run(),
            self._members.run(),
            self._publisher.run(),
            self._watch_own_key(),
            self._watch_config(),
            self._fail(),
        )
        await first_to_end(*parts)

    async def network_config(self) -> bytes:
        """The JSON text, as soon as there is one; says once what to do where there is none. What is given here is what
        `acquire` then keeps to."""
        text = await self._config_text()
        if not self._acquired.is_set():
            with suppress(ConfigError):  # the caller's to say
                self._used = parse_network_config(text)
        return text

    async def _config_text(self) -> bytes:
        said = False
        with self._config.subscribe() as changes:
            while True:
                await changes.next()
                item = self._config.items.get(self._keys.config)
                if item is not None:
                    return item.kv.value
                if not said:
                    _log.warning(
                        "no-config: the store has no network config at %s: write one with `tulle init`; "
                        "waiting for it",
                        self._keys.config,
                    )
                said = True

    async def acquire(self, claim: Claim) -> tuple[Prefix, ...]:
        """As the contract says. Raises ConfigError, DuplicateNode, and ConfigChanged where the config is no longer the
        one that `network_config` gave."""
        if claim.node != self._node:
            raise ValueError(f"this manager is for node {self._node!r}, the claim for {claim.node!r}")
        if self._claim is not None:
            raise RuntimeError("acquire is called once; call update to change what the lease says")
        self._claim = claim
        try:
            await self._ranges()  # a wrong config ends here, before the store sees anything of us
            me = self._me(claim)
            alive = await self._hold_name(me)
            holding = await self._acquirer.acquire(self._ranges, claim, me, alive)
        except BaseException:
            self._claim = None
            raise
        self._holding = holding
        if self._used is None:
            self._used = self._allowed
        holding.kept.when_lost(lambda: self._failure.put_nowait(self._loss(holding)))
        self._acquired.set()
        return holding.prefixes

    async def update(self, claim: Claim) -> None:
        """As the contract says. Raises SubnetLost or DuplicateNode where there is nothing to update any more."""
        holding = self._holding
        if holding is None or claim.node != self._node:
            raise RuntimeError(
                "update changes what the own lease says: call acquire first, for the same node"
            )
        self._claim = claim
        values = self._acquirer.values(
            holding.key,
            holding.prefixes,
            claim,
            self._me(claim),
            holding.lease_extra,
            holding.member_extra,
        )
        try:
            await self._publisher.update(holding.kept, values)
        except Conflict as conflict:
            raise self._loss(holding) from conflict

    async def peers(self) -> AsyncGenerator[Sequence[Peer], None]:
        """As the contract says; begins when we have our subnet, which is left out."""
        await self._acquired.wait()
        await self._subnets.synced.wait()
        await self._members.synced.wait()
        assert self._holding is not None
        assert self._used is not None
        table = PeerTable(self._holding.key, self._holding.prefixes, self._used.networks)
        rare = RareLog(self._clock)
        refused: set[str] = set()
        first = True
        bell = asyncio.Event()
        with self._subnets.subscribe(bell) as leases, self._members.subscribe(bell) as members:
            while True:
                changed = table.apply(leases.take(), members.take())
                for key in table.refused.keys() - refused:
                    rare.warn(_log, f"lease-refused: {key}: {table.refused[key]}; no traffic goes there")
                refused = set(table.refused)
                if changed or first:
                    first = False
                    yield table.peers()
                await bell.wait()
                await self._clock.sleep(COALESCE_S)

    async def release(self) -> None:
        """Give the subnet and the name back; a reservation stays. Raises StoreError: then they run out."""
        if self._holding is not None:
            spare = {self._keys.subnets + self._holding.key}
            if self._holding.member_extra.get(RESERVED) is True:
                spare.add(self._keys.member)
            await self._publisher.release(self._holding.kept, spare=spare)
        if self._alive is not None:
            await self._publisher.release(self._alive)

    async def close(self) -> None:
        """For the end of tulled: give the name back, so that nobody waits for it, and keep the subnet."""
        if self._alive is not None:
            with suppress(StoreError):
                await self._publisher.release(self._alive)

    @property
    def location(self) -> str:
        return self._store.location

    async def health(self) -> Health:
        """As the contract says; of the mirrors, `status` tells."""
        return await self._store.health()

    def status(self) -> JsonObject:
        """For `tulle status`; times are seconds ago."""
        mirrors: dict[str, Mirror[Any]] = {
            "config": self._config,
            "subnets": self._subnets,
            "members": self._members,
        }
        found: dict[str, Any] = {
            "mirrors": {name: self._mirror_status(mirror.status()) for name, mirror in mirrors.items()},
        }
        if self._drift is not None:
            found["config_drift"] = msgspec.to_builtins(self._drift)
        if self._holding is not None:
            records = self._holding.kept.records
            key = self._keys.subnets + self._holding.key
            found["lease"] = {
                "key": key,
                "prefixes": [str(prefix) for prefix in self._holding.prefixes],
                "reserved": key in records.lasting,
                "confirmed_s_ago": round(self._clock.now() - self._holding.kept.renewed, 1),
                "lost": self._holding.kept.lost.is_set(),
            }
        return found

    async def _hold_name(self, me: Me) -> RecordSet:
        if self._alive is None or self._alive.over:  # else an earlier acquire was cancelled
            self._alive = await self._names.hold(me)
            self._alive.when_lost(
                lambda: self._failure.put_nowait(duplicate(self._node, "it took the name while we were away"))
            )
        return self._alive

    def _mirror_status(self, status: MirrorStatus) -> dict[str, Any]:
        return {
            "state": status.state,
            "for_s": round(self._clock.now() - status.since, 1),
            "revision": status.revision,
            "items": status.items,
            "problems": status.problems,
            "relists": status.relists,
            "reconnects": status.reconnects,
            "last_error": status.last_error,
        }

    def _me(self, claim: Claim) -> Me:
        return Me(self._node, self._node_id, self._boot_id, claim.public, claim.previous)

    async def _ranges(self) -> list[SubnetRange]:
        """What the config has to give now. Where it became unusable, what it had: `_watch_config` says so."""
        used = self._used
        try:
            self._allowed = parse_network_config(await self._config_text())
        except ConfigError:
            if used is None:
                raise
            self._allowed = used
        if used is not None and (changed := list(differences(used, self._allowed))):
            raise ConfigChanged(
                f"the network config at {self._keys.config} was changed before this node had a subnet "
                f"({'; '.join(changed)}): none of the old network is taken"
            )
        return [family.subnets() for family in self._allowed.families]

    async def _watch_own_key(self) -> None:
        """Have the publisher look at our keys as soon as somebody has changed or deleted them, and see what that means
        for us."""
        await self._acquired.wait()
        assert self._holding is not None
        holding, kept = self._holding, self._holding.kept
        subnet = self._keys.subnets + holding.key
        created = 0
        bell = asyncio.Event()
        with self._subnets.subscribe(bell), self._members.subscribe(bell):
            while True:
                self._keep_name_of_reservation(holding)
                for mirror, key in ((self._subnets, subnet), (self._members, self._keys.member)):
                    item, known = mirror.items.get(key), kept.records.known.get(key)
                    if (item.kv.modified if item else 0) != (known.modified if known else 0):
                        kept.check()
                mine = self._subnets.items.get(subnet)
                ours = mine is not None and mine.kv.lease == kept.records.lease != NO_LEASE
                if mine is not None and ours and mine.kv.created != created:
                    created = mine.kv.created
                    await self._yield_to_older(holding, mine)
                await bell.wait()
                bell.clear()

    def _keep_name_of_reservation(self, holding: Holding) -> None:
        """Where a person took the TTL off our lease, our record loses it, too: without it the reservation would belong
        to whoever has our address, and nodes behind one NAT share that."""
        records = holding.kept.records
        subnet = self._keys.subnets + holding.key
        item = self._subnets.items.get(subnet)
        if item is None or item.kv.lease != NO_LEASE or self._keys.member in records.lasting:
            return
        if item.kv.value == records.wanted[subnet]:  # else it is another's, which the publisher finds out
            records.lasting.add(self._keys.member)
            holding.kept.check()

    async def _yield_to_older(self, holding: Holding, mine: Item[Lease]) -> None:
        """Our key may have been put again after it had run out. The publisher compares that one key; a lease with
        another key that has a part of our subnet may have been made meanwhile, and stays."""
        older = overlapping_older(mine, self._subnets.items)
        if not older:
            return
        with suppress(StoreError):  # then it runs out
            await self._publisher.release(holding.kept)
        names = ", ".join(map(str, holding.prefixes))
        self._failure.put_nowait(
            SubnetLost(
                f"the lease of node {self._node!r} ran out, and a part of its subnet {names} now belongs to "
                f"{', '.join(older)}: {_ANOTHER_SUBNET}"
            )
        )

    async def _watch_config(self) -> None:
        """Say where the store's config is no longer the one that this node runs with."""
        await self._acquired.wait()
        assert self._holding is not None
        assert self._used is not None
        with self._config.subscribe() as changes:
            while True:
                await changes.next()
                item = self._config.items.get(self._keys.config)
                text = item.kv.value if item is not None else None
                found = drift(self._keys.config, self._used, text, self._holding.prefixes)
                if found == self._drift:
                    continue
                if found is None:
                    _log.warning(
                        "config-restored: the network config at %s is again the one that this node runs with",
                        self._keys.config,
                    )
                else:
                    _log.warning("config-%s: %s", found.kind, found.message)
                self._drift = found

    async def _fail(self) -> None:
        raise await self._failure.get()

    def _loss(self, holding: Holding) -> Exception:
        """Whether our subnet went to another node, or to another machine with our name."""
        record = holding.kept.present.get(self._keys.member)
        member = decode_member(record) if record is not None else None
        if isinstance(member, Member) and member.id != self._node_id:
            return duplicate(self._node, f"node id {member.id[:16]}, which has our subnet now")
        names = ", ".join(str(prefix) for prefix in holding.prefixes)
        return SubnetLost(
            f"the subnet {names} of node {self._node!r} now belongs to another node, as the store says at "
            f"{self._keys.subnets}{holding.key}: {_ANOTHER_SUBNET}"
        )


def _plain(kv: KeyValue) -> bytes:
    return kv.value
