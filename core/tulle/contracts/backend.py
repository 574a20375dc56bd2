"""A backend: how packets for a peer's subnet reach that peer.

Life: `advertise` (what our lease tells the others, before there is a lease) -> `start` -> `reconcile` whenever
the set of peers changed or something disturbed the kernel -> `stop`. A backend never sees single events: it is
given the whole wanted set each time, compares and changes the difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from tulle.contracts.encapsulation import EncapsulationRef
from tulle.contracts.kernel import Kernel
from tulle.contracts.report import Problem as Problem
from tulle.contracts.report import Report as Report
from tulle.net.prefix import Address as Address
from tulle.net.prefix import Family as Family
from tulle.net.prefix import Prefix

JsonObject = Mapping[str, Any]


class Peer(msgspec.Struct, frozen=True):
    """Another node as its lease describes it."""

    key: str
    """The lease's key under `subnets/`, unique in the cluster: "10.5.52.0-24"."""
    node: str
    """Its name where a member record tells it, else its lease key (a flannel node has no record)."""
    prefixes: tuple[Prefix, ...]
    """Its pod subnets, one for each family in use."""
    endpoints: tuple[Address, ...]
    """Underlay addresses, best candidate first."""
    backend: str
    """Its BackendType, "" where the lease names none."""
    data: JsonObject = {}
    """Its BackendData."""
    data_v6: JsonObject = {}
    """Its BackendV6Data."""
    revision: int = 0
    """Changes when the lease changes."""
    data_text: str | None = None
    """Its BackendData where that is text and no object, as flannel's extension has it; `data` is then empty."""


class Advertisement(msgspec.Struct, frozen=True):
    """What our lease tells other nodes about the backend."""

    type: str
    """BackendType; "" leaves it out, as flannel's udp and alloc do."""
    data: JsonObject = {}
    data_v6: JsonObject = {}
    data_text: str | None = None
    """BackendData as text in place of `data`, as flannel's extension has it."""


class Owned(msgspec.Struct, frozen=True):
    """What in the kernel belongs to this backend, so that `tulle down` and doctor can tell."""

    links: tuple[str, ...] = ()
    routes: tuple[Prefix, ...] = ()


class Underlay(msgspec.Struct, frozen=True):
    """The way out of this node."""

    link: str
    index: int
    mtu: int
    addresses: Mapping[Family, Address]
    """The local address of each family that this node has there and that the cluster uses."""
    public: Mapping[Family, Address]
    """What other nodes are told (--public-ip, --public-ipv6; else `addresses`)."""
    chosen_because: str
    connected: tuple[Prefix, ...] = ()
    """What is reached on that link without a gateway, by the link's addresses; sorted."""


class Device(msgspec.Struct, frozen=True):
    """A TUN that a user-space backend wants."""

    name: str
    mtu: int
    addresses: tuple[Prefix, ...]
    """With /32 or /128: the node's own addresses on it; the first of each family is the source of the ICMP
    errors that the engine makes."""
    routes: tuple[Prefix, ...]
    """What the kernel is to send into it."""


class Listen(msgspec.Struct, frozen=True):
    """A UDP socket that a user-space backend wants, bound to the wildcard address."""

    family: Family
    port: int
    fragment: bool
    """True: outer packets may be fragmented on the way; False: DF is set."""
    tells: bool = False
    """True: each datagram comes with the address of ours that it was sent to and its DS byte (`Remote`)."""
    mark: int = 0
    """SO_MARK of what is sent, for routing rules (ip-rule(8)'s fwmark); 0: none."""


class Endpoint(msgspec.Struct, frozen=True, array_like=True):
    """Where a peer's datagrams go."""

    address: str
    port: int


class DataPeer(msgspec.Struct, frozen=True):
    """A peer as the forwarder is told of it."""

    key: str
    prefixes: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    settings: JsonObject = {}
    """For the encapsulation alone (keys and the like). Secrets may lie here: it goes over the control socket
    and nowhere else."""

    def __repr__(self) -> str:
        return f"DataPeer(key={self.key!r}, prefixes={self.prefixes!r}, endpoints={self.endpoints!r}, settings hidden)"


