"""Where a probe stopped, from what was counted on its way. Pure.

The points in order: this node's kernel, the tunnel's device, the engine here, the underlay, the engine there, the
node there, the pod. What answered beyond a point proves it; a counter that did not grow stops the probe before it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tulle.probe.ping import Summary


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe saw. None: not looked at, or not known."""

    result: Summary
    problem: str = ""
    """What the kernel, or an ICMP error, said."""
    tunnelled: bool = False
    """The way leads into the tunnel."""
    sent_into_tunnel: int | None = None
    """Packets more on the tunnel's device."""
    sent_to_peer: int | None = None
    """Datagrams more to the peer, by the engine's counters."""
    from_peer: int | None = None
    drops: Mapping[str, int] = {}
    """By the engine's reason, more than before."""
    tunnel_there_answers: bool | None = None
    """The peer's own tunnel address."""
    endpoint_answers: bool | None = None
    """The peer's underlay address, outside the tunnel."""
    node: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The end of a trace."""

    arrived: bool
    stopped_at: str
    """"" where it arrived."""
    text: str


def judge(seen: Observed) -> Verdict:
    if seen.result.received:
        times = f"{seen.result.received} of {seen.result.sent} answered"
        if seen.result.avg_ms is not None:
            times += f", {seen.result.avg_ms:.2f} ms"
        return Verdict(True, "", times)
    said = f" ({seen.problem})" if seen.problem else ""
    if not seen.tunnelled:
        text = (
            f"no answer{said}: the destination is not there, does not answer pings, or a firewall drops them"
        )
        return Verdict(False, "destination", text)
    return _in_tunnel(seen, said)


def _in_tunnel(seen: Observed, said: str) -> Verdict:
    there = seen.node or "the other node"
    if seen.sent_into_tunnel == 0:
        text = f"nothing went into the tunnel{said}: a firewall of this node drops it (tulle doctor --check firewall)"
        return Verdict(False, "this node", text)
    if seen.sent_to_peer == 0:
        reasons = (
            ", ".join(f"{name} {count}" for name, count in sorted(seen.drops.items())) or "nobody said why"
        )
        return Verdict(False, "engine", f"the engine here sent nothing to {there}: {reasons}{said}")
    if seen.tunnel_there_answers:
        text = (
            f"{there} answers through the tunnel, the pod does not{said}: it is not there, or is firewalled"
        )
        return Verdict(False, "pod", text)
    if seen.endpoint_answers is False:
        text = f"{there} does not answer outside the tunnel either{said}: it is down, or the underlay is"
        return Verdict(False, "underlay", text)
    if seen.from_peer is not None and seen.from_peer >= seen.result.sent:
        text = f"answers of {there} come in, but go no further here{said}: see tulle doctor (rp-filter, firewall)"
        return Verdict(False, "the way back", text)
    if seen.endpoint_answers:
        text = (
            f"{there} answers outside the tunnel, but not in it{said}: its forwarder does not run, or a firewall "
            f"between drops the datagrams. Run tulle doctor on {there}"
        )
        return Verdict(False, "the engine there", text)
    return Verdict(
        False, "beyond this node", f"no answer{said}; run tulle trace on {there} for the other half"
    )
