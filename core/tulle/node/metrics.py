"""What Prometheus reads. Made from the node's status when it is asked for: nothing is counted twice, nothing a packet.

Names are a promise; docs/operators.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
RECONCILE_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
DROP = "drop-"

Snapshot = Callable[[], dict[str, Any]]


class Metrics:
    """`snapshot` gives what `tulle status -o json` shows."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._registry = CollectorRegistry()
        self._reconcile = Histogram(
            "tulle_reconcile_seconds",
            "How long it took to bring backend and kernel to a new set of peers.",
            buckets=RECONCILE_BUCKETS_S,
            registry=self._registry,
        )
        self._registry.register(_StatusCollector(snapshot))

    def reconciled(self, seconds: float) -> None:
        self._reconcile.observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


class _StatusCollector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing is asked at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._snapshot()
        yield InfoMetricFamily(
            "tulle_build", "Version.", {"version": status["version"], "node": status["node"]}
        )
        yield _gauge("tulle_ready", "1 when packets are carried and subnet.env is there.", status["ready"])
        yield _gauge("tulle_peers", "Other nodes.", len(status["peers"]))
        yield _gauge("tulle_problems", "Things that do not work now.", len(status["problems"]))
        yield _counter(
            "tulle_mends", "Things that were put right after others changed them.", status["mends"]
        )
        yield from _store(status["store"])
        yield from _dataplane(status["dataplane"])


def _store(store: dict[str, Any]) -> Iterator[Metric]:
    yield _gauge("tulle_store_up", "1 while the store answers.", store.get("state") == "connected")
    yield _gauge("tulle_store_latency_seconds", "Of the last health question.", store.get("latency_s", 0.0))
    yield _counter("tulle_store_outages", "How often the store went away.", store.get("outages", 0))
    lease = store.get("lease")
    if lease:
        age = "Seconds since the store last confirmed our lease."
        yield _gauge("tulle_lease_confirmed_age_seconds", age, lease["confirmed_s_ago"])


def _dataplane(plane: dict[str, Any]) -> Iterator[Metric]:
    if not plane:
        return
    counters = plane["counters"]
    packets = CounterMetricFamily("tulle_packets", "Inner packets carried.", labels=["direction"])
    size = CounterMetricFamily("tulle_bytes", "Bytes of inner packets carried.", labels=["direction"])
    for direction in ("in", "out"):
        packets.add_metric([direction], counters.get(f"packets-{direction}", 0))
        size.add_metric([direction], counters.get(f"bytes-{direction}", 0))
    drops = CounterMetricFamily("tulle_drops", "Packets that were dropped, by reason.", labels=["reason"])
    for name, value in sorted(counters.items()):
        if name.startswith(DROP):
            drops.add_metric([name.removeprefix(DROP)], value)
    yield from (packets, size, drops)
    lag = plane["generation_wanted"] - plane["generation_applied"]
    yield _gauge("tulle_generation_lag", "States the forwarder is behind; 0 is right.", lag)
    yield _gauge("tulle_forwarder_up", "1 while a forwarder runs.", bool(plane["forwarder_pid"]))
    yield _counter(
        "tulle_forwarder_restarts", "Forwarders that had to be replaced.", plane["forwarder_restarts"]
    )
    yield from _peers(plane["peers"])


def _peers(peers: dict[str, dict[str, float]]) -> Iterator[Metric]:
    packets = CounterMetricFamily("tulle_peer_packets", "By peer.", labels=["peer", "direction"])
    size = CounterMetricFamily("tulle_peer_bytes", "By peer.", labels=["peer", "direction"])
    seen = GaugeMetricFamily("tulle_peer_last_seen_seconds", "Since its last packet.", labels=["peer"])
    for key, one in peers.items():
        for direction in ("in", "out"):
            packets.add_metric([key, direction], one[f"packets-{direction}"])
            size.add_metric([key, direction], one[f"bytes-{direction}"])
        if "last-seen" in one:
            seen.add_metric([key], one["last-seen"])
    yield from (packets, size, seen)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))
