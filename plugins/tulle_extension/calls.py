"""Which command is to be run for which peer, and what it is told: pure.

A call is what a command sees of a peer. `next_step` compares what is wanted for a peer with what was done for it, and
names the one step that leads there; it is asked again after each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tulle.contracts.backend import Peer, Problem
from tulle.net.prefix import Address, Prefix

MAX_DATA_BYTES = 65536
"""Of BackendData on a command's standard input: far more than a key or a MAC, far less than would fill the log."""

FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
REMOVE_TRIES = 6
"""After which a peer that is gone is forgotten: about two minutes."""


class Call(msgspec.Struct, frozen=True):
    """What a command is told of a peer. In the environment there are only addresses and prefixes, which no peer can
    bend; its BackendData goes to the standard input as it is."""

    environment: Mapping[str, str]
    stdin: str = ""


class Done(msgspec.Struct, frozen=True):
    """What was done for a peer. Kept in the state file."""

    call: Call
    """Of the add command."""
    added: bool
    """False: the add command has not succeeded (yet), but may have done a part of its work."""


class Step(msgspec.Struct, frozen=True):
    """One run of a command."""

    kind: Literal["add", "remove"]
    call: Call


def addresses_environment(
    prefixes: Sequence[Prefix], endpoints: Sequence[Address], names: tuple[str, str]
) -> dict[str, str]:
    """flannel's variables, SUBNET and PUBLIC_IP, for the first family in use, and ours for IPv6 beside them, empty
    where there is no IPv6. `names` are those of the prefix: ("SUBNET", "IPV6_SUBNET")."""
    by_family: dict[int, str] = {prefix.version: str(prefix) for prefix in reversed(prefixes)}
    public: dict[int, str] = {address.version: str(address) for address in reversed(endpoints)}
    first = min(by_family, default=4)
    return {
        names[0]: by_family.get(first, ""),
        names[1]: by_family.get(6, ""),
        "PUBLIC_IP": public.get(first) or next(iter(map(str, endpoints)), ""),
        "PUBLIC_IPV6": public.get(6, ""),
    }


def call_for(peer: Peer) -> Call | Problem:
    """What the commands are told of a peer, or why they cannot be run for it."""
    if peer.backend != "extension":
        said = f"says backend {peer.backend}" if peer.backend else "names no backend"
        return Problem(
            "peer-backend-differs",
            peer.node,
            f"its lease {said}, this node runs extension: give both the same network config",
        )
    if not peer.endpoints:
        return Problem(
            "peer-no-endpoint",
            peer.node,
            f"its lease {peer.key} names no address, so no command was run for it: see that its tulled runs",
        )
    if peer.data or peer.data_v6:
        return Problem(
            "peer-data",
            peer.node,
            f"its lease {peer.key} has a BackendData that is no text, which is not what a PreStartupCommand gives; "
            "no command was run for it. Restart its tulled",
        )
    stdin = peer.data_text or ""
    if len(stdin.encode(errors="replace")) > MAX_DATA_BYTES:
        return Problem(
            "peer-data",
            peer.node,
            f"its lease {peer.key} has a BackendData of more than {MAX_DATA_BYTES} bytes; no command was run for it. "
            "Let its PreStartupCommand print less",
        )
    return Call(addresses_environment(peer.prefixes, peer.endpoints, ("SUBNET", "IPV6_SUBNET")), stdin)


def next_step(wanted: Call | None, done: Done | None) -> Step | None:
    """None: all is as wanted."""
    if done is None:
        return Step("add", wanted) if wanted is not None else None
    if wanted != done.call:
        return Step("remove", done.call)
    return None if done.added else Step("add", wanted)


def after(step: Step, succeeded: bool, wanted: Call | None, done: Done | None, failures: int) -> Done | None:
    """What is known of the peer after a step; `failures` are those in a row, with this one.

    A remove command that failed is tried again only where the add command had succeeded and nothing else is wanted
    in its place: what is left over must not keep a peer's new address from being set."""
    if step.kind == "add":
        return Done(step.call, succeeded)
    again = done is not None and done.added and wanted is None and failures < REMOVE_TRIES
    return done if again and not succeeded else None


def retry_after_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(LONGEST_RETRY_S, FIRST_RETRY_S * float(2 ** min(failures - 1, 10)))
