"""A check of `tulle doctor`: it looks at one thing on this node, says what is wrong with it, why that matters, and
which command mends it.

A check is an async function of the context that returns its findings. It changes nothing on the node, raises nothing
on purpose (what it raises becomes a finding), and works without a running tulled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tulle.contracts.backend import Family, JsonObject, Peer
from tulle.contracts.store import KeyValue, Store
from tulle.net.prefix import Prefix

Severity = Literal["ok", "skipped", "warning", "error"]
"""ok: looked at and right. skipped: could not be looked at, `what` says why. warning: packets pass, but something
will bite. error: packets, or the daemon, are stopped by it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found."""

    check: str = ""
    """The check's name; filled in by the doctor."""
    severity: Severity
    subject: str
    """What it is about: an interface, a file, a key."""
    what: str
    why: str = ""
    """What comes of it when it stays; "" where it is ok."""
    mend: str = ""
    """A command, as a person types it in a shell of this node; what is to be known about it follows behind a "#"."""


class DoctorContext(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of this node before the first check. With a running tulled it says all of it; without, it is put
    together from the run directory, subnet.env and the store, and what nobody knows is empty."""

    node: str
    run_dir: Path
    state_dir: Path
    subnet_file: Path
    status: JsonObject | None = None
    """What tulled's `GET /v1/status` answered; None: no tulled answers."""
    status_error: str = ""
    """Why not."""
    store: Store | None = None
    """None: it could not be opened at all."""
    store_at: str = ""
    """Name, place and reason for people."""
    store_error: str = ""
    """Why it does not answer; "" where it does."""
    kept_elsewhere: bool = False
    """A plugin's subnet manager has the store's place: there is nothing to look into, as `store_error` says."""
    prefix: str = ""
    """Of all keys in the store, without a slash at the end."""
    records: Mapping[str, KeyValue] = {}
    """By key: config, leases, member and alive records; empty where the store does not answer."""
    networks: tuple[Prefix, ...] = ()
    """The cluster networks."""
    subnets: tuple[Prefix, ...] = ()
    """Our own pod subnets."""
    peers: tuple[Peer, ...] = ()
    link: str = ""
    """The interface that leads to the other nodes."""
    backend: str = ""
    """Its name: "udp"."""
    device: str = ""
    """The tunnel's interface, where the backend has one."""
    devices: tuple[str, ...] = ()
    """All interfaces of the backend, `device` among them."""
    mtu: int = 0
    """Of a pod's packet, as subnet.env is to say it; 0: not known."""
    port: int = 0
    """The UDP port of the backend, where it has one; its first."""
    ports: tuple[int, ...] = ()
    """All UDP ports of the backend, `port` among them; in the order of `devices` where each device has its own."""
    overhead_bytes: Mapping[Family, int] = {}
    """What a packet grows by, by the family of the outer header."""

    @property
    def families(self) -> tuple[Family, ...]:
        """Of the pods."""
        return tuple(dict.fromkeys(one.version for one in self.networks))


Check = Callable[[DoctorContext], Awaitable[Sequence[Finding]]]
