"""Ends of an encapsulation over a wire that is a list, on a clock that tests move: what `encapsulation_contract` plays
with. Each node has an address and a second place; a path is a number for (address, port, our own address, DS byte).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tulle.contracts.encapsulation import Buffer, Encapsulation, Outgoing, PathId, Paths, PeerId, Remote

NODES = ("a", "b", "c")
"""c is a third node that a and b do not know, unless a test tells them."""
SECOND_PLACE = 10
"""Added to a node's number it is another path to the same node, on another address."""
FIRST_HEARD = 100
"""Paths from here on are those that were heard from or asked for; each call forgets those of the calls before."""
PORT = 51820
TALK_S = 20.0
"""Virtual seconds in which a handshake must be over."""
MOST_TICKS = 100
"""In a row, at one moment: a deadline that is still past then never lets packets have their turn."""


class MakesEnds(Protocol):
    """What a contract class says of its encapsulation."""

    tells: bool

    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation: ...

    def options_of(self, node: str) -> Mapping[str, Any]: ...

    def settings_of(self, node: str) -> Mapping[str, Any]: ...


def address_at(path: int) -> bytes:
    """Of a node's number, or of that and SECOND_PLACE."""
    return bytes((192, 0, 2, path))  # RFC 5737


def node_at(address: bytes) -> str:
    return NODES[(address[-1] - 1) % SECOND_PLACE]


class Numbers:
    """The paths of one end: a node's number is its path and stays; the others are forgotten."""

    def __init__(self) -> None:
        self._remotes: dict[PathId, Remote] = {}
        self._numbers: dict[Remote, PathId] = {}
        self._next = FIRST_HEARD
        for place in (0, SECOND_PLACE):
            for number in range(1, len(NODES) + 1):
                path = PathId(number + place)
                self._remotes[path] = Remote(address_at(path), PORT)
                self._numbers[self._remotes[path]] = path

    def number(self, remote: Remote) -> PathId:
        path = self._numbers.get(remote)
        if path is None:
            path = self._numbers[remote] = PathId(self._next)
            self._remotes[path] = remote
            self._next += 1
        return path

    def remote(self, path: PathId) -> Remote:
        """Raises KeyError for one that was forgotten."""
        return self._remotes[path]

    def forget(self) -> None:
        for path in [one for one in self._remotes if one >= FIRST_HEARD]:
            del self._numbers[self._remotes.pop(path)]


