"""Reads links, addresses, routes, neighbours and FDB entries from the kernel and applies the difference.

pyroute2's synchronous classes start a loop of their own and so do not work inside a running one; this uses its
asyncio class, without multicast groups (a command socket that listens as well overruns, and the next command gets
the ENOBUFS).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import msgspec
from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.exceptions import NetlinkError

from tulle.contracts.backend import Problem, Report
from tulle.contracts.kernel import LinkFacts
from tulle.kernel import ethtool, messages, rtwire
from tulle.kernel.actions import EntryAction, SetLink
from tulle.kernel.rtsocket import RouteSocket
from tulle.kernel.saying import condensed, fewer, refused, unsettled
from tulle.kernel.settled import Settled
from tulle.kernel.state import (
    ALIAS,
    Action,
    AddRoute,
    MakeLink,
    RemoveFdb,
    RemoveNeighbour,
    RemoveRoute,
    Seen,
    SeenLink,
    SeenRoute,
    SetFdb,
    SetNeighbour,
    Slot,
    Wanted,
    WantedAddress,
    WantedFdb,
    WantedNeighbour,
    WantedRoute,
    Way,
    diff,
)
from tulle.kernel.underlay import LocalAddress, LocalLink, Surroundings, WayOut
from tulle.net.prefix import Address, Family

MAX_ROUNDS = 6
"""Reading and changing again, when others change the same things meanwhile. Two are usual: change, verify."""

MAX_READS = 10
"""Of one listing that changes while it is read (NLM_F_DUMP_INTR)."""

GONE = {errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.EEXIST}
"""What was read is no longer so: read again."""

NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EAGAIN, errno.EOPNOTSUPP}
"""Answers to a look-up where no route, or an unreachable, prohibit, blackhole or throw route, was found, or where
the kernel has no such family."""

OUTSIDE: Mapping[Family, Address] = {4: ip_address("203.0.113.1"), 6: ip_address("2001:db8:ffff::1")}
"""Addresses that belong to nobody (RFC 5737, RFC 3849): the way to them is the default route. Looking up costs
the same whatever the size of the table; nothing is sent."""

NO_ENTRIES = frozenset({errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOENT})
"""Answers to a listing where the link has just gone, the kernel has no such family, or a routing table has had no route
yet (ENOENT, in a fresh namespace)."""


class Netlink:
    """Belongs to one thread and its loop. `async with`, or `close` at the end."""

    def __init__(self) -> None:
        self.entry_links: frozenset[int] = frozenset()
        """Indexes of the links on which neighbours or FDB entries are kept: what changes there matters."""
        self._socket: AsyncIPRoute | None = None
        self._entries = RouteSocket()
        self._reader = rtwire.Reader(_link_name)
        self._last: Settled | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Netlink:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._entries.close()

    async def reconcile(self, wanted: Wanted, *, trusting: bool = False) -> Report:
        """Make the kernel be as wanted. Idempotent; callers take turns. `trusting`: nothing is read where the last
        pass found all as wanted and now a few entries differ: the kernel must then be looked at soon.

        Removes every route of ours that is not wanted. Raises OSError only where the kernel cannot be asked at
        all (no socket)."""
        async with self._turn:
            last, self._last = self._last, None
            if trusting and last is not None:
                report = await self._advance(wanted, last)
                if report is not None:
                    return report
            return await self._reconcile(wanted)

    async def _advance(self, wanted: Wanted, last: Settled) -> Report | None:
        """None: it is not so simple, look at the kernel."""
        difference = last.difference(wanted)
        if difference is None:
            return None
        plan = diff(*difference)
        if plan.problems or not all(isinstance(one, EntryAction) for one in plan.actions):
            return None
        if any(await self._carry_out(plan.actions)):
            return None
        self._last = msgspec.structs.replace(last, wanted=wanted)
        return Report(condensed(plan.actions))

    async def _reconcile(self, wanted: Wanted) -> Report:
        done: list[Action] = []
        foreign: dict[Slot, str] = {}
        not_done: dict[Action, Problem] = {}
        codes: dict[Action, int] = {}
        for _ in range(MAX_ROUNDS):
            seen = await self._read(wanted, foreign)
            plan = diff(wanted, seen)
            to_do = [action for action in plan.actions if not not_done or action not in not_done]
            if not to_do:
                still = [not_done[action] for action in plan.actions]
                if not still and not plan.problems and not wanted.partial:
                    self._last = Settled(wanted, seen.links)
                return Report(condensed(done), fewer((*plan.problems, *still)))
            for action, code in zip(to_do, await self._carry_out(to_do), strict=True):
                if code == 0:
                    done.append(action)
                elif code == errno.EEXIST and isinstance(action, AddRoute):
                    foreign[action.route.slot] = await self._describe(action.route)
                elif code not in GONE or isinstance(action, MakeLink):
                    not_done[action] = refused(action, code)
                codes[action] = code
        unsettled_yet = [unsettled(one, codes[one], MAX_ROUNDS) for one in to_do]
        return Report(condensed(done), fewer((*plan.problems, *unsettled_yet)))

    async def _carry_out(self, actions: Sequence[Action]) -> list[int]:
        """In order. For each 0, or the errno with which the kernel refused."""
        codes: list[int] = []
        batch: list[EntryAction] = []
        for action in actions:
            if isinstance(action, EntryAction):
                batch.append(action)
                continue
            codes += await self._entries.apply([_entry(one) for one in batch])
            batch = []
            if isinstance(action, SetLink) and action.setting == "tx_checksum":
                codes.append(_set_tx_checksum(action))
            else:
                codes.append(await self._code(messages.action_request(action)))
        return codes + await self._entries.apply([_entry(one) for one in batch])

    async def remove_ours(self, names: Iterable[str] | None = None) -> list[str]:
        """Remove every route with our protocol and those of `names` (None: of all links) that carry our alias.
        Returns a line for each thing removed."""
        async with self._turn:
            routes: list[Action] = [RemoveRoute(route) for route in await self._our_routes()]
            codes = await self._carry_out(routes)
            removed = condensed(
                [one for one, code in zip(routes, codes, strict=True) if code == 0], "removed"
            )
            links = [
                f"link {link.name}: removed"
                for link in await self._links(names)
                if link.alias == ALIAS and await self._code(messages.delete_link(link.index)) == 0
            ]
            return [*removed, *links]

    async def link(self, name: str) -> LinkFacts | None:
        """A link as it is now, whoever made it."""
        async with self._turn:
            for one in await self._links([name]):
                return LinkFacts(one.name, one.index, one.mtu, one.up, one.mac, one.alias, one.vxlan)
            return None

    async def surroundings(self, reach: Iterable[Address] = ()) -> Surroundings:
        """What `tulle.kernel.underlay.choose` needs, with the ways to the addresses in `reach`."""
        async with self._turn:
            addresses: dict[int, list[LocalAddress]] = {}
            for family in messages.FAMILIES:
                found = await self._ask(messages.get_addresses(family))
                for message in messages.of_family(found, family):
                    flags = message.get_attr("IFA_FLAGS") or message["flags"]
                    local = LocalAddress(messages.seen_address(message), message["scope"], flags)
                    addresses.setdefault(message["index"], []).append(local)
            links = [
                LocalLink(a.name, a.index, a.mtu, a.up, tuple(addresses.get(a.index, ())), a.alias == ALIAS)
                for a in await self._links(None)
            ]
            ways = {family: await self._way(address) for family, address in OUTSIDE.items()}
            reached = {address: await self._way(address) for address in reach}
            return Surroundings(
                tuple(links),
                {family: way for family, way in ways.items() if way is not None},
                {address: way for address, way in reached.items() if way is not None},
            )

    async def routes(self) -> list[SeenRoute]:
        """Every route of the main table, whoever made it. Costs what is in it: for looking, not for reconciling."""
        async with self._turn:
            found = []
            for family in messages.FAMILIES:
                listed = await self._ask(messages.get_routes(family))
                found += [
                    SeenRoute(messages.seen_route(one, _link_name), one["proto"])
                    for one in messages.of_family(listed, family)
                ]
            return found

    async def way(self, address: Address) -> Way:
        """What the kernel would do with a packet of ours to that address; nothing is sent."""
        async with self._turn:
            taken = await self._ask_one(messages.look_up(address, route=False), NO_WAY)
            if taken is None:
                return Way("none")
            entry = await self._ask_one(messages.look_up(address, route=True), NO_WAY)
            rule = messages.route_text(entry, _link_name) if entry is not None else ""
            return messages.seen_way(taken, rule, _link_name)

    async def _way(self, address: Address) -> WayOut | None:
        """The kernel's answer alone: nothing is sent. None where the packet would not leave this node."""
        message = await self._ask_one(messages.look_up(address, route=False), NO_WAY)
        if message is None or rtwire.KINDS.get(message["type"]) != "unicast":
            return None
        source = message.get_attr("RTA_PREFSRC")
        return WayOut(message.get_attr("RTA_OIF"), ip_address(source) if source else None)

    async def _read(self, wanted: Wanted, foreign: Mapping[Slot, str]) -> Seen:
        links = {link.name: link for link in await self._links(wanted.link_names())}
        for name in [w.name for w in wanted.links if w.tx_checksum is not None and w.name in links]:
            links[name] = msgspec.structs.replace(links[name], tx_checksum=_tx_checksum(name))
        addresses: list[WantedAddress] = []
        for name in dict.fromkeys([w.name for w in wanted.links] + [w.link for w in wanted.addresses]):
            if name in links:
                addresses += await self._addresses(links[name])
        neighbours, fdb = await self._neighbours(wanted, links)
        unnamed: list[WantedRoute] = []
        for name in [w.name for w in wanted.links if w.vxlan is not None and w.name in links]:
            for family in messages.FAMILIES:
                bodies = await self._entries.dump(
                    rtwire.dump_unnamed_routes(family, links[name].index), NO_ENTRIES
                )
                unnamed += self._reader.unnamed_routes(family, bodies, name)
        vxlan = [messages.seen_link(one) for one in await self._ask(messages.get_vxlan_links())]
        known = {w.name for w in wanted.links}
        return Seen(
            links,
            tuple(addresses),
            tuple(await self._our_routes()),
            foreign,
            neighbours=neighbours,
            fdb=fdb,
            unnamed=tuple(unnamed),
            stale=tuple(one for one in vxlan if one.vxlan and one.alias == ALIAS and one.name not in known),
        )

    async def _neighbours(
        self, wanted: Wanted, links: Mapping[str, SeenLink]
    ) -> tuple[tuple[WantedNeighbour, ...], tuple[WantedFdb, ...]]:
        """Of the links on which some are wanted, and of our VXLAN devices."""
        names = {w.name for w in wanted.links if w.vxlan is not None}
        names |= {one.link for one in wanted.neighbours} | {one.link for one in wanted.fdb}
        there = [links[name] for name in names if name in links]
        self.entry_links = frozenset(link.index for link in there)
        neighbours: list[WantedNeighbour] = []
        fdb: list[WantedFdb] = []
        for link in there:
            for family in messages.FAMILIES:
                bodies = await self._entries.dump(rtwire.dump_neighbours(family, link.index), NO_ENTRIES)
                neighbours += self._reader.neighbours(link.name, bodies)
            if link.vxlan is not None:
                bodies = await self._entries.dump(rtwire.dump_fdb(link.index), NO_ENTRIES)
                fdb += self._reader.fdb(link.name, bodies)
        self._reader.forget(max(len(neighbours), len(fdb)))
        return tuple(neighbours), tuple(fdb)

    async def _links(self, names: Iterable[str] | None) -> list[SeenLink]:
        """Those of these names that exist; None: all."""
        if names is None:
            return [messages.seen_link(message) for message in await self._ask(messages.get_links())]
        found = [await self._ask_one(messages.get_link(name), {errno.ENODEV}) for name in names]
        return [messages.seen_link(message) for message in found if message is not None]

    async def _addresses(self, link: SeenLink) -> list[WantedAddress]:
        found = []
        for family in messages.FAMILIES:
            request = messages.get_addresses(family, link.index)
            for message in messages.of_family(await self._ask(request, {errno.ENODEV}), family):
                found.append(WantedAddress(link.name, messages.seen_address(message)))
        return found

    async def _our_routes(self) -> list[WantedRoute]:
        found: list[WantedRoute] = []
        for family in messages.FAMILIES:
            bodies = await self._entries.dump(rtwire.dump_routes(family), NO_ENTRIES)
            found += self._reader.routes(family, bodies)
        return found

    async def _describe(self, route: WantedRoute) -> str:
        """The foreign route that took our place, in words. The first and the last address of its destination
        are looked up: where nothing narrower covers them, they lead to it."""
        for address in (route.destination[0], route.destination[-1]):
            message = await self._ask_one(messages.look_up(address, route=True), NO_WAY)
            if message is not None and messages.seen_destination(message) == route.slot:
                return messages.route_text(message, _link_name)
        return f"another route to {route.destination} with metric {route.metric}"

    async def _code(self, request: messages.Request) -> int:
        try:
            await self._exchange(request)
        except NetlinkError as error:
            return abs(int(error.code))
        return 0

    async def _ask_one(self, request: messages.Request, none_if: Iterable[int]) -> Any | None:
        return next(iter(await self._ask(request, none_if)), None)

    async def _ask(self, request: messages.Request, none_if: Iterable[int] = ()) -> list[Any]:
        """Read; the errnos in `none_if` mean that there is nothing."""
        for _ in range(MAX_READS):
            try:
                answers = await self._exchange(request)
                if not any(answer["header"]["flags"] & NLM_F_DUMP_INTR for answer in answers):
                    return answers
            except NetlinkError as error:
                if abs(int(error.code)) in none_if:
                    return []
                what = f"the kernel refused to show its state (rtnetlink message {request[1]})"
                raise OSError(abs(int(error.code)), what) from error
        raise OSError(errno.EAGAIN, "the kernel's tables changed each time they were read; try again")

    async def _exchange(self, request: messages.Request) -> list[Any]:
        if self._socket is None:
            self._socket = AsyncIPRoute(groups=0, strict_check=True)
        message, kind, flags = request
        try:
            return [answer async for answer in await self._socket.nlm_request(message, kind, flags)]
        except OSError:
            self.close()  # a broken socket is not used again
            raise


def _link_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"if{index}"


def _entry(action: EntryAction) -> rtwire.Message:
    match action:
        case AddRoute():
            return rtwire.add_route(action.route, action.index, replaces=action.replaces)
        case RemoveRoute():
            return rtwire.remove_route(action.route, action.protocol)
        case SetNeighbour():
            return rtwire.set_neighbour(action.entry, action.index)
        case RemoveNeighbour():
            return rtwire.remove_neighbour(action.entry, action.index)
        case SetFdb():
            return rtwire.set_fdb(action.entry, action.index)
        case RemoveFdb():
            return rtwire.remove_fdb(action.entry, action.index)


def _tx_checksum(name: str) -> bool | None:
    """None where the link has just gone."""
    try:
        return ethtool.tx_checksum(name)
    except OSError:
        return None


def _set_tx_checksum(action: SetLink) -> int:
    try:
        ethtool.set_tx_checksum(action.name, bool(action.value))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
