"""What Prometheus reads: clean to promtool, documented, and all that dashboard and alarms ask for exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.node.answers import StatusAnswer
from tulle.node.metrics import FAMILIES, Metrics, Sample, markdown, samples_of

ROOT = Path(__file__).parents[3]
PACKAGING = ROOT / "packaging" / "prometheus"
FETCH = "run packaging/prometheus/fetch.sh"
PROMTOOL = next(
    (str(one) for one in (ROOT / ".cache/prometheus/bin/promtool",) if one.exists()), shutil.which("promtool")
)
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=f"promtool is not here: {FETCH}")

NASTY = 'n"2\\\n'
"""A node's name is checked by its own tulled; what is in the store may be anything."""
STATUS: dict[str, Any] = {
    "node": "n1",
    "version": "0.1.0",
    "ready": True,
    "not_ready_because": [],
    "store": {
        "name": "etcd",
        "location": "http://192.0.2.254:2379",
        "single_machine": False,
        "by_default": False,
        "prefix": "/coreos.com/network",
        "state": "connected",
        "since": 1.7e9,
        "latency_s": 0.002,
        "endpoint": "http://192.0.2.254:2379",
        "server_version": "3.5",
        "outages": 3,
        "last_error": "",
        "lease": {"key": "k", "prefixes": [], "reserved": False, "confirmed_s_ago": 12.5, "lost": False},
    },
    "networks": [],
    "subnets": [],
    "underlay": {},
    "backend": {},
    "dataplane": {
        "engine": "python",
        "forwarder_pid": 7,
        "forwarder_restarts": 2,
        "generation_wanted": 9,
        "generation_applied": 8,
        "counters": {
            "packets-out": 10,
            "bytes-out": 1000,
            "packets-in": 20,
            "bytes-in": 2000,
            "drop-source": 5,
            "drop-no-route": 6,
        },
    },
    "components": {},
    "peers": [
        {
            "key": "10.42.2.0-24",
            "node": NASTY,
            "subnets": [],
            "endpoints": [],
            "backend": "udp",
            "traffic": {
                "packets_out": 1,
                "bytes_out": 2,
                "packets_in": 3,
                "bytes_in": 4,
                "last_seen_s_ago": 0.5,
            },
        },
        {"key": "10.42.3.0-24", "node": "n3", "subnets": [], "endpoints": [], "backend": "", "traffic": {}},
    ],
    "peer_count": 2,
    "problems": [{"code": "a", "subject": "b", "message": "c"}],
    "mended": [],
    "mends": 4,
}


def text(**other: Any) -> str:
    status = msgspec.convert({**STATUS, **other}, StatusAnswer)
    metrics = Metrics(lambda: status)
    for seconds in (0.0005, 0.003, 0.003, 50.0):
        metrics.reconciled(seconds)
    return metrics.text().decode()


def test_each_figure_of_the_status_is_there() -> None:
    lines = text().splitlines()
    for line in (
        'tulle_build_info{node="n1",version="0.1.0"} 1.0',
        "tulle_ready 1.0",
        "tulle_peers 2.0",
        "tulle_problems 1.0",
        "tulle_mends_total 4.0",
        "tulle_store_up 1.0",
        "tulle_store_latency_seconds 0.002",
        "tulle_store_outages_total 3.0",
        "tulle_lease_confirmed_age_seconds 12.5",
        'tulle_packets_total{direction="in"} 20.0',
        'tulle_bytes_total{direction="out"} 1000.0',
        'tulle_drops_total{reason="source"} 5.0',
        "tulle_generation_lag 1.0",
        "tulle_forwarder_up 1.0",
        "tulle_forwarder_restarts_total 2.0",
        'tulle_peer_packets_total{direction="out",node="n\\"2\\\\\\n",peer="10.42.2.0-24"} 1.0',
        'tulle_peer_last_seen_seconds{node="n\\"2\\\\\\n",peer="10.42.2.0-24"} 0.5',
        'tulle_reconcile_seconds_bucket{le="0.001"} 1.0',
        'tulle_reconcile_seconds_bucket{le="0.005"} 3.0',
        'tulle_reconcile_seconds_bucket{le="+Inf"} 4.0',
        "tulle_reconcile_seconds_count 4.0",
    ):
        assert line in lines
    assert not any("10.42.3.0-24" in line and "last_seen" in line for line in lines)  # never seen: no figure


