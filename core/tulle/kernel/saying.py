"""What the reconcile tells people: what was done, what the kernel refused, what does not settle. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from tulle.contracts.backend import Problem
from tulle.kernel.actions import Action, AddRoute, EntryAction, MakeLink, RemoveRoute, SetFdb, SetNeighbour

MANY = 20
"""So many lines of one kind are counted instead: a new node meets thousands of peers at once."""

HINTS = {
    errno.EPERM: "tulled needs the capability CAP_NET_ADMIN",
    errno.EACCES: "IPv6 may be disabled there (sysctl net.ipv6.conf.all.disable_ipv6 must be 0)",
    errno.ENETDOWN: "the link is down (ip link set up)",
    errno.ENETUNREACH: "the gateway is not on a network of that link",
    errno.EADDRINUSE: "a program holds its UDP port: stop it (ss -lnup), or choose another for the whole cluster",
}

LINK_HINTS = {
    **HINTS,
    errno.EEXIST: "another device has this VNI and port: remove it (ip -d link show type vxlan), or choose others",
    errno.EOPNOTSUPP: "the kernel has no VXLAN: load its driver (modprobe vxlan), or choose another backend",
}


def condensed(done: Sequence[Action], ending: str = "") -> tuple[str, ...]:
    """A line for each action; entries of one kind are counted where there are many. With `ending` the lines of routes
    say that in place of why."""
    by_kind: dict[type[Action], list[Action]] = {}
    done = [one for one in done if not (isinstance(one, AddRoute | RemoveRoute) and one.passing)]
    for one in done:
        if isinstance(one, EntryAction):
            by_kind.setdefault(type(one), []).append(one)
    lines, counted = [], set()
    for one in done:
        same = by_kind.get(type(one), ())
        if len(same) <= MANY:
            lines.append(f"{one.line.partition(': ')[0]}: {ending}" if ending else one.line)
        elif type(one) not in counted:
            counted.add(type(one))
            lines.append(f"{len(same)} {_words(one)} ({one.subject} and others)")
    return tuple(lines)


def fewer(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Of many with one code the first, and how many more there are: a link that does not come up refuses thousands."""
    by_code: dict[str, list[Problem]] = {}
    for one in problems:
        by_code.setdefault(one.code, []).append(one)
    found: list[Problem] = []
    for code, same in by_code.items():
        found += same[:MANY]
        if len(same) > MANY:
            more = len(same) - MANY
            found.append(
                Problem(code, f"{more} others", "the same as those above; what mends them mends these")
            )
    return tuple(found)


def _words(one: Action) -> str:
    what = "routes" if isinstance(one, AddRoute | RemoveRoute) else "neighbours or FDB entries"
    return f"{what} {'set' if isinstance(one, AddRoute | SetNeighbour | SetFdb) else 'removed'}"


NO_DEVICE = frozenset({errno.EPERM, errno.EOPNOTSUPP})
"""Answers to the making of a device by which the kernel says that it never will: no right, or no such kind."""


def refused(action: Action, code: int) -> Problem:
    hints = LINK_HINTS if isinstance(action, MakeLink) else HINTS
    hint = hints.get(code, "the kernel's log may tell more (dmesg)")
    reason = f"{os.strerror(code)}, {errno.errorcode.get(code, code)}"
    message = f"{action.line}: not done, the kernel refuses it ({reason}); {hint}"
    never = isinstance(action, MakeLink) and code in NO_DEVICE
    return Problem("device-impossible" if never else "kernel-refused", action.subject, message)


def unsettled(action: Action, code: int, rounds: int) -> Problem:
    """Of the last round: refused once more because something else is gone, or done and about to be undone."""
    if code:
        return refused(action, code)
    message = (
        f"{action.line}, {rounds} times over: something else changes it back. Find out what it is "
        f"(ip monitor) and stop one of the two"
    )
    return Problem("kernel-unsettled", action.subject, message)