SourceCheck = Literal["strict", "peer", "source"]
"""What may come out of a tunnel. strict: its source lies in a prefix of the peer that sent it, its destination in ours.
source: the first alone, for who also forwards to networks that are not the cluster's. peer: all that a peer sends."""


class DataPlane(Protocol):
    """What core gives to a user-space backend: a TUN, sockets, and a forwarder that carries packets between
    them. All calls state what is wanted; core keeps it so, across restarts of either process."""

    async def configure(
        self,
        device: Device,
        listen: Sequence[Listen],
        encapsulation: EncapsulationRef,
        *,
        source_check: SourceCheck = "strict",
    ) -> None:
        """Returns when the forwarder runs and has applied it. Raises OSError where the kernel refuses (a port
        in use: the message says by whom)."""
        ...

    async def set_peers(self, peers: Sequence[DataPeer]) -> None:
        """The whole set. Returns when it is on its way; `status()` tells what is applied."""
        ...

    def status(self) -> JsonObject:
        """Engine, why that one, generations wanted and applied, counters."""
        ...


class BackendContext(Protocol):
    """What core gives to a backend."""

    node: str
    underlay: Underlay
    networks: tuple[Prefix, ...]
    """The cluster networks, one for each family in use."""
    prefixes: tuple[Prefix, ...]
    """Our own pod subnets; empty until there is a lease (in `advertise`)."""
    state_dir: Path
    dataplane: DataPlane
    """For packets that a forwarder carries; from `start` on."""
    kernel: Kernel
    """For packets that the kernel forwards alone: a backend that never calls `dataplane` has no forwarder."""
    recalled: Advertisement | None
    """What our lease said when this tulled started; None where there was none, or nobody can say."""

    def second_dataplane(self, name: str) -> DataPlane:
        """Another device with a forwarder of its own, for a backend that needs one device a family; the same one each
        time for one name (letters, digits and "-"). From `start` on."""
        ...

    async def publish(self, advertisement: Advertisement) -> None:
        """Change what our lease tells the others, at any time (a new key, a new MAC)."""
        ...

    def follow(self, folder: str) -> AsyncGenerator[Mapping[str, bytes], None]:
        """The backend's own keys in the store, `<prefix>/<folder>/...`: all values by the rest of their keys, now and
        whole again after each change. Without end; nothing comes while the store is away. There are none where a subnet
        manager has its place. Close it (`contextlib.aclosing`)."""
        ...

    def again(self) -> None:
        """Have `reconcile` called soon with the same peers: something that it reports has changed."""
        ...


class Backend(Protocol):
    """See the module. Proven by `tulle.testing.backend_contract.BackendContract`.

    The factory of the spec is called with the checked options: `factory(options) -> Backend`.
    """

    def overhead_bytes(self, outer: Family) -> int:
        """What a packet grows by when it travels over an outer IPv4 or IPv6 header."""
        ...

    async def advertise(self, ctx: BackendContext) -> Advertisement:
        """What the lease is to say. Make or load keys here; change nothing in the kernel."""
        ...

    async def start(self, ctx: BackendContext) -> None:
        """Create what is needed before the first peer, adopt what an earlier run left.

        Called again every 2 s while it raises OSError or TimeoutError, and later whenever `ctx.underlay` has changed
        (a `reconcile` follows): state all that is wanted anew. ValueError says that this node can never do it, and
        ends tulled with status 1."""
        ...

    async def reconcile(self, peers: Sequence[Peer]) -> Report:
        """Make kernel and engine carry packets to exactly these peers. Idempotent, callable at any time after
        `start`; a peer that cannot be served is a problem in the report and does not stop the others."""
        ...

    def mtu(self) -> int:
        """What pods may use, for subnet.env: the tunnel's MTU."""
        ...

    def status(self) -> JsonObject:
        """For `tulle status`: JSON-ready, no secrets."""
        ...

    def owned(self) -> Owned:
        """What it has in the kernel now, the data plane's device included; nothing before `start`."""
        ...

    async def stop(self, remove: bool) -> None:
        """False: tulled ends, packets go on. True: `tulle down`, take away all that is ours."""
        ...
