"""ICMP echo to many addresses at once, of both families: a lab asks for all pairs at a time and must not depend on the
host's package. The socket is `tulle.probe.echo`'s."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack

from tulle.net.prefix import Family
from tulle.probe.echo import EchoSocket, wait


def ping(addresses: Sequence[str], count: int, interval_s: float, wait_s: float, size: int) -> dict[str, int]:
    """Send `count` requests with `size` bytes of payload to each address. Returns how many were answered, by address,
    `wait_s` after the last request at the latest."""
    run = int.from_bytes(os.urandom(6), "big") << 16
    targets = {run + number: address for number, address in enumerate(addresses)}
    answered: dict[str, set[int]] = {address: set() for address in addresses}
    with ExitStack() as stack:
        needed = {family_of(address) for address in addresses}
        sockets = {family: stack.enter_context(EchoSocket(family)) for family in needed}
        for sequence in range(count):
            for mark, address in targets.items():
                # A target that cannot be reached is one that does not answer.
                sockets[family_of(address)].send(address, sequence, mark, size)
            last = sequence == count - 1
            collect(
                sockets.values(), targets, answered, wait_s if last else interval_s, count if last else None
            )
    return {address: len(found) for address, found in answered.items()}


def collect(
    sockets: Collection[EchoSocket],
    targets: Mapping[int, str],
    answered: Mapping[str, set[int]],
    wait_s: float,
    enough: int | None,
) -> None:
    """Read replies for a time, or until each target has given `enough`."""
    deadline = time.monotonic() + wait_s
    while enough is None or any(len(found) < enough for found in answered.values()):
        readable = wait(sockets, deadline)
        if not readable:
            return
        for opened in readable:
            heard = opened.heard()
            if heard is not None and heard.mark in targets:
                answered[targets[heard.mark]].add(heard.sequence)


def family_of(address: str) -> Family:
    return 6 if ":" in address else 4
