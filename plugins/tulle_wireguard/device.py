"""A WireGuard device without I/O: packets, datagrams and the time come in, datagrams and packets go out.

To send                                        Received
1. the peer that has the destination           1. by type: transport, or a handshake message (4.)
2. a session? else wait for one, and ask       2. the session of the index; tag, then replay window
3. seal, send to where the peer is             3. the peer is there now; padding off; may it send from
4. is the session old? then ask for a new one     that address? deliver
                                               4. admission, then the exchange; answer

Bytes from the network are never raised. Every method that may have something to send returns `Outputs`; `deadline`
says when `tick` is to be called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from tulle.net.packet import Buffer, destination
from tulle.net.prefix import Prefix
from tulle_wireguard import ecn, handover, messages
from tulle_wireguard.admission import Admission
from tulle_wireguard.alarms import Alarms
from tulle_wireguard.allowedips import AllowedIps
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.exchange import Exchange
from tulle_wireguard.inner import unpadded
from tulle_wireguard.keypair import KeyPair
from tulle_wireguard.messages import TRANSPORT_MIN_BYTES, TRANSPORT_START, kind
from tulle_wireguard.outputs import Outputs, Received, Send
from tulle_wireguard.peer import LONG_AGO, Peer
from tulle_wireguard.sessions import Sessions
from tulle_wireguard.tai64n import Stamps
from tulle_wireguard.timers import IDLE, Action, Event, Timer

KEEPALIVE = b""


class Device:
    """See the module."""

    def __init__(
        self,
        private: bytes,
        random_bytes: Callable[[int], bytes],
        unix_ns: Callable[[], int],
        now: float,
        *,
        mtu: int = 1420,
        checks_source: bool = True,
        stamps: Stamps | None = None,
    ) -> None:
        """`unix_ns`: the wall clock, for the timestamps of initiations only. `checks_source`: False where the caller
        looks itself whether a peer may send from an address. `stamps`: goes on where an earlier device ended."""
        self.counters: Counter[str] = Counter()
        """What was dropped, as drop-<reason>, and cookie-replies."""
        self.allowed: AllowedIps[Peer] = AllowedIps()
        self.mtu = mtu
        self._random_bytes = random_bytes
        self._checks_source = checks_source
        self._exchange = Exchange(private, random_bytes, unix_ns, stamps or Stamps(), self.counters)
        self._admission = Admission(self._exchange.public, random_bytes, self.counters, now)
        self._alarms = Alarms()
        self._sessions = Sessions(
            self._exchange, self._admission, self._alarms, self.counters, self._keepalive
        )
        self._given_away = False

    # --- what it is told --------------------------------------------------------------------------------------

    @property
    def public(self) -> bytes:
        """Our public key."""
        return self._exchange.public

    @property
    def stamps(self) -> Stamps:
        """For a device that is to go on where this one ends."""
        return self._exchange.stamps

    @property
    def peers(self) -> dict[bytes, Peer]:
        """By public key. Not to be changed by the caller."""
        return self._exchange.peers

    def set_private(self, private: bytes, now: float) -> None:
        """Another key of ours. A peer that has it as its own public key is removed (it would be ourselves). Packets
        wait for a session of the new key; what comes in the old ones is still taken. Raises ValueError on what is no
        key."""
        self._exchange.set_private(private)
        self._admission.set_public(self.public)
        if self.public in self.peers:
            self.remove_peer(self.public)
        for peer in self.peers.values():
            peer.sent_handshake_at = LONG_AGO  # those were of the old key
            peer.timers.try_now(now)
            self._alarms.set(peer)

    def add_peer(
        self,
        public: bytes,
        now: float,
        *,
        psk: bytes | None = None,
        endpoints: Sequence[Endpoint] = (),
        allowed: Iterable[Prefix] = (),
        persistent_s: int = 0,
    ) -> Peer:
        """A new peer, or one that is there with new settings: its sessions go on, and where it was authenticated it
        stays. Raises ValueError on keys that cannot be."""
        if public == self.public:
            raise ValueError("this is our own public key: a device is not a peer of itself")
        peer = self.peers.get(public)
        if peer is None:
            peer = Peer(public, self._exchange.shared_with(public), self._chance)
        peer.set_psk(psk)
        self.peers[public] = peer
        peer.where.told(endpoints)
        self.allowed.replace(peer, allowed)
        peer.timers.set_persistent(persistent_s, now)
        self._alarms.set(peer)
        return peer

    def remove_peer(self, public: bytes) -> None:
        """Nothing happens where it is not there."""
        peer = self.peers.pop(public, None)
        if peer is not None:
            peer.removed = True
            self._forget_sessions(peer)
            self.allowed.replace(peer, ())
            peer.timers.stop_all()
            peer.forget_secrets()

    def close(self) -> None:
        """Overwrite all secrets. It is of no use afterwards."""
        for public in list(self.peers):
            self.remove_peer(public)
        self._exchange.wipe()

    def send_failed(self, endpoint: Endpoint) -> None:
        """The kernel refused to send there from `endpoint.local` (ENETUNREACH, EADDRNOTAVAIL, EINVAL)."""
        for peer in self.peers.values():
            if peer.where.current == endpoint:
                peer.where.unstick()

    def export_state(self) -> bytes:
        """All sessions, for another process. Nothing is sealed or answered here any more after this."""
        self._given_away = True
        peers = [handover.of_peer(peer) for peer in self.peers.values()]
        return handover.encode(
            handover.DeviceState(handover.VERSION, self.public, self._exchange.stamps.last_ns, peers)
        )

    def import_state(self, state: bytes) -> None:
        """Go on with the sessions of peers that were added before; of others and of another key of ours nothing is
        taken. Raises ValueError where it is no state."""
        given = handover.decode(state)
        if given.public != self.public:
            return
        self._exchange.stamps.last_ns = max(self._exchange.stamps.last_ns, given.last_stamp_ns)
        for one in given.peers:
            peer = self.peers.get(one.public)
            if peer is not None:
                self._forget_sessions(peer)
                self._exchange.adopt(peer, handover.restore(peer, one))
                self._alarms.set(peer)

    # --- to send ------------------------------------------------------------------------------------------------

    def packets_to_send(self, packets: Iterable[Buffer], now: float) -> Outputs:
        """Inner packets, each to the peer whose allowed IPs hold its destination. The buffers may be used again."""
        by_peer: dict[Peer, list[Buffer]] = {}
        for packet in packets:
            inner = destination(packet)
            peer = None if inner is None else self.allowed.peer_of(inner)
            if peer is None:
                self.counters["drop-no-peer"] += 1
            else:
                by_peer.setdefault(peer, []).append(packet)
        out = Outputs()
        for peer, batch in by_peer.items():
            self._send(peer, batch, now, out)
        return out

    def has_session(self, peer: Peer, now: float) -> bool:
        """A packet for it could leave at once."""
        pair = peer.pairs.current
        return pair is not None and pair.may_send(now) and not self._given_away

    def ask(self, peer: Peer, now: float) -> Outputs:
        """A session with it is wanted, though there is nothing to send in it yet."""
        out = Outputs()
        if peer.where.current is not None and not peer.removed and not self._given_away:
            self._sessions.ask(peer, now, out)
            self._alarms.set(peer)
        return out

    def send_to(self, peer: Peer, packets: Sequence[Buffer], now: float) -> Outputs:
        """The same for a caller that has looked the peer up."""
        out = Outputs()
        self._send(peer, packets, now, out)
        return out

    def _send(self, peer: Peer, packets: Sequence[Buffer], now: float, out: Outputs) -> None:
        if self._given_away:
            self.counters["drop-given-away"] += len(packets)
            return
        if peer.where.current is None or peer.removed:
            self.counters["drop-no-endpoint"] += len(packets)
            return
        pair = peer.pairs.current
        if pair is not None and not peer.staged and pair.may_send(now):
            done = self._seal(peer, pair, packets, now, out)
            packets = packets[done:]
        if packets:
            self._stage(peer, packets, now, out)
        self._alarms.set(peer)

    def _stage(self, peer: Peer, packets: Sequence[Buffer], now: float, out: Outputs) -> None:
        """Wait for a session. The oldest fall out of a queue that is full."""
        overflow = len(peer.staged) + len(packets) - (peer.staged.maxlen or 0)
        if overflow > 0:
            self.counters["drop-staged"] += overflow
        peer.staged.extend(bytes(packet) for packet in packets)
        peer.timers.wanted(now)
        self._sessions.ask(peer, now, out)

    def _flush(self, peer: Peer, now: float, out: Outputs) -> None:
        """There is a session: send what waited."""
        pair = peer.pairs.current
        if pair is not None and peer.staged and pair.may_send(now):
            done = self._seal(peer, pair, list(peer.staged), now, out)
            for _ in range(done):
                peer.staged.popleft()

    def _seal(self, peer: Peer, pair: KeyPair, packets: Sequence[Buffer], now: float, out: Outputs) -> int:
        """How many were sealed: all, while the counter lasts."""
        endpoint = peer.where.current
        if endpoint is None or self._given_away:
            return 0
        sealed = pair.seal(packets, self.mtu)
        marks = [ecn.outer(packet) for packet in packets[: len(sealed)]]
        first = 0
        for ds, run in groupby(marks):
            end = first + len(list(run))
            out.sends.append(Send(endpoint, ds, sealed[first:end]))
            first = end
        peer.sent_bytes += sum(len(header) + len(body) for header, body in sealed)
        if sealed:
            if any(map(len, packets)):
                peer.timers.happened(Event.SENT_DATA, now)
            peer.timers.happened(Event.SENT, now)
        if pair.is_old_to_send(now):
            self._sessions.ask(peer, now, out)
        return len(sealed)

    def _keepalive(self, peer: Peer, now: float, out: Outputs) -> None:
        """What waits says as much as a keepalive."""
        flushed = bool(peer.staged)
        self._flush(peer, now, out)
        if peer.staged:
            peer.timers.wanted(now)
            self._sessions.ask(peer, now, out)
        elif not flushed:
            self._send(peer, (KEEPALIVE,), now, out)

    # --- received -----------------------------------------------------------------------------------------------

    def is_for(self, datagram: Buffer) -> bool:
        """Whether it names a session of ours, or is a handshake with our key. For who has several devices."""
        match kind(datagram):
            case messages.TRANSPORT | messages.COOKIE_REPLY:
                return self._exchange.has_index(int.from_bytes(datagram[4:8], "little"))
            case messages.RESPONSE:
                return self._exchange.has_index(int.from_bytes(datagram[8:12], "little"))
            case messages.INITIATION:
                return self._admission.is_for_us(bytes(datagram))
        return False

    def datagram_received(self, data: Buffer, source: Endpoint, now: float, ds: int = 0) -> Outputs:
        return self.datagrams_received((data,), source, now, ds)

    def datagrams_received(
        self, datagrams: Iterable[Buffer], source: Endpoint, now: float, ds: int = 0
    ) -> Outputs:
        """Datagrams from one source, all with this DS byte, in order."""
        out = Outputs()
        opened: dict[KeyPair, tuple[Peer, list[bytes]]] = {}
        for datagram in datagrams:
            if datagram[:4] == TRANSPORT_START and len(datagram) >= TRANSPORT_MIN_BYTES:
                self._open(datagram, now, opened)
            else:
                self._sessions.received(datagram, source, now)
        for pair, (peer, plains) in opened.items():
            self._authentic(peer, pair, source, now, out)
            packets = self._deliverable(peer, plains, ds)
            if packets:
                out.received.append(Received(peer, packets))
            if any(plains):
                peer.timers.happened(Event.RECEIVED_DATA, now)
            self._alarms.set(peer)
        return self._finished(now, out)

    def _open(self, datagram: Buffer, now: float, opened: dict[KeyPair, tuple[Peer, list[bytes]]]) -> None:
        found = self._exchange.pairs.get(int.from_bytes(datagram[4:8], "little"))
        if found is None:
            self.counters["drop-unknown-index"] += 1
            return
        peer, pair = found
        if not pair.may_receive(now):
            self.counters["drop-expired"] += 1
            return
        plain = pair.open(datagram)
        if plain is None:
            self.counters["drop-forged"] += 1
        elif not pair.replay.accept(int.from_bytes(datagram[8:16], "little")):
            self.counters["drop-replayed"] += 1
        else:
            peer.received_bytes += len(datagram)
            if pair in opened:
                opened[pair][1].append(plain)
            else:
                opened[pair] = (peer, [plain])

    def _authentic(self, peer: Peer, pair: KeyPair, source: Endpoint, now: float, out: Outputs) -> None:
        """Something came in this session: that is what an endpoint, a session and a timer believe."""
        self._sessions.heard(peer, source, now)
        gone = peer.pairs.received_in(pair)
        if gone is not None:
            self._exchange.drop_pairs(gone)
            self._sessions.completed(peer, now)
            self._flush(peer, now, out)
            if peer.staged:  # it was retired before it was confirmed
                self._sessions.ask(peer, now, out)
        if pair is peer.pairs.current and pair.is_old_to_receive(now):
            self._sessions.ask(peer, now, out)

    def _deliverable(self, peer: Peer, plains: Iterable[bytes], ds: int) -> list[bytes]:
        packets = []
        for plain in plains:
            if not plain:
                continue
            found = unpadded(plain)
            if found is None:
                self.counters["drop-bad-inner"] += 1
                continue
            packet, address = found
            if self._checks_source and self.allowed.peer_of(address) is not peer:
                self.counters["drop-source"] += 1
                continue
            packets.append(ecn.applied(packet, ds) if ds else packet)
        return packets

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> Outputs:
        """Do what is due."""
        out = Outputs()
        for peer in self._alarms.due(now):
            for action in peer.timers.expire(now):
                self._act(peer, action, now, out)
            self._alarms.set(peer)
        return self._finished(now, out)

    def _finished(self, now: float, out: Outputs) -> Outputs:
        """A few of the handshakes that wait; and no word from a device that gave its sessions away."""
        if self._given_away:
            out.sends.clear()
        else:
            self._sessions.work(now, out)
        return out

    def deadline(self, now: float) -> float | None:
        """When `tick` is to be called: later than `now`, if it was just called. None: not before something comes; a
        device that gave its sessions away has nothing to do any more."""
        due = IDLE if self._given_away else min(self._alarms.next(), self._admission.deadline(now))
        return None if due == IDLE else due

    def _act(self, peer: Peer, action: Action, now: float, out: Outputs) -> None:
        match action:
            case Action.RETRY_HANDSHAKE | Action.START_HANDSHAKE:
                peer.where.silent()
                self._sessions.ask(peer, now, out)
            case Action.GIVE_UP:
                if peer.staged:
                    self.counters["drop-unanswered"] += len(peer.staged)
                    peer.staged.clear()
                self._exchange.drop_flight(peer)
            case Action.KEEPALIVE:
                self._keepalive(peer, now, out)
            case Action.WIPE:
                self._exchange.drop_pairs(peer.pairs.clear())
                if peer.timers.due(Timer.RETRANSMIT) == IDLE:  # else a new session is being asked for
                    self._forget_sessions(peer)

    def _forget_sessions(self, peer: Peer) -> None:
        self._exchange.drop_flight(peer)
        self._exchange.drop_pairs(peer.pairs.clear())
        peer.staged.clear()

    def _chance(self) -> float:
        return int.from_bytes(self._random_bytes(4)) / 2**32
