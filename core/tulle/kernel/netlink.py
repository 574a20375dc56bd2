"""Reads links, addresses and routes from the kernel and applies the difference. The only I/O over rtnetlink.

pyroute2's synchronous classes start a loop of their own and so do not work inside a running one; this uses its
asyncio class, without multicast groups (a command socket that listens as well overruns, and the next command gets
the ENOBUFS).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_DUMP_INTR
from pyroute2.netlink.exceptions import NetlinkError

from tulle.contracts.backend import Problem, Report
from tulle.kernel import messages
from tulle.kernel.state import (
    ALIAS,
    Action,
    AddRoute,
    RemoveRoute,
    Seen,
    SeenLink,
    SeenRoute,
    Slot,
    Wanted,
    WantedAddress,
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

HINTS = {
    errno.EPERM: "tulled needs the capability CAP_NET_ADMIN",
    errno.EACCES: "IPv6 may be disabled there (sysctl net.ipv6.conf.all.disable_ipv6 must be 0)",
    errno.ENETDOWN: "the link is down (ip link set up)",
    errno.ENETUNREACH: "the gateway is not on a network of that link",
}


class Netlink:
    """Belongs to one thread and its loop. `async with`, or `close` at the end."""

    def __init__(self) -> None:
        self._socket: AsyncIPRoute | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Netlink:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def reconcile(self, wanted: Wanted) -> Report:
        """Make the kernel be as wanted. Idempotent; callers take turns.

        Removes every route of ours that is not wanted. Raises OSError only where the kernel cannot be asked at
        all (no socket)."""
        async with self._turn:
            return await self._reconcile(wanted)

    async def _reconcile(self, wanted: Wanted) -> Report:
        changed: list[str] = []
        foreign: dict[Slot, str] = {}
        refused: dict[Action, Problem] = {}
        codes: dict[Action, int] = {}
        for _ in range(MAX_ROUNDS):
            plan = diff(wanted, await self._read(wanted, foreign))
            to_do = [action for action in plan.actions if action not in refused]
            if not to_do:
                still = [refused[action] for action in plan.actions]
                return Report(tuple(changed), (*plan.problems, *still))
            for action in to_do:
                codes[action] = code = await self._try(action)
                if code == 0:
                    changed.append(action.line)
                elif code == errno.EEXIST and isinstance(action, AddRoute):
                    foreign[action.route.slot] = await self._describe(action.route)
                elif code not in GONE:
                    refused[action] = _refused(action, code)
        return Report(
            tuple(changed), (*plan.problems, *(_unsettled(action, codes[action]) for action in to_do))
        )

    async def remove_ours(self, links: Iterable[str] | None = None) -> list[str]:
        """Remove every route with our protocol and those of `links` (None: of all links) that carry our alias.
        Returns a line for each thing removed."""
        async with self._turn:
            removed = []
            for route in await self._our_routes():
                if await self._try(RemoveRoute(route)) == 0:
                    removed.append(f"route {route.text}: removed")
            for link in await self._links(links):
                if link.alias == ALIAS and await self._code(messages.delete_link(link.index)) == 0:
                    removed.append(f"link {link.name}: removed")
            return removed

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
        if message is None or messages.KINDS.get(message["type"]) != "unicast":
            return None
        source = message.get_attr("RTA_PREFSRC")
        return WayOut(message.get_attr("RTA_OIF"), ip_address(source) if source else None)

    async def _read(self, wanted: Wanted, foreign: Mapping[Slot, str]) -> Seen:
        links = {link.name: link for link in await self._links(wanted.link_names())}
        addresses: list[WantedAddress] = []
        for name in dict.fromkeys([w.name for w in wanted.links] + [w.link for w in wanted.addresses]):
            if name in links:
                addresses += await self._addresses(links[name])
        return Seen(links, tuple(addresses), tuple(await self._our_routes()), foreign)

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
        found = []
        for family in messages.FAMILIES:
            listed = await self._ask(messages.get_our_routes(family))
            found += [
                messages.seen_route(message, _link_name) for message in messages.of_family(listed, family)
            ]
        return found

    async def _describe(self, route: WantedRoute) -> str:
        """The foreign route that took our place, in words. The first and the last address of its destination
        are looked up: where nothing narrower covers them, they lead to it."""
        for address in (route.destination[0], route.destination[-1]):
            message = await self._ask_one(messages.look_up(address, route=True), NO_WAY)
            if message is not None and messages.seen_destination(message) == route.slot:
                return messages.route_text(message, _link_name)
        return f"another route to {route.destination} with metric {route.metric}"

    async def _try(self, action: Action) -> int:
        """0, or the errno with which the kernel refused."""
        return await self._code(messages.action_request(action))

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


def _refused(action: Action, code: int) -> Problem:
    hint = HINTS.get(code, "the kernel's log may tell more (dmesg)")
    reason = f"{os.strerror(code)}, {errno.errorcode.get(code, code)}"
    message = f"{action.line}: not done, the kernel refuses it ({reason}); {hint}"
    return Problem("kernel-refused", action.subject, message)


def _unsettled(action: Action, code: int) -> Problem:
    """Of the last round: refused once more because something else is gone, or done and about to be undone."""
    if code:
        return _refused(action, code)
    message = (
        f"{action.line}, {MAX_ROUNDS} times over: something else changes it back. Find out what it is "
        f"(ip monitor) and stop one of the two"
    )
    return Problem("kernel-unsettled", action.subject, message)
