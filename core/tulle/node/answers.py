"""What the local API answers, as types. docs/api.md and docs/openapi.json are made from these, so each field that does
not explain itself has its description here.

Names are a promise to those who read them: within /v1/ fields are added, with a default, so that a `tulle` understands
the tulled of another release, and none is renamed. What is not known yet has its empty value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tulle.contracts.backend import Problem

DROP = "drop-"
"""Begins the counters of dropped packets (contracts.engine)."""


class MirrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """This node's copy of one part of the store."""

    state: Literal["starting", "connected", "away"]
    for_s: Annotated[float, Meta(description="Seconds since that state began.")]
    revision: Annotated[int | None, Meta(description="Of the store, up to which the copy is true.")]
    items: int
    problems: Annotated[int, Meta(description="Keys whose value makes no sense.")]
    relists: Annotated[int, Meta(description="Listings after the first one, because the history was gone.")]
    reconnects: int
    last_error: str


class LeaseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """This node's lease."""

    key: Annotated[str, Meta(description="The whole key in the store.")]
    prefixes: list[str]
    reserved: Annotated[bool, Meta(description="It has no TTL: a person reserved it.")]
    confirmed_s_ago: Annotated[float, Meta(description="Seconds since the store last confirmed it.")]
    lost: Annotated[bool, Meta(description="Another node has it now; this tulled is about to end.")]


class StoreAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The store, or the subnet manager in its place, as this node sees it."""

    name: Annotated[str, Meta(description='The plugin: "etcd".')]
    location: str
    single_machine: Annotated[bool, Meta(description="Nodes on other machines cannot share it.")]
    by_default: Annotated[bool, Meta(description="No flag chose it.")]
    prefix: Annotated[str, Meta(description="Of all keys; empty where a subnet manager has no keys.")]
    state: Annotated[
        Literal["connected", "away", "not asked yet"], Meta(description="By a question every 10 s.")
    ]
    since: Annotated[float, Meta(description="Unix time at which that state began.")]
    latency_s: Annotated[float, Meta(description="Of the last question that was answered.")]
    endpoint: str
    server_version: str
    outages: int
    last_error: Annotated[str, Meta(description="Empty while the store answers.")]
    mirrors: dict[str, MirrorAnswer] = {}
    lease: LeaseAnswer | None = None
    detail: Annotated[dict[str, Any], Meta(description="What else the subnet manager says of itself.")] = {}


class UnderlayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The way to the other nodes."""

    link: str = ""
    mtu: int = 0
    addresses: list[str] = []
    public: Annotated[list[str], Meta(description="What the other nodes are told.")] = []
    because: str = ""


class DataplaneAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The forwarder, where the backend has one."""

    engine: str = ""
    engine_because: str = ""
    engine_notes: Annotated[
        list[str], Meta(description="What this kernel cannot do, so it was turned off.")
    ] = []
    forwarder_pid: Annotated[int, Meta(description="0: none runs.")] = 0
    forwarder_restarts: int = 0
    generation_wanted: int = 0
    generation_applied: int = 0
    errors: Annotated[list[str], Meta(description="What of the last generation was refused.")] = []
    counters: Annotated[
        dict[str, int],
        Meta(
            description="packets-out, bytes-out, packets-in, bytes-in, drop-REASON: since the forwarder's start."
        ),
    ] = {}


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Of one peer, inner packets, since the forwarder's start."""

    packets_out: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    bytes_in: int = 0
    last_seen_s_ago: Annotated[float | None, Meta(description="Null: nothing has come from it yet.")] = None
    drops: Annotated[
        dict[str, int], Meta(description="By reason, where the engine counts them by peer.")
    ] = {}


class TunnelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """To a peer, where the encapsulation knows its peers (WireGuard)."""

    dataplane: Annotated[str, Meta(description="Empty: the first one; else as in `second_dataplanes`.")] = ""
    endpoint: Annotated[
        str, Meta(description="Where packets to it go: where it was heard, before that what its lease says.")
    ] = ""
    last_handshake_s_ago: Annotated[float | None, Meta(description="Null: there was none yet.")] = None


class PeerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Another node."""

    key: Annotated[str, Meta(description='Of its lease: "10.5.52.0-24".')]
    node: Annotated[str, Meta(description="Its name; a flannel node's is its key.")]
    subnets: list[str]
    endpoints: Annotated[list[str], Meta(description="Addresses, best first.")]
    backend: Annotated[str, Meta(description="What its lease says; may be empty.")]
    traffic: Annotated[Traffic | None, Meta(description="Null where no forwarder counts it.")] = None
    tunnels: Annotated[
        list[TunnelAnswer], Meta(description="One for each data plane that knows such things.")
    ] = []


class MendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Something that others changed and that was put right."""

    at: Annotated[float, Meta(description="Unix time.")]
    line: str


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What this node does and what is wrong."""

    node: str
    version: str
    ready: Annotated[bool, Meta(description="Packets are carried and subnet.env is there.")]
    not_ready_because: list[str]
    store: StoreAnswer
    networks: list[str]
    subnets: Annotated[list[str], Meta(description="This node's.")]
    underlay: UnderlayAnswer
    backend: Annotated[dict[str, Any], Meta(description='"type", and what the backend adds.')]
    dataplane: DataplaneAnswer
    second_dataplanes: Annotated[
        dict[str, DataplaneAnswer], Meta(description="By name, where the backend has more than one device.")
    ] = {}
    components: Annotated[dict[str, Any], Meta(description="By name, what each says.")]
    peers: list[PeerAnswer]
    peer_count: Annotated[int, Meta(description="Also where `peers` was asked for one only.")]
    problems: Annotated[list[Problem], Meta(description="What does not work now, and what to do.")]
    mended: Annotated[list[MendAnswer], Meta(description="The latest, oldest first.")]
    mends: Annotated[int, Meta(description="All of them since tulled's start.")]


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the store."""

    store: str
    settings: Annotated[dict[str, Any], Meta(description="The store's options by name, with secrets.")]
    prefix: str
    by_default: Annotated[bool, Meta(description="No flag chose it.")] = False


class DownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken away."""

    removed: Annotated[list[str], Meta(description="A line for each thing.")]


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """A second forwarder that was replaced."""

    plane: Annotated[str, Meta(description="As in `second_dataplanes`.")]
    old_pid: int
    new_pid: int
    pause_ms: float


class ReplaceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One forwarder took over from another."""

    old_pid: int
    new_pid: int
    pause_ms: Annotated[float, Meta(description="The longest that neither can have worked; packets waited.")]
    second: Annotated[list[Replaced], Meta(description="The other forwarders of this node.")] = []


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """With every status but 200."""

    error: Annotated[str, Meta(description="What happened and what to do.")]


def drops_of(counters: Mapping[str, float]) -> dict[str, int]:
    """By reason, in the reasons' order."""
    found = {name.removeprefix(DROP): int(value) for name, value in counters.items() if name.startswith(DROP)}
    return dict(sorted(found.items()))
