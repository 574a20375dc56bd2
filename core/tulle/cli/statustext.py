"""A node's status as lines for people: one screen, whether there are 3 peers or 5,000. Pure.

What is wrong comes before the peers, and the peers that something is wrong with, or that have traffic, come before
the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from tulle.cli.output import columns, duration, printable, size
from tulle.contracts.backend import Problem
from tulle.node.answers import (
    DataplaneAnswer,
    PeerAnswer,
    StatusAnswer,
    StoreAnswer,
    Traffic,
    TunnelAnswer,
    drops_of,
)

SHOWN_PEERS = 20
SHOWN_PROBLEMS = 10
SHOWN_MENDS = 3

HEADERS = ("PEER", "SUBNETS", "ENDPOINTS", "LAST SEEN", "OUT", "IN", "DROPPED")
HANDSHAKE = "HANDSHAKE"
"""Before the last header, where some peer has tunnels that know such things."""
NO_TRAFFIC = Traffic()
NOT_COUNTED = ("-",) * 4
"""Where the kernel carries the packets: it counts none by peer."""


def overview(status: StatusAnswer, now: float, *, everything: bool = False) -> Iterator[str]:
    """`now`: Unix time. `everything`: all peers, problems and mends."""
    yield _node(status)
    yield from _store(status.store, now)
    yield from _place(status)
    yield from _plane(status)
    yield from _mended(status, now, None if everything else SHOWN_MENDS)
    yield from _problems(status.problems, None if everything else SHOWN_PROBLEMS)
    yield from _peers(status, None if everything else SHOWN_PEERS)


def only_problems(status: StatusAnswer) -> Iterator[str]:
    """All that is wrong, and nothing else."""
    yield _node(status)
    yield from _problems(status.problems, None)
    if not status.problems:
        yield _line("problems", "none that tulled knows of; tulle doctor looks further")


def in_full(status: StatusAnswer, peer: PeerAnswer) -> Iterator[str]:
    """One peer, a line for each thing that is known of it."""
    yield _line("peer", peer.node)
    yield _line("lease", peer.key)
    yield _line("subnets", ", ".join(peer.subnets))
    yield _line("endpoints", ", ".join(peer.endpoints) or "none")
    yield _line("backend", peer.backend or "not named by its lease")
    for tunnel in peer.tunnels:
        place = tunnel.endpoint or "no address yet"
        yield _line("tunnel", f"{_of_plane(tunnel, place)}, handshake {_handshake(tunnel)}")
    yield from _peer_traffic(peer.traffic)
    yield from _problems([one for one in status.problems if _concerns(one, peer)], None)


def _peer_traffic(traffic: Traffic | None) -> Iterator[str]:
    if traffic is None:
        yield _line("traffic", "carried by the kernel, which counts none by peer")
        return
    yield _line("last seen", _seen(traffic))
    yield _line("out", _amount(traffic.packets_out, traffic.bytes_out))
    yield _line("in", _amount(traffic.packets_in, traffic.bytes_in))
    yield _line("dropped", _drops(traffic.drops) or "nothing that is counted by peer")


def _line(name: str, text: str) -> str:
    return f"{name.ljust(9)} {printable(text)}"


def _node(status: StatusAnswer) -> str:
    if status.ready:
        state = click.style("ready", fg="green")
    else:
        reasons = printable("; ".join(status.not_ready_because))
        state = click.style(f"not ready: {reasons}", fg="red")
    return f"{'node'.ljust(9)} {printable(status.node)}: {state} (tulle {printable(status.version)})"


def _store(store: StoreAnswer, now: float) -> Iterator[str]:
    kind = ", single-machine" if store.single_machine else ""
    chosen = ", taken since nothing chose another" if store.by_default else ""
    state = f"{store.state} for {duration(max(now - store.since, 0))}"
    if store.state == "connected":
        state += f", answers in {store.latency_s * 1000:.1f} ms"
    outages = f", {_counted(store.outages, 'outage')}" if store.outages else ""
    yield _line("store", f"{store.name} at {store.location}{kind}{chosen}: {state}{outages}")


def _place(status: StatusAnswer) -> Iterator[str]:
    lease = status.store.lease
    if status.subnets:
        kept = ""
        if lease is not None:
            reserved = "reserved, " if lease.reserved else ""
            kept = f" ({reserved}confirmed {duration(lease.confirmed_s_ago)} ago)"
        yield _line("subnets", f"{', '.join(status.subnets)} of {', '.join(status.networks)}{kept}")
    underlay = status.underlay
    if underlay.link:
        public = ", ".join(underlay.public)
        yield _line("underlay", f"{underlay.link}, MTU {underlay.mtu}, {public} ({underlay.because})")


def _plane(status: StatusAnswer) -> Iterator[str]:
    plane = status.dataplane
    kind = _kind(status.backend)
    if not plane.engine:
        if kind:
            yield _line("backend", kind)
        return
    yield _line("backend", f"{kind}: engine {plane.engine} ({plane.engine_because}), {_forwarder(plane)}")
    for note in plane.engine_notes:
        yield _line("", note)
    yield from _traffic(plane)
    for name, second in status.second_dataplanes.items():
        yield _line(name, f"engine {second.engine}, {_forwarder(second)}")
        yield from _traffic(second)


def _kind(backend: Mapping[str, Any]) -> str:
    """Its name, and its mode and why that one where it has modes."""
    kind, mode, because = (str(backend.get(name, "")) for name in ("type", "mode", "mode_because"))
    if not mode:
        return kind
    return f"{kind}, mode {mode}" + (f" ({because})" if because else "")


def _forwarder(plane: DataplaneAnswer) -> str:
    forwarder = f"forwarder {plane.forwarder_pid}" if plane.forwarder_pid else "no forwarder runs"
    if plane.forwarder_restarts:
        forwarder += f", replaced {_counted(plane.forwarder_restarts, 'time')}"
    return f"{forwarder}, state {plane.generation_applied} of {plane.generation_wanted}"


def _traffic(plane: DataplaneAnswer) -> Iterator[str]:
    counters = plane.counters
    ways = [
        f"{way} {_amount(counters.get(f'packets-{way}', 0), counters.get(f'bytes-{way}', 0))}"
        for way in ("out", "in")
    ]
    yield _line("traffic", ", ".join(ways))
    yield _line("dropped", _drops(drops_of(counters)) or "nothing")


def _mended(status: StatusAnswer, now: float, most: int | None) -> Iterator[str]:
    if status.mends:
        yield _line("mended", f"{_counted(status.mends, 'time')} since tulled's start; the latest:")
        shown = status.mended if most is None else status.mended[-most:]
        for one in reversed(shown):
            yield _line("", f"{duration(max(now - one.at, 0))} ago: {one.line}")


def _problems(problems: Sequence[Problem], most: int | None) -> Iterator[str]:
    for one in problems[:most]:
        word = click.style("problem".ljust(9), fg="yellow")
        named = "" if one.message.startswith(one.subject) else f"{printable(one.subject)}: "
        yield f"{word} {named}{printable(one.message)}"
    hidden = len(problems[most:]) if most is not None else 0
    if hidden:
        yield _line("", f"… and {hidden:,} more problems: --problems")


def _peers(status: StatusAnswer, most: int | None) -> Iterator[str]:
    if not status.peers:
        yield _line("peers", "none yet: is another node's tulled running on this store?")
        return
    subjects = {one.subject for one in status.problems}
    ordered = sorted(status.peers, key=lambda one: _rank(one, subjects))
    shown = ordered[:most]
    yield _line("peers", f"{status.peer_count:,}")
    if any(one.tunnels for one in shown):
        headers = (*HEADERS[:-1], HANDSHAKE, HEADERS[-1])
        rows = [(*row[:-1], _handshakes(one), row[-1]) for one in shown for row in (_row(one),)]
        yield from columns(headers, rows)
    else:
        yield from columns(HEADERS, [_row(one) for one in shown])
    if len(shown) < len(ordered):
        yield f"… and {len(ordered) - len(shown):,} more: --all"


def _rank(peer: PeerAnswer, subjects: set[str]) -> tuple[bool, int, str]:
    traffic = peer.traffic or NO_TRAFFIC
    wrong = peer.node in subjects or peer.key in subjects
    return (not wrong, -(traffic.bytes_in + traffic.bytes_out), peer.node)


def _concerns(problem: Problem, peer: PeerAnswer) -> bool:
    return problem.subject in (peer.node, peer.key)


def _row(peer: PeerAnswer) -> tuple[str, ...]:
    traffic = peer.traffic or NO_TRAFFIC
    counted = (
        _seen(traffic),
        _amount(traffic.packets_out, traffic.bytes_out),
        _amount(traffic.packets_in, traffic.bytes_in),
        _drops(traffic.drops),
    )
    heard = [one.endpoint for one in peer.tunnels if one.endpoint]
    names = (peer.node, ", ".join(peer.subnets), ", ".join(heard or peer.endpoints) or "none")
    return tuple(map(printable, (*names, *(counted if peer.traffic else NOT_COUNTED))))


def _handshakes(peer: PeerAnswer) -> str:
    return ", ".join(_of_plane(one, _handshake(one)) for one in peer.tunnels) or "-"


def _handshake(tunnel: TunnelAnswer) -> str:
    ago = tunnel.last_handshake_s_ago
    return "none yet" if ago is None else f"{duration(ago)} ago"


def _of_plane(tunnel: TunnelAnswer, text: str) -> str:
    return f"{tunnel.dataplane} {text}".strip()


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _seen(traffic: Traffic) -> str:
    return "never" if traffic.last_seen_s_ago is None else f"{duration(traffic.last_seen_s_ago)} ago"


def _amount(packets: int, count: int) -> str:
    return f"{packets:,} ({size(count)})"


def _drops(drops: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in drops.items() if count)
