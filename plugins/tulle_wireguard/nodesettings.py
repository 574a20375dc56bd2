"""What the `wg` socket of a node shows and takes, where keys, port and peers come from the node and the store. No I/O.

Everything is shown, the private key too: who may open the socket is root. What the store owns cannot be set: a request
that would change it answers EPERM, whole. Beside that, root may have peers and a firewall mark of its own until this
tulled ends (`by_hand`, `fwmark`); a request that says again what is there changes nothing and is taken.

A backend uses it so, once for each device:

    settings = NodeSettings(traffic, changed)     # `changed` is called when by_hand or fwmark did
    server = UapiServer("tulle-wg", settings)     # `uapi_socket`
    settings.state(private, port, peers)          # whenever one of them changed
    [*peers, *settings.by_hand()]                 # what the data plane is told
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tulle.contracts.backend import DataPeer
from tulle_wireguard.interface import Interface, PeerSettings
from tulle_wireguard.setpeers import from_data_peer, to_data_peer
from tulle_wireguard.uapi import DeviceView, Set
from tulle_wireguard.uapi_socket import CannotChange
from tulle_wireguard.views import Told, Viewer, heard_at


class NodeSettings:
    """See the module and `uapi_socket.Configurable`."""

    def __init__(
        self,
        traffic: Callable[[], Mapping[str, Told]],
        changed: Callable[[], None],
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`traffic`: what the data plane's status has under "peers", by the peers' keys there."""
        self._traffic = traffic
        self._changed = changed
        self._unix_ns = unix_ns
        self._viewer = Viewer()
        self._interface = Interface()
        """All of it."""
        self._store: dict[bytes, str] = {}
        """The peers that are not by hand: public key -> key in the data plane."""
        self._understood: dict[str, tuple[DataPeer, PeerSettings]] = {}
        """By key in the data plane: one change among thousands of peers costs what changed."""

    @property
    def fwmark(self) -> int:
        """That root has set; 0: none."""
        return self._interface.fwmark

    def by_hand(self) -> list[DataPeer]:
        """The peers that root has set."""
        return [
            to_data_peer(one) for public, one in self._interface.peers.items() if public not in self._store
        ]

    def state(self, private_key: bytes, listen_port: int, peers: Sequence[DataPeer]) -> None:
        """What node and store say. A peer or prefix that they have too is by hand no longer."""
        by_hand = [one for public, one in self._interface.peers.items() if public not in self._store]
        self._understood = {peer.key: (peer, self._understand(peer)) for peer in peers}
        stated = {one.public_key: one for _, one in self._understood.values()}
        taken = {prefix for one in stated.values() for prefix in one.allowed_ips} if by_hand else set()
        self._store = {one.public_key: key for key, (_, one) in self._understood.items()}
        left = {
            one.public_key: msgspec.structs.replace(one, allowed_ips=one.allowed_ips - taken)
            for one in by_hand
            if one.public_key not in stated
        }
        self._interface = msgspec.structs.replace(
            self._interface,
            private_key=private_key,
            listen_port=listen_port,
            peers=stated | left,
        )

    def _understand(self, peer: DataPeer) -> PeerSettings:
        before = self._understood.get(peer.key)
        return before[1] if before is not None and before[0] == peer else from_data_peer(peer)

    async def view(self) -> DeviceView:
        return self._viewer.device(
            self._interface, self._interface.listen_port, self._told(), self._unix_ns()
        )

    async def change(self, wanted: Set) -> None:
        before = self._interface
        after = self._with_places(before.altered(wanted))
        lost = self._what_is_not_roots(before, after)
        if lost:
            raise CannotChange(
                errno.EPERM,
                f"{lost} set by the cluster's store and this node's options: change them there "
                "(tulle wireguard --help), other peers may be set here",
            )
        if after != before:
            self._interface = after
            self._changed()

    def _with_places(self, after: Interface) -> Interface:
        """Whoever says what `get` has shown means no change: for a store's peer that moved, its new place."""
        told, peers = self._told(), dict(after.peers)
        for public in self._store:
            peer, known = peers.get(public), self._interface.peers[public]
            if peer is not None and peer.endpoint == heard_at(told.get(public, {})):
                peers[public] = msgspec.structs.replace(peer, endpoint=known.endpoint)
        return msgspec.structs.replace(after, peers=peers)

    def _what_is_not_roots(self, before: Interface, after: Interface) -> str:
        """The first thing that would be another one; "" where there is none."""
        if after.private_key != before.private_key:
            return "the private key is"
        if after.listen_port != before.listen_port:
            return "the port is"
        if any(after.peers.get(public) != before.peers[public] for public in self._store):
            return "the nodes' peers are"
        return ""

    def _told(self) -> dict[bytes, Told]:
        traffic = self._traffic()
        keys = {public: self._store.get(public, public.hex()) for public in self._interface.peers}
        return {public: traffic[key] for public, key in keys.items() if key in traffic}
