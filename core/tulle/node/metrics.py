"""What Prometheus reads. Made from the node's status when it is asked for: nothing is counted twice, nothing a packet.

Names are a promise. `FAMILIES` is all of them; docs/metrics.md is made from it by `python -m tulle.node.metrics FILE`
(`make docs`).
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tulle.node.answers import DataplaneAnswer, PeerAnswer, StatusAnswer, StoreAnswer, drops_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RECONCILE_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, inf)
"""Upper bounds."""
RECONCILE = "tulle_reconcile_seconds"

Snapshot = Callable[[], StatusAnswer]
Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""


class Family(msgspec.Struct, frozen=True):
    """One name of ours."""

    name: str
    """Counters without "_total", the info without "_info", as prometheus_client wants them."""
    kind: Literal["gauge", "counter", "info", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """As Prometheus sees it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


PEER = ("peer", "node")
"""The peer's lease key, which is unique, and its name."""

FAMILIES = {
    one.name: one
    for one in (
        Family("tulle_build", "info", "Version and node.", ("version", "node")),
        Family("tulle_ready", "gauge", "1 when packets are carried and subnet.env is there."),
        Family("tulle_peers", "gauge", "Other nodes."),
        Family("tulle_problems", "gauge", "Things that do not work now; tulle status says which."),
        Family("tulle_mends", "counter", "Things that others changed and that were put right."),
        Family(RECONCILE, "histogram", "Time to bring backend and kernel to a new set of peers."),
        Family("tulle_store_up", "gauge", "1 while the store answers."),
        Family("tulle_store_latency_seconds", "gauge", "Of the last answer to a health question."),
        Family("tulle_store_outages", "counter", "How often the store went away."),
        Family("tulle_lease_confirmed_age_seconds", "gauge", "Since the store last confirmed our lease."),
        Family("tulle_packets", "counter", "Inner packets carried.", ("direction",)),
        Family("tulle_bytes", "counter", "Bytes of inner packets carried.", ("direction",)),
        Family("tulle_drops", "counter", "Packets dropped, by reason.", ("reason",)),
        Family("tulle_generation_lag", "gauge", "States that the forwarder is behind; 0 is right."),
        Family("tulle_forwarder_up", "gauge", "1 while a forwarder runs."),
        Family("tulle_forwarder_restarts", "counter", "Forwarders that had to be replaced."),
        Family("tulle_peer_packets", "counter", "Inner packets by peer.", (*PEER, "direction")),
        Family("tulle_peer_bytes", "counter", "Bytes of inner packets by peer.", (*PEER, "direction")),
        Family("tulle_peer_last_seen_seconds", "gauge", "Since the peer's last packet.", PEER),
    )
}


class Metrics(Collector):
    """`snapshot` gives what `tulle status` shows."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._counts = [0] * len(RECONCILE_BUCKETS_S)
        """Of reconciles, by the bucket that they fall into."""
        self._spent_s = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def reconciled(self, seconds: float) -> None:
        self._counts[bisect_left(RECONCILE_BUCKETS_S, seconds)] += 1
        self._spent_s += seconds

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing is asked at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        for name, samples in samples_of(self._snapshot()).items():
            yield _metric(FAMILIES[name], samples)
        buckets = zip(map(floatToGoString, RECONCILE_BUCKETS_S), accumulate(self._counts), strict=True)
        yield HistogramMetricFamily(
            RECONCILE, FAMILIES[RECONCILE].help, buckets=list(buckets), sum_value=self._spent_s
        )


def samples_of(status: StatusAnswer) -> Mapping[str, list[Sample]]:
    """By family; the histogram keeps itself."""
    found: dict[str, list[Sample]] = {
        "tulle_build": [((status.version, status.node), 1.0)],
        "tulle_ready": _one(status.ready),
        "tulle_peers": _one(status.peer_count),
        "tulle_problems": _one(len(status.problems)),
        "tulle_mends": _one(status.mends),
        **_store(status.store),
    }
    planes = [one for one in (status.dataplane, *status.second_dataplanes.values()) if one.engine]
    return found | _dataplane(planes) | _peers(status.peers) if planes else found


def _store(store: StoreAnswer) -> dict[str, list[Sample]]:
    lease = store.lease
    return {
        "tulle_store_up": _one(store.state == "connected"),
        "tulle_store_latency_seconds": _one(store.latency_s),
        "tulle_store_outages": _one(store.outages),
        "tulle_lease_confirmed_age_seconds": [] if lease is None else _one(lease.confirmed_s_ago),
    }


def _dataplane(planes: Sequence[DataplaneAnswer]) -> dict[str, list[Sample]]:
    """Of all planes together; of lag and life that of the worst."""
    counters: Counter[str] = Counter()
    for plane in planes:
        counters.update(plane.counters)

    def both(what: str) -> list[Sample]:
        return [((way,), counters[f"{what}-{way}"]) for way in ("in", "out")]

    return {
        "tulle_packets": both("packets"),
        "tulle_bytes": both("bytes"),
        "tulle_drops": [((reason,), count) for reason, count in drops_of(counters).items()],
        "tulle_generation_lag": _one(max(one.generation_wanted - one.generation_applied for one in planes)),
        "tulle_forwarder_up": _one(all(one.forwarder_pid for one in planes)),
        "tulle_forwarder_restarts": _one(sum(one.forwarder_restarts for one in planes)),
    }


def _peers(peers: list[PeerAnswer]) -> dict[str, list[Sample]]:
    packets: list[Sample] = []
    size: list[Sample] = []
    seen: list[Sample] = []
    for one in peers:
        traffic = one.traffic
        if traffic is None:
            continue
        peer = (one.key, one.node)
        packets += [((*peer, "in"), traffic.packets_in), ((*peer, "out"), traffic.packets_out)]
        size += [((*peer, "in"), traffic.bytes_in), ((*peer, "out"), traffic.bytes_out)]
        if traffic.last_seen_s_ago is not None:
            seen.append((peer, traffic.last_seen_s_ago))
    return {"tulle_peer_packets": packets, "tulle_peer_bytes": size, "tulle_peer_last_seen_seconds": seen}


def _one(value: float) -> list[Sample]:
    return [((), float(value))]


def _metric(family: Family, samples: list[Sample]) -> Metric:
    if family.kind == "info":
        made = InfoMetricFamily(family.name, family.help)
        for labels, _ in samples:
            made.add_metric([], dict(zip(family.labels, labels, strict=True)))
        return made
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


INTRODUCTION = """# Metrics

`tulled --healthz-port PORT` serves these at `/metrics`, beside `/healthz` and `/readyz`. Anybody who reaches the port
may read them. Those of the data path are there once the backend has a forwarder; all counters of packets begin anew
with a new forwarder. `packaging/prometheus/` has a Grafana dashboard of them and alarms.

This file is made from the code by `make docs`.

| name | type | labels | |
|---|---|---|---|
"""


def markdown() -> str:
    """docs/metrics.md."""
    return INTRODUCTION + "".join(
        f"| `{one.exposed}` | {one.kind} | {', '.join(one.labels)} | {one.help} |\n"
        for one in FAMILIES.values()
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown())
