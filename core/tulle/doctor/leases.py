"""Leases against each other, against the cluster's networks, and against the nodes' own records."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.store import KeyValue
from tulle.doctor import reading
from tulle.doctor.daemon import start_command
from tulle.lease.claims import owns
from tulle.lease.codec import decode_alive, decode_lease, decode_member, short_key
from tulle.lease.model import Alive, Lease, Member
from tulle.net.prefix import Prefix, subnet_key
from tulle.store.items import Item, Undecodable

SHOWN = 20
"""Findings of one kind; a broken cluster has thousands."""


class Records(msgspec.Struct, frozen=True):
    """What the store holds, decoded."""

    leases: Mapping[str, Item[Lease]]
    """By short key."""
    members: Mapping[str, Item[Member]]
    """By node name."""
    unreadable: Mapping[str, str]
    """Whole key to reason."""
    alive: Alive | None
    """Of this node's name."""
    owners: Mapping[str, Sequence[str]]
    """Names of the nodes whose record rightly names a lease, by its short key; more than one is a fault."""

    def owner(self, key: str) -> str:
        """ "" for none (a flannel node's)."""
        return next(iter(self.owners.get(key, ())), "")


async def check(ctx: DoctorContext) -> list[Finding]:
    if ctx.kept_elsewhere:
        return [
            Finding(severity="skipped", subject="leases", what="a plugin's subnet manager keeps the subnets")
        ]
    if ctx.store_error or ctx.store is None:
        return [Finding(severity="skipped", subject="leases", what="the store does not answer")]
    own_id = (reading.text(ctx.state_dir / "id") or "").strip()
    return judge(ctx, decode(ctx.records, ctx.prefix, ctx.node), own_id, start_command("restart"))


def decode(records: Mapping[str, KeyValue], prefix: str, node: str) -> Records:
    leases: dict[str, Item[Lease]] = {}
    members: dict[str, Item[Member]] = {}
    unreadable: dict[str, str] = {}
    for key, kv in records.items():
        kind = key.removeprefix(f"{prefix}/").partition("/")[0]
        value = decode_lease(kv) if kind == "subnets" else decode_member(kv) if kind == "members" else None
        if isinstance(value, Undecodable):
            unreadable[key] = value.reason
        elif isinstance(value, Lease):
            leases[short_key(key)] = Item(kv, value)
        elif isinstance(value, Member):
            members[short_key(key)] = Item(kv, value)
    found = records.get(f"{prefix}/alive/{node}")
    alive = decode_alive(found.value) if found is not None else None
    return Records(
        leases, members, unreadable, alive if isinstance(alive, Alive) else None, _owners(leases, members)
    )