class Wire:
    """All datagrams that are under way, and the ends that they go to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ends: dict[str, End] = {}
        self.seen: list[tuple[str, int, bytes]] = []
        """Everything that was sent: by whom, to which address (its path's number without local and ds), what."""

    def carry(self, sender: str, outgoing: Iterable[tuple[Remote, Sequence[bytes]]], place: int = 0) -> None:
        """Deliver, and whatever is answered, until nobody says anything more. The sender is at `place`."""
        queue = [(sender, remote, datagrams) for remote, datagrams in outgoing]
        while queue:
            source, remote, datagrams = queue.pop(0)
            self.seen += [(source, remote.address[-1], one) for one in datagrams]
            receiver = self.ends.get(node_at(remote.address))
            if receiver is None:
                continue
            back = Remote(address_at(NODES.index(source) + 1 + place), PORT)
            if receiver.contract.tells:
                back = back._replace(local=remote.address, ds=remote.ds)
            answers = receiver.hear(back, datagrams)
            queue += [(receiver.node, *one) for one in answers]


class End:
    """One node: its encapsulation, the peers it was told of, and what came out (`contracts.encapsulation.Paths`)."""

    def __init__(self, wire: Wire, node: str, contract: MakesEnds) -> None:
        self.wire = wire
        self.node = node
        self.contract = contract
        self.received: list[tuple[frozenset[PeerId], bytes]] = []
        self._numbers = Numbers()
        self._peers_at: dict[bytes, frozenset[PeerId]] = {}
        self.encapsulation = contract.make_end(self, random.Random(NODES.index(node)).randbytes)
        self.encapsulation.configure(contract.options_of(node), wire.now)
        wire.ends[node] = self

    # --- what the encapsulation asks ----------------------------------------------------------------------------

    def remote(self, path: PathId) -> Remote:
        return self._numbers.remote(path)

    def path_to(self, remote: Remote) -> PathId:
        return self._numbers.number(remote)

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        try:
            return self._peers_at.get(self._numbers.remote(path).address, frozenset())
        except KeyError:
            return frozenset()

    # --- what tests do with it ----------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self.encapsulation.deadline(self.wire.now)

    def knows(self, node: str, place: int = 0) -> PeerId:
        """Tell it of a node, and where that is."""
        number = NODES.index(node) + 1
        peer, path = PeerId(number), PathId(number + place)
        self._withdraw(peer)
        self._peers_at[address_at(path)] = frozenset({peer})
        self.encapsulation.set_peer(peer, [path], self.contract.settings_of(node), self.wire.now)
        self.tick()
        return peer

    def forget(self, peer: PeerId) -> None:
        self._withdraw(peer)
        self.encapsulation.remove_peer(peer, self.wire.now)
        self.tick()

    def _withdraw(self, peer: PeerId) -> None:
        self._peers_at = {address: peers - {peer} for address, peers in self._peers_at.items()}

    def sealed(self, peer: PeerId, packets: Sequence[Buffer]) -> list[tuple[Remote, list[bytes]]]:
        """What `seal` has to send, joined and addressed."""
        self._numbers.forget()
        return self._addressed(self.encapsulation.seal(peer, packets, self.wire.now))

    def send(self, peer: PeerId, packets: Sequence[Buffer], place: int = 0) -> None:
        self.wire.carry(self.node, self.sealed(peer, packets), place)
        self.tick()

    def hear(self, source: Remote, datagrams: Sequence[bytes]) -> list[tuple[Remote, list[bytes]]]:
        """As an engine does: what opens is delivered, the rest goes to `control`. Returns what is answered."""
        self._numbers.forget()
        path = self._numbers.number(source)
        opened = self.encapsulation.open(path, datagrams, self.wire.now)
        for senders, packets in opened.deliveries:
            self.received += [(frozenset(senders), bytes(one)) for one in packets]
        answers = self._addressed(opened.outgoing)
        for other in opened.others:
            answers += self._addressed(self.encapsulation.control(path, other, self.wire.now))
        return answers

    def hear_at(self, path: int, datagrams: Sequence[bytes]) -> list[tuple[Remote, list[bytes]]]:
        """The same from a node's number, or from its SECOND_PLACE."""
        return self.hear(Remote(address_at(path), PORT), datagrams)

    def tick(self) -> None:
        """What is due now."""
        for _ in range(MOST_TICKS):
            deadline = self.deadline
            if deadline is None or deadline > self.wire.now:
                return
            self._numbers.forget()
            self.wire.carry(self.node, self._addressed(self.encapsulation.tick(self.wire.now)))
        raise AssertionError("a deadline that stays in the past makes loops spin")

    def packets_from(self, peer: PeerId) -> list[bytes]:
        return [one for senders, one in self.received if peer in senders]

    def _addressed(self, outgoing: Sequence[Outgoing]) -> list[tuple[Remote, list[bytes]]]:
        """At once, as an engine sends: what a path stands for is not promised for later."""
        return [(self._numbers.remote(path), _joined(datagrams)) for path, datagrams in outgoing]


class KnownPaths:
    """`Paths` for a test without a wire: on whatever path, `peers` are there."""

    def __init__(self, *peers: PeerId) -> None:
        self._peers = frozenset(peers)
        self._numbers = Numbers()

    def remote(self, path: PathId) -> Remote:
        try:
            return self._numbers.remote(path)
        except KeyError:
            return Remote(address_at(path % 256), PORT)

    def path_to(self, remote: Remote) -> PathId:
        return self._numbers.number(remote)

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        return self._peers


def _joined(datagrams: Iterable[Sequence[Buffer]]) -> list[bytes]:
    return [b"".join(bytes(piece) for piece in datagram) for datagram in datagrams]


def pass_time(wire: Wire, done: Callable[[], bool], seconds: float = TALK_S) -> None:
    """Move the clock from deadline to deadline until it is done or the time is over."""
    end = wire.now + seconds
    while not done():
        deadlines = [one.deadline for one in wire.ends.values()]
        due = [one for one in deadlines if one is not None]
        if not due or min(due) > end:
            return
        wire.now = max(wire.now, min(due))
        for one in wire.ends.values():
            one.tick()