def test_planes_are_one_data_path_and_the_worst_of_them_says_how_it_is() -> None:
    second = {"engine": "python", "forwarder_pid": 0, "forwarder_restarts": 1, "generation_wanted": 4}
    second |= {"generation_applied": 1, "counters": {"packets-out": 5, "drop-source": 1}}
    alone = samples_of(msgspec.convert(STATUS, StatusAnswer))
    both = samples_of(msgspec.convert({**STATUS, "second_dataplanes": {"v6": second}}, StatusAnswer))

    def value(found: Mapping[str, list[Sample]], name: str, *labels: str) -> float:
        return dict(found[name]).get(labels, 0.0)

    for name, labels, more in (("tulle_packets", ("out",), 5), ("tulle_drops", ("source",), 1)):
        assert value(both, name, *labels) == value(alone, name, *labels) + more
    assert value(both, "tulle_generation_lag") == 3
    assert (value(alone, "tulle_forwarder_up"), value(both, "tulle_forwarder_up")) == (1, 0)
    assert value(both, "tulle_forwarder_restarts") == value(alone, "tulle_forwarder_restarts") + 1


def test_a_node_that_has_not_begun_has_no_figures_of_a_data_path() -> None:
    found = text(dataplane={}, peers=[], ready=False)
    assert "tulle_ready 0.0" in found
    assert "tulle_packets_total" not in found


@needs_promtool
@pytest.mark.parametrize("other", [{}, {"dataplane": {}, "peers": []}])
def test_promtool_finds_nothing_to_say(other: dict[str, Any]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=text(**other), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_takes_the_alarms() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(PACKAGING / "alerts.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_in_the_document_and_the_document_is_up_to_date() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == markdown(), "run `make docs`"
    for line in text().splitlines():
        if line.startswith("# TYPE"):
            assert f"| `{line.split()[2]}` |" in markdown()


# --- what reads them ---------------------------------------------------------------------------------------------

NAME = re.compile(r"\btulle_[a-z_]+\b")
SELECTED = re.compile(r"\b(tulle_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r"([a-z]+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
FROM_PROMETHEUS = {"instance", "job", "le"}


def exposed() -> dict[str, set[str]]:
    """Names as Prometheus has them, with their labels."""
    found = {one.exposed: set(one.labels) for one in FAMILIES.values()}
    for one in FAMILIES.values():
        if one.kind == "histogram":
            found |= {f"{one.name}_{suffix}": {"le"} for suffix in ("bucket", "sum", "count")}
    return found


def dashboard() -> Any:
    return json.loads((PACKAGING / "dashboard.json").read_text())


def expressions() -> Iterator[str]:
    board = dashboard()
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])
    yield from (one["query"] for one in board["templating"]["list"] if one["type"] == "query")
    yield from re.findall(r"^\s+expr: (.*)$", (PACKAGING / "alerts.yml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("expression", list(expressions()))
def test_dashboard_and_alarms_ask_for_what_there_is(expression: str) -> None:
    there = exposed()
    names = NAME.findall(expression)
    assert names
    assert set(names) <= there.keys()
    labels = set().union(*(there[name] for name in names)) | FROM_PROMETHEUS
    for name, selector in SELECTED.findall(expression):
        assert set(LABEL.findall(selector)) <= there[name] | FROM_PROMETHEUS
    for group in GROUPED.findall(expression):
        assert {one.strip() for one in group.split(",")} <= labels


def test_the_dashboard_shows_every_metric_and_its_panels_do_not_overlap() -> None:
    shown = {name for expression in expressions() for name in NAME.findall(expression)}
    for one in FAMILIES.values():
        names = {one.exposed} | ({f"{one.name}_bucket"} if one.kind == "histogram" else set())
        assert shown & names, f"{one.name} is nowhere"
    squares = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in dashboard()["panels"])
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(x for x, _ in squares) < 24  # Grafana's grid
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


@needs_promtool
@pytest.mark.parametrize("expression", [one for one in expressions() if "label_values" not in one])
def test_prometheus_can_parse_what_is_asked(expression: str, tmp_path: Path) -> None:
    """As a recording rule: that is what promtool can check."""
    whole = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
    rules = {"groups": [{"name": "g", "rules": [{"record": "tulle:x", "expr": whole}]}]}
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps(rules))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