def _owners(leases: Mapping[str, Item[Lease]], members: Mapping[str, Item[Member]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, member in members.items():
        for key in _subnets(member):
            if key in leases and owns(member, leases[key]):
                found.setdefault(key, []).append(name)
    return found


def judge(ctx: DoctorContext, records: Records, own_id: str, restart: str) -> list[Finding]:
    """Pure."""
    kinds = (
        _duplicate_name(ctx, records, own_id),
        _own(ctx, records, restart),
        _overlaps(records),
        _claimed_twice(records),
        _records_without_lease(records),
        _outside(records, ctx.networks),
        _unreadable(records),
    )
    found = [one for kind in kinds for one in _some(list(kind))]
    what = f"{len(records.leases)} leases, none overlaps another, each fits its node's record"
    return found or [Finding(severity="ok", subject=f"{ctx.prefix}/subnets", what=what)]


def _some(found: list[Finding]) -> list[Finding]:
    if len(found) <= SHOWN:
        return found
    rest = msgspec.structs.replace(
        found[SHOWN], subject="and more", what=f"{len(found) - SHOWN} more of the same kind"
    )
    return [*found[:SHOWN], rest]


def release(key: str) -> str:
    """The command that deletes a lease."""
    return f"tulle leases release {shlex.quote(key)}"


def _duplicate_name(ctx: DoctorContext, records: Records, own_id: str) -> Iterator[Finding]:
    if own_id and records.alive is not None and records.alive.id != own_id:
        yield Finding(
            severity="error",
            subject=f"{ctx.prefix}/alive/{ctx.node}",
            what=f"another machine (id {records.alive.id}) is alive under the name {ctx.node!r}",
            why="two nodes of one name take each other's lease; the one that comes second does not start",
            mend="tulled --node-name NAME  # another for one of the two; a cloned machine's state directory goes too",
        )


def _own(ctx: DoctorContext, records: Records, restart: str) -> Iterator[Finding]:
    """Only where a tulled says which subnets it holds."""
    if ctx.status is None or not ctx.subnets:
        return
    key = subnet_key(ctx.subnets)
    why = "other nodes send the packets for this subnet elsewhere, or nowhere"
    if key not in records.leases:
        what = f"tulled holds {key}, but the store has no such lease"
        yield Finding(severity="error", subject=key, what=what, why=why, mend=restart)
    elif (whose := records.owner(key)) not in ("", ctx.node):
        what = f"tulled here holds {key}, but by the store's records it is {whose}'s"
        yield Finding(severity="error", subject=key, what=what, why=why, mend=restart)


def _overlaps(records: Records) -> Iterator[Finding]:
    for older, newer, prefix in overlapping(records.leases.values()):
        a, b = (records.owner(short_key(one.kv.key)) or "no known node" for one in (older, newer))
        keys = [short_key(one.kv.key) for one in (older, newer)]
        yield Finding(
            severity="error",
            subject=keys[1],
            what=f"overlaps {keys[0]} in {prefix}: the older one is of {a}, this one of {b}",
            why="two nodes give the same addresses to their pods; replies go to the wrong one",
            mend=f"{release(keys[1])}  # then restart tulled on {b}",
        )


def overlapping(leases: Iterable[Item[Lease]]) -> Iterator[tuple[Item[Lease], Item[Lease], Prefix]]:
    """(older, newer, the smaller of the two prefixes) for each lease that overlaps the one sorted before it."""
    spans = sorted(
        (
            (one.version, int(one.network_address), -one.num_addresses, one, item)
            for item in leases
            if item.value is not None
            for one in item.value.prefixes
        ),
        key=lambda span: span[:3],
    )
    widest: tuple[int, int, Item[Lease]] | None = None  # family, last address, whose
    for version, first, _, prefix, item in spans:
        last = first + prefix.num_addresses - 1
        if widest is not None and widest[0] == version and first <= widest[1]:
            older, newer = sorted((widest[2], item), key=lambda one: one.kv.created)
            yield older, newer, prefix
        if widest is None or widest[0] != version or last > widest[1]:
            widest = (version, last, item)


def _claimed_twice(records: Records) -> Iterator[Finding]:
    for key, names in records.owners.items():
        if len(names) > 1:
            yield Finding(
                severity="error",
                subject=key,
                what=f"the records of {', '.join(names)} all name it",
                why="each of them takes itself for its owner",
                mend=f"{release(key)}  # then restart tulled on these nodes",
            )


def _records_without_lease(records: Records) -> Iterator[Finding]:
    for name, member in records.members.items():
        for key in _subnets(member):
            lease = records.leases.get(key)
            if lease is None or not owns(member, lease):
                how = "is not there" if lease is None else "has been taken by another node"
                yield Finding(
                    severity="warning",
                    subject=f"members/{name}",
                    what=f"names the lease {key}, which {how}",
                    why=f"{name} has no subnet that others know of",
                    mend=f"systemctl restart tulled  # on {name}",
                )


def _outside(records: Records, networks: Sequence[Prefix]) -> Iterator[Finding]:
    for key, item in records.leases.items():
        assert item.value is not None
        strays = [
            one for one in item.value.prefixes if networks and not any(_inside(one, net) for net in networks)
        ]
        if strays:
            yield Finding(
                severity="warning",
                subject=key,
                what=f"lies outside the cluster's networks {', '.join(map(str, networks))}",
                why="no tulled carries packets to it; it may be of an earlier network config",
                mend=release(key),
            )


def _unreadable(records: Records) -> Iterator[Finding]:
    for key, reason in records.unreadable.items():
        yield Finding(
            severity="warning",
            subject=key,
            what=f"cannot be read: {reason}",
            why="every node leaves it out: whoever wrote it is not reached",
            mend=release(short_key(key))
            if "/subnets/" in key
            else f"tulle leases  # and remove {key} from the store",
        )


def _subnets(member: Item[Member]) -> tuple[str, ...]:
    return member.value.subnets if member.value is not None else ()


def _inside(inner: Prefix, outer: Prefix) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # same version
