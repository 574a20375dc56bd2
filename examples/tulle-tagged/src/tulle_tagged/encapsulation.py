"""The wire: a tag of 12 bytes, then the inner packet as it is. Sans-I/O; it runs in the forwarder.

     0       2         3      4                  8              12
    +-------+---------+------+------------------+--------------+----------------
    | "tg"  | version | zero | cluster (hash)   | CRC-32       | inner packet ...
    +-------+---------+------+------------------+--------------+----------------

Numbers are big-endian. The CRC (RFC 1952 section 8) covers the first 8 bytes and the inner packet. It finds
damage, not malice: who wants to forge a tag can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2s
from struct import Struct
from typing import Any
from zlib import crc32

from tulle.contracts.encapsulation import Buffer, Opened, Outgoing, PathId, Paths, PeerId

MAGIC = b"tg"
VERSION = 1
KIND = Struct("!2sBx")
CLUSTER = Struct("!4s")
CRC = Struct("!I")
START_BYTES = KIND.size + CLUSTER.size
"""What the CRC covers beside the packet."""
TAG_BYTES = START_BYTES + CRC.size

NOT_TAGGED, OTHER_CLUSTER, DAMAGED = "drop-not-tagged", "drop-other-cluster", "drop-damaged"


def tag_start(cluster: str) -> bytes:
    """The first 8 bytes of every tag of that cluster."""
    return KIND.pack(MAGIC, VERSION) + CLUSTER.pack(blake2s(cluster.encode(), digest_size=4).digest())


class Tagged:
    """See `tulle.contracts.encapsulation.Encapsulation`. No sessions: each datagram stands alone."""

    def __init__(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> None:
        self._paths = paths
        self._path_of: dict[PeerId, PathId] = {}
        self._counters: Counter[str] = Counter({NOT_TAGGED: 0, OTHER_CLUSTER: 0, DAMAGED: 0})
        self._start = b""
        self._crc = 0

    def configure(self, options: Mapping[str, Any], now: float) -> None:
        """`{"cluster": NAME}`, as the backend gives it."""
        cluster = options.get("cluster")
        if not isinstance(cluster, str) or not cluster:
            raise ValueError(f"the tag needs the cluster's name, not {cluster!r}: a fault of backend tagged")
        self._start = tag_start(cluster)
        self._crc = crc32(self._start)

    def set_peer(
        self, peer: PeerId, paths: Sequence[PathId], settings: Mapping[str, Any], now: float
    ) -> None:
        if paths:
            self._path_of[peer] = paths[0]
        else:
            self._path_of.pop(peer, None)

    def remove_peer(self, peer: PeerId, now: float) -> None:
        self._path_of.pop(peer, None)

    def seal(self, peer: PeerId, packets: Sequence[Buffer], now: float) -> Sequence[Outgoing]:
        path = self._path_of.get(peer)
        if path is None:
            return ()
        start, crc = self._start, self._crc
        return ((path, [(start + CRC.pack(crc32(packet, crc)), packet) for packet in packets]),)

    def open(self, path: PathId, datagrams: Sequence[Buffer], now: float) -> Opened:
        packets: list[Buffer] = []
        for datagram in datagrams:
            reason = self._fault(datagram)
            if reason:
                self._counters[reason] += 1
            else:
                packets.append(datagram[TAG_BYTES:])
        return Opened(((self._paths.peers_at(path), packets),) if packets else ())

    def _fault(self, datagram: Buffer) -> str:
        """Why a datagram is not ours, as the counter's name; "" where it is."""
        if len(datagram) < TAG_BYTES or datagram[: KIND.size] != KIND.pack(MAGIC, VERSION):
            return NOT_TAGGED
        if datagram[:START_BYTES] != self._start:
            return OTHER_CLUSTER
        (said,) = CRC.unpack_from(datagram, START_BYTES)
        return "" if said == crc32(datagram[TAG_BYTES:], self._crc) else DAMAGED

    def control(self, path: PathId, datagram: Buffer, now: float) -> Sequence[Outgoing]:
        return ()

    def deadline(self, now: float) -> float | None:
        return None

    def tick(self, now: float) -> Sequence[Outgoing]:
        return ()

    def send_failed(self, path: PathId, error: int, now: float) -> None:
        """The engine has counted it; the next packet may get through."""

    def export_state(self) -> bytes:
        return b""

    def import_state(self, state: bytes) -> None:
        """There is nothing to take over."""

    def counters(self) -> Mapping[str, int]:
        return dict(self._counters)

    def report(self, now: float) -> Mapping[PeerId, Mapping[str, Any]]:
        return {}
