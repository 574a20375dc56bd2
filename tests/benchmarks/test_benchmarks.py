"""Each benchmark in its quick form: it ends, gives its figures, and what it counted is what was moved. No test here
looks at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 110
TULLE = "udp, python engine"
WAYS = ("kernel routes", "kernel VXLAN", TULLE)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S)


def quick(name: str) -> dict[str, Any]:
    """What one benchmark reports; every figure has a positive value of each subject."""
    done = run(name, "--quick", "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"cpu", "cores", "kernel"} <= report["machine"].keys()
    assert {"python", "tulle", "iperf3"} <= report["versions"].keys()
    assert report["quick"] is True
    found: dict[str, Any] = report["benchmarks"][name]
    assert found["figures"]
    for figure in found["figures"]:
        for subject in figure["subjects"].values():
            assert len(subject["rounds"]) >= 1
            assert subject["median"] > 0
    return found


def subjects(found: dict[str, Any], figure: str) -> set[str]:
    return next(set(one["subjects"]) for one in found["figures"] if one["name"] == figure)


@pytest.mark.lab
def test_dataplane_compares_three_ways_in_one_run() -> None:
    found = quick("dataplane")
    for figure in ("TCP, 1 stream", "TCP, 4 streams", "64-byte UDP", "RTT p50"):
        assert subjects(found, figure) == set(WAYS)
    assert subjects(found, "processes' CPU") == {TULLE}
    check_moved(found["counts"], WAYS)


@pytest.mark.lab
def test_encrypted_compares_wireguard_go_and_ours_in_one_run() -> None:
    found = quick("encrypted")
    ways = ("wireguard-go", "wireguard, python engine")
    for figure in ("TCP, 1 stream", "TCP, 4 streams", "64-byte UDP", "RTT p50", "processes' CPU"):
        assert subjects(found, figure) == set(ways)
    assert subjects(found, "handshakes") == {ways[1]}
    check_moved(found["counts"], ways)


def check_moved(counts: dict[str, int], ways: tuple[str, ...]) -> None:
    for way in ways:
        assert counts[f"{way}: round trips"] == 100
        assert counts[f"{way}: TCP bytes sent"] >= 2 * (16 << 20)
        # iperf3's receiver stops counting when its sender says that it is done.
        assert 0 < counts[f"{way}: TCP bytes received"] <= counts[f"{way}: TCP bytes sent"]
        assert 0 < counts[f"{way}: UDP received"] <= counts[f"{way}: UDP sent"]
        assert counts[f"{way}: UDP sent"] >= 3000


def test_engine_moves_every_packet_of_each_batch() -> None:
    found = quick("engine")
    assert len(found["figures"]) == 4
    assert set(found["counts"].values()) == {5 * 64}
    assert len(found["counts"]) == 8


@pytest.mark.etcd
def test_leases_finds_every_node_in_both_stores() -> None:
    found = quick("leases")
    steps = ("listed", "in the peer table", "with member records", "first peers of a new node")
    assert found["counts"] == {f"{store}: {step}": 500 for store in ("etcd", "sqlite") for step in steps}
    for store in ("etcd", "sqlite"):
        assert (
            subjects(found, f"{store}, 500 nodes")
            == subjects(found, f"{store}, own processor time")
            == set(steps)
        )


def test_peers_has_the_forwarder_take_all_of_them() -> None:
    found = quick("peers")
    assert found["counts"] == {"peers applied": 1000}
    assert subjects(found, "state") == {"decoding alone", "the whole state", "one peer changed"}


@pytest.mark.etcd
def test_control_sees_every_node_and_every_change() -> None:
    found = quick("control")
    assert subjects(found, "first table") == {"300 peers"}
    assert found["counts"]["300 peers: found"] == 300
    assert found["counts"]["300 peers: changed"] == 60


def test_lookup_finds_the_right_prefix_for_every_address() -> None:
    found = quick("lookup")
    assert len(found["figures"]) == 5
    sizes = {"1 prefix", "100 prefixes", "1000 prefixes"}
    assert all(set(one["subjects"]) == sizes for one in found["figures"])
    assert len(found["counts"]) == 9
    assert set(found["counts"].values()) == {500}


@pytest.mark.lab
@pytest.mark.etcd
def test_start_counts_every_packet_of_its_floods() -> None:
    found = quick("start")
    assert subjects(found, "tulled ready") == {
        "imports alone",
        "after SIGTERM",
        "after SIGKILL",
        "forwarder killed too",
    }
    assert subjects(found, "memory") == {"forwarder", "tulled"}
    counts = found["counts"]
    for flood in ("undisturbed", "sender's forwarder killed", "receiver's forwarder killed"):
        assert counts[f"{flood}: sent"] == 5000
        assert counts[f"{flood}: received"] + counts[f"{flood}: lost"] == 5000
        assert counts[f"{flood}: received"] > 0


def test_micro_measures_each_hot_function() -> None:
    found = quick("micro")
    assert found["counts"] == {"functions": len(found["figures"])}
    assert len(found["figures"]) >= 15


def test_text_shows_machine_figures_and_ratios() -> None:
    done = run("engine", "--quick")
    assert done.returncode == 0, done.stderr
    machine, versions, *rest = done.stdout.splitlines()
    assert machine.startswith("machine: cpu ")
    assert versions.startswith("versions: python ")
    assert "== engine: How much of the python engine's time is Python?" in rest
    assert any(line.split()[:4] == ["system", "calls", "alone", "1x"] for line in rest)


def test_a_benchmark_that_is_not_there_is_named_beside_those_that_are() -> None:
    done = run("warp", "--quick")
    assert done.returncode == 2
    assert "there is no benchmark warp; these are: dataplane, " in done.stderr
    assert done.stdout == ""


def test_no_rounds_are_refused() -> None:
    done = run("engine", "--rounds", "0")
    assert done.returncode == 2
    assert "--rounds 0: give at least 1" in done.stderr


@pytest.mark.lab
def test_handover_loses_no_packet_of_its_floods() -> None:
    found = quick("handover")
    assert subjects(found, "longest silence of a flood") == {"undisturbed", "hand-over"}
    assert subjects(found, "pause that tulled tells") == {"hand-over"}
    for subject in ("undisturbed", "hand-over"):
        for way in ("out", "in"):
            assert found["counts"][f"{subject}, {way}: sent"] == 2 * 1600
            assert found["counts"][f"{subject}, {way}: lost"] == 0
