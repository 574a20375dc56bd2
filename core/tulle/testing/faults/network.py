"""A simulated network of datagrams: it loses, delays, reorders, duplicates, is parted and translates addresses.

    network = Network(seed=7, weather=Weather(delay_s=0.02, loss=0.1))
    network.send(now, Address("10.0.0.1", 8285), Address("10.0.0.2", 8285), b"hello")
    for datagram in network.deliver(network.next_arrival()): ...

Sans-I/O: the caller says what time it is and hands each datagram to its receiver. The same seed and the same calls
give the same network, on every machine.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from tulle.testing.faults.line import CALM, Line, Weather
from tulle.testing.faults.nat import Address, Nat

__all__ = ["Address", "Datagram", "Nat", "Network", "Weather"]


class Datagram(NamedTuple):
    """As its receiver sees it."""

    source: Address
    destination: Address
    payload: bytes


class Network:
    """See the module. Hosts need not be announced: any text is a host's address."""

    def __init__(self, seed: int, weather: Weather = CALM) -> None:
        self.counters: Counter[str] = Counter()
        """sent, delivered, lost, duplicated, parted (a partition was in the way), untranslated (no NAT mapping)."""
        self._seed = seed
        self._weather = weather
        self._lines: dict[tuple[str, str], Line] = {}
        self._nats: list[Nat] = []
        self._parted: list[tuple[frozenset[str], frozenset[str]]] = []
        self._air: list[tuple[float, int, Datagram, tuple[str, str]]] = []
        self._number = 0

    # Faults

    def set_weather(
        self, weather: Weather, source: str | None = None, destination: str | None = None
    ) -> None:
        """From now on; of the lines from `source` to `destination`, where None is every host."""
        if source is None and destination is None:
            self._weather = weather
            for line in self._lines.values():
                line.weather = weather
            return
        if source is None or destination is None:
            raise ValueError("name both ends of the line, or neither")
        self._line(source, destination).weather = weather

    def partition(self, one: Collection[str], other: Collection[str]) -> None:
        """Nothing passes between these hosts, both ways; what is under way is lost too."""
        self.block(one, other)
        self.block(other, one)

    def block(self, sources: Collection[str], destinations: Collection[str]) -> None:
        """The same in one direction only."""
        self._parted.append((frozenset(sources), frozenset(destinations)))

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._parted.clear()

    def add_nat(
        self, public: str, inside: Collection[str], *, strict: bool = True, idle_s: float = 30.0
    ) -> Nat:
        """These hosts send by that address from now on. See `Nat`, which has the faults of its own."""
        nat = Nat(public, inside, strict=strict, idle_s=idle_s)
        self._nats.append(nat)
        return nat

    # Traffic

    def send(self, now: float, source: Address, destination: Address, payload: bytes) -> None:
        """What has been sent before `now` and has not arrived by then is under way: call `deliver` first."""
        self.counters["sent"] += 1
        hosts = (source.host, destination.host)
        for nat in self._nats:
            if source.host in nat.inside and destination.host not in nat.inside:
                source = nat.outward(now, source, destination)
        if self._is_parted(*hosts):
            self.counters["parted"] += 1
            return
        arrivals = self._line(*hosts).arrivals(now)
        self.counters["lost"] += not arrivals
        self.counters["duplicated"] += len(arrivals) > 1
        for moment in arrivals:
            self._number += 1
            datagram = Datagram(source, destination, payload)
            heapq.heappush(self._air, (moment, self._number, datagram, hosts))

    def next_arrival(self) -> float | None:
        """When `deliver` will have something; None where nothing is under way."""
        return self._air[0][0] if self._air else None

    def deliver(self, now: float) -> list[Datagram]:
        """What arrives by `now`, in order, with the addresses that its receivers see."""
        arrived = []
        while self._air and self._air[0][0] <= now:
            moment, _, datagram, hosts = heapq.heappop(self._air)
            found = self._arrive(moment, datagram, hosts)
            if found is not None:
                self.counters["delivered"] += 1
                arrived.append(found)
        return arrived

    def _arrive(self, moment: float, datagram: Datagram, hosts: tuple[str, str]) -> Datagram | None:
        destination: Address | None = datagram.destination
        for nat in self._nats:
            if datagram.destination.host == nat.public:
                destination = nat.inward(moment, datagram.source, datagram.destination)
        if destination is None:
            self.counters["untranslated"] += 1
            return None
        if self._is_parted(hosts[0], destination.host):
            self.counters["parted"] += 1
            return None
        return datagram._replace(destination=destination)

    def _is_parted(self, source: str, destination: str) -> bool:
        return any(source in one and destination in other for one, other in self._parted)

    def _line(self, source: str, destination: str) -> Line:
        key = (source, destination)
        if key not in self._lines:
            # Each line has a chance of its own: traffic on one changes nothing on another.
            rng = random.Random(f"{self._seed} {source} {destination}")
            self._lines[key] = Line(self._weather, rng)
        return self._lines[key]
