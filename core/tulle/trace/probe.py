"""Sends echo requests along a traced way, and looks at counters before and after."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tulle.contracts.backend import JsonObject
from tulle.net.prefix import Address
from tulle.node.client import ApiError, Client, NotRunning
from tulle.probe.echo import EchoSocket
from tulle.probe.ping import Answer, Summary, ping, summary
from tulle.trace.target import tunnel_address
from tulle.trace.verdict import Observed
from tulle.trace.way import Seen, in_tunnel

COUNT = 3
INTERVAL_S = 0.1
WAIT_S = 1.0
PAYLOAD_BYTES = 56

REFRESH_S = 1.2
"""tulled asks its forwarder for counters each second: after this they show what went before."""
COUNTERS_S = 3.0
"""So long we wait for them to show what was sent."""
LOOK_S = 0.2

TX_PACKETS = 9
"""Column of /proc/net/dev behind the name, as proc(5) orders them."""

PROC_NET_DEV = Path("/proc/thread-self/net/dev")


class Counters(msgspec.Struct, frozen=True):
    """None: not known."""

    device: int | None
    out: int | None
    into: int | None
    drops: Mapping[str, int]


def probe(seen: Seen, *, count: int = COUNT) -> Observed:
    """Takes up to nine seconds where nothing answers: a second round is counted then. Raises PermissionError where ICMP
    may not be sent."""
    answers = echo(seen.target.address, count)
    problem = next((one.problem for one in answers if one.problem), "")
    if summary(answers).received or not in_tunnel(seen):
        return Observed(result=summary(answers), problem=problem, tunnelled=in_tunnel(seen))
    time.sleep(REFRESH_S)
    before = read_counters(seen)
    again = echo(seen.target.address, count)
    result = summary(again)
    if result.received:
        return Observed(result=summary([*answers, *again]), problem=problem, tunnelled=True)
    return _counted(seen, result, problem, before, wait_for_counters(seen, before, count))


def _counted(seen: Seen, result: Summary, problem: str, before: Counters, after: Counters) -> Observed:
    """Of a round without an answer; what else of the other node answers is asked for here."""
    peer = seen.target.peer
    tunnel_there = endpoint = None
    if peer is not None and seen.target.prefix is not None:
        there = tunnel_address(seen.target.prefix, True)
        tunnel_there = answers_to(there) if there != seen.target.address else None
        endpoint = answers_to(seen.endpoint) if seen.endpoint is not None else None
    return Observed(
        result=result,
        problem=problem,
        tunnelled=True,
        sent_into_tunnel=_more(before.device, after.device),
        sent_to_peer=_more(before.out, after.out),
        from_peer=_more(before.into, after.into),
        drops={
            name: value - before.drops.get(name, 0)
            for name, value in after.drops.items()
            if value > before.drops.get(name, 0)
        },
        tunnel_there_answers=tunnel_there,
        endpoint_answers=endpoint,
        node=seen.target.node,
    )


def echo(address: Address, count: int) -> list[Answer]:
    with EchoSocket(address.version) as opened:
        return ping(
            opened, str(address), count=count, interval_s=INTERVAL_S, wait_s=WAIT_S, size=PAYLOAD_BYTES
        )


def answers_to(address: Address) -> bool:
    result: Summary = summary(echo(address, COUNT))
    return bool(result.received)


def read_counters(seen: Seen) -> Counters:
    return counters(
        ask(seen), _device_packets(seen.way.link), seen.target.peer.key if seen.target.peer else ""
    )


def counters(status: JsonObject | None, device: int | None, peer: str) -> Counters:
    """Pure."""
    plane = (status or {}).get("dataplane") or {}
    totals = plane.get("counters", {})
    peers = (status or {}).get("peers", ())
    traffic = next((one.get("traffic") or {} for one in peers if one["key"] == peer), {})
    return Counters(
        device=device,
        out=traffic.get("packets_out") if plane.get("engine") else None,
        into=traffic.get("packets_in") if plane.get("engine") else None,
        drops={name: value for name, value in totals.items() if name.startswith("drop-")},
    )


def wait_for_counters(
    seen: Seen, before: Counters, count: int, clock: Callable[[], float] = time.monotonic
) -> Counters:
    """As soon as they account for what was sent, or when COUNTERS_S are over."""
    deadline = clock() + COUNTERS_S
    while True:
        after = read_counters(seen)
        out = _more(before.out, after.out)
        dropped = sum(after.drops.values()) - sum(before.drops.values())
        if out is None or out + dropped >= count or clock() > deadline:
            return after
        time.sleep(LOOK_S)


def ask(seen: Seen) -> JsonObject | None:
    try:
        answer: JsonObject = Client(seen.ctx.run_dir).get("status")
    except (NotRunning, ApiError):
        return None
    return answer


def _device_packets(device: str) -> int | None:
    try:
        return sent_packets(PROC_NET_DEV.read_text(), device)
    except OSError:
        return None


def sent_packets(table: str, device: str) -> int | None:
    """From the text of /proc/net/dev; None where the device is not there. Pure."""
    for line in table.splitlines():
        name, colon, numbers = line.partition(":")
        columns = numbers.split()
        if colon and name.strip() == device and len(columns) > TX_PACKETS and columns[TX_PACKETS].isdigit():
            return int(columns[TX_PACKETS])
    return None


def _more(before: int | None, after: int | None) -> int | None:
    """A device made anew counts from 0."""
    return None if before is None or after is None else max(0, after - before)
