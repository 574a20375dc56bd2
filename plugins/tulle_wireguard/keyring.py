"""The devices of one encapsulation: one, and while a key is being replaced a second way to each peer beside the first.

Nobody learns a new key at the same moment as everybody else. So for a while there are several *legs* to a peer, and
packets go on in sessions that exist, whichever keys those were made with, until a handshake with the new keys is done:
- Ours is replaced: a second device has the previous key. It answers those who know that alone.
- A peer's is replaced: each device has the peer once more, under the key that it had.
Both last as long as the caller names the earlier key. Where it never does, sessions end with the key: a key that is
replaced because somebody else has it must not be used for another two minutes.

A packet is sent by the newest leg that has a session; where that is not the newest of all, the newest is asked for one.
What comes in is read by the device whose index or mac1 it carries. Who hears that a peer has a new key asks at once
where packets pass: the peer may be sending alone, and cannot ask before it is known by that key.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

import msgspec

from tulle.net.packet import Buffer
from tulle_wireguard.constants import KEEPALIVE_TIMEOUT_S
from tulle_wireguard.device import Device
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.outputs import Outputs
from tulle_wireguard.peer import Peer

Id = TypeVar("Id", bound=Hashable)

BUSY_S = KEEPALIVE_TIMEOUT_S
"""Packets pass where one came within this: who gets any answers at least this often."""


class Wanted(NamedTuple):
    """What is wanted of a peer."""

    public: bytes
    former: bytes = b""
    """The public key that it had before, while that is still taken."""
    psk: bytes | None = None
    endpoints: Sequence[Endpoint] = ()
    persistent_s: int = 0

    def publics(self) -> list[bytes]:
        """The newest first."""
        return [self.public, self.former] if self.former and self.former != self.public else [self.public]


class _Known:
    """A peer, with its legs, the newest first; none where our key has become its own."""

    __slots__ = ("legs", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.legs: list[tuple[Device, Peer]] = []


class Keyring(Generic[Id]):
    """See the module. `Id`: what the caller knows peers by."""

    def __init__(self, random_bytes: Callable[[int], bytes], unix_ns: Callable[[], int]) -> None:
        self._random_bytes = random_bytes
        self._unix_ns = unix_ns
        self._devices: dict[bytes, Device] = {}
        """By private key, the newest first."""
        self._known: dict[Id, _Known] = {}
        self._ids: dict[bytes, Id] = {}
        """By public key, former ones too."""
        self._to_ask: set[Id] = set()
        """Peers that have just replaced their key while packets pass: the next `tick` asks for a session."""
        self._past: Counter[str] = Counter()
        """Counted by devices that are gone."""

    # --- what it is told --------------------------------------------------------------------------------------

    def configure(self, private: bytes, previous: bytes, mtu: int, now: float) -> None:
        """`previous`: a key of ours that is taken beside the other; empty: none. Raises ValueError on what is none."""
        before = self._devices
        if before and private not in before and previous not in before:
            # Nobody asks for the old key: a device goes on with another.
            newest = self._newest()
            newest.set_private(private, now)
            before = {private: newest}
        stamps = self._newest().stamps if before else None
        wanted = [private, previous] if previous and previous != private else [private]
        devices: dict[bytes, Device] = {}
        for key in wanted:
            devices[key] = before.get(key) or Device(
                key, self._random_bytes, self._unix_ns, now, checks_source=False, stamps=stamps
            )
            devices[key].mtu = mtu
            stamps = devices[key].stamps
        gone = [one for one in self._devices.values() if one not in devices.values()]
        changed, self._devices = devices.keys() != self._devices.keys(), devices
        if changed:
            for known in self._known.values():
                self._make_legs(known, now)
        for device in gone:
            self._past.update(device.counters)
            device.close()

    def set_peer(self, which: Id, wanted: Wanted, now: float) -> None:
        """New, or with other settings: sessions in being go on. Raises ValueError on keys that cannot be."""
        for public in wanted.publics():
            if self.holder(public) not in (None, which):
                raise ValueError(
                    f"two peers have the public key {b64encode(public).decode()}: each needs its own"
                )
        newest = self._newest()
        if wanted.public == newest.public:
            raise ValueError("this is our own public key: a device is not a peer of itself")
        known = self._known.setdefault(which, _Known(wanted))
        before, known.wanted = known.wanted, wanted
        for public in wanted.publics():
            self._ids[public] = which
        try:
            self._make_legs(known, now)
        except ValueError:
            self.remove_peer(which)  # nothing of it that is half set
            raise
        finally:
            for public in set(before.publics()) - set(wanted.publics()):
                self._forget(public)
        if before.public != wanted.public and any(peer.heard_at > now - BUSY_S for _, peer in known.legs):
            self._to_ask.add(which)

    def holder(self, public: bytes) -> Id | None:
        """The peer that has this key, or had it before."""
        return self._ids.get(public)

    def remove_peer(self, which: Id) -> None:
        """Nothing happens where it is not known."""
        known = self._known.pop(which, None)
        for public in known.wanted.publics() if known is not None else ():
            self._forget(public)

    def send_failed(self, endpoint: Endpoint) -> None:
        for device in self._devices.values():
            device.send_failed(endpoint)

    def _make_legs(self, known: _Known, now: float) -> None:
        """All devices with all keys. What is there stays as it is."""
        wanted, before = known.wanted, known.legs
        legs: list[tuple[Device, Peer]] = []
        for public in wanted.publics():
            for device in self._devices.values():
                if public != device.public:
                    told = (wanted.psk, wanted.endpoints, wanted.persistent_s if not legs else 0)
                    legs.append((device, _add(device, public, now, *told)))
        known.legs = legs
        peers = [peer for _, peer in legs]
        gone = [peer for _, peer in before if peer not in peers]
        for peer in gone if peers else ():  # totals go on
            peers[0].received_bytes += peer.received_bytes
            peers[0].sent_bytes += peer.sent_bytes
        # A peer that has moved is where it was heard, whatever its key.
        heard = next((peer for peer in [*peers, *gone] if peer.where.is_proved), None)
        for peer in peers:
            if heard is not None and heard.where.current is not None and not peer.where.is_proved:
                peer.where.guess(heard.where.current)

    def _forget(self, public: bytes) -> None:
        self._ids.pop(public, None)
        for device in self._devices.values():
            device.remove_peer(public)

    def _newest(self) -> Device:
        for device in self._devices.values():
            return device
        raise ValueError("WireGuard has no private key yet: configure it before its first peer")

    # --- packets ------------------------------------------------------------------------------------------------

    def send(self, which: Id, packets: Sequence[Buffer], now: float) -> Outputs:
        known = self._known.get(which)
        if known is None or not known.legs:
            return Outputs()
        device, peer = known.legs[0]
        if len(known.legs) == 1 or device.has_session(peer, now):
            return device.send_to(peer, packets, now)
        for other, same in known.legs[1:]:
            if other.has_session(same, now):
                outputs = device.ask(peer, now)
                outputs.add(other.send_to(same, packets, now))
                return outputs
        return device.send_to(peer, packets, now)

    def received(self, datagrams: Sequence[Buffer], source: Endpoint, now: float, ds: int = 0) -> Outputs:
        """From one source, in order."""
        if len(self._devices) == 1:
            return self._newest().datagrams_received(datagrams, source, now, ds)
        outputs = Outputs()
        for device, run in groupby(datagrams if self._devices else (), self._reader):
            outputs.add(device.datagrams_received(list(run), source, now, ds))
        return outputs

    def _reader(self, datagram: Buffer) -> Device:
        """Of this datagram; where it is for none, one that counts why it is dropped."""
        return next((one for one in self._devices.values() if one.is_for(datagram)), self._newest())

    # --- time ---------------------------------------------------------------------------------------------------

    def deadline(self, now: float) -> float | None:
        if self._to_ask:
            return now
        due = [one.deadline(now) for one in self._devices.values()]
        return min((when for when in due if when is not None), default=None)

    def tick(self, now: float) -> Outputs:
        outputs = Outputs()
        while self._to_ask:
            known = self._known.get(self._to_ask.pop())
            if known is not None and known.legs:
                device, peer = known.legs[0]
                outputs.add(device.ask(peer, now))
        for device in self._devices.values():
            outputs.add(device.tick(now))
        return outputs

    # --- questions ----------------------------------------------------------------------------------------------

    def peers(self) -> Iterator[tuple[Id, list[Peer]]]:
        """With their legs, the newest first. Who has none is left out."""
        for which, known in self._known.items():
            if known.legs:
                yield which, [peer for _, peer in known.legs]

    def counters(self) -> Counter[str]:
        total = Counter(self._past)
        for device in self._devices.values():
            total.update(device.counters)
        return total

    def export_state(self) -> bytes:
        """b"" where there is no key yet."""
        if not self._devices:
            return b""
        return msgspec.msgpack.encode([one.export_state() for one in self._devices.values()])

    def import_state(self, state: bytes) -> None:
        """Raises ValueError where it is no state."""
        try:
            states = msgspec.msgpack.decode(state, type=list[bytes])
        except msgspec.MsgspecError as error:
            raise ValueError(f"no WireGuard sessions: {error}") from error
        self._newest()
        for one in states:
            for device in self._devices.values():
                device.import_state(one)


def _add(
    device: Device,
    public: bytes,
    now: float,
    psk: bytes | None,
    endpoints: Sequence[Endpoint],
    persistent_s: int,
) -> Peer:
    return device.add_peer(public, now, psk=psk, endpoints=endpoints, persistent_s=persistent_s)
