"""What a client costs while its store is away, how soon it uses it again, and what it says: a program with a mirror and
a kept record, against a real etcd behind a line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from tulle.testing.etcd import EtcdServer
from tulle.testing.faults.processes import cpu_s, frozen
from tulle.testing.faults.storeclient import Report, StoreProcess

pytestmark = pytest.mark.etcd

FACTORY = "tulle_etcd.store:open_store"
BACK_S = 5.0
NOTICED_S = 15.0
CPU_SHARE = 0.05
"""Of one core, while the store is away."""
Say = Callable[[str, object], None]


def settled(report: Report) -> bool:
    return report.connected and "n1" in report.nodes and report.renewed_s < 2


@pytest.fixture
def client(etcd: EtcdServer, tmp_path: Path) -> Iterator[StoreProcess]:
    with StoreProcess(FACTORY, {"etcd-endpoints": etcd.endpoints}, "n1", tmp_path / "log") as made:
        made.until(settled, 20)
        yield made


@contextmanager
def killed(etcd: EtcdServer) -> Iterator[None]:
    etcd.kill()
    yield
    etcd.start()


@contextmanager
def suspended(etcd: EtcdServer) -> Iterator[None]:
    with frozen(etcd.pid):
        yield


@pytest.mark.parametrize(
    "away_s", [pytest.param(3.0), pytest.param(150.0, marks=[pytest.mark.soak, pytest.mark.timeout(400)])]
)
@pytest.mark.parametrize("gone", [killed, pytest.param(suspended, marks=pytest.mark.soak)])
def test_while_the_store_is_away_a_client_is_quiet_and_uses_it_again_soon(
    etcd: EtcdServer,
    client: StoreProcess,
    gone: Callable[[EtcdServer], AbstractContextManager[None]],
    away_s: float,
    say: Say,
) -> None:
    with gone(etcd):
        client.until(lambda report: not report.connected, NOTICED_S)
        assert "n1" in client.report().nodes, "what is known stays in use"
        used, start = cpu_s(client.pid), time.monotonic()
        time.sleep(away_s)
        share = (cpu_s(client.pid) - used) / (time.monotonic() - start)
    took = client.until(settled, BACK_S)
    say("share of a core while away", f"{share:.3f}")
    say("seconds from the return to use", f"{took:.2f}")
    assert share < CPU_SHARE
    assert len(client.lines("store-lost:")) == 1
    assert len(client.lines("store-back:")) == 1
    assert len(client.lines("store-away:")) in (away_s // 60, away_s // 60 + 1)
    assert len(client.lines()) <= 3 + away_s // 60 + 1


RECONNECTS = """
import asyncio, os, random, sys
from tulle.store.clock import SystemClock
from tulle.store.mirror import Mirror
from tulle.testing.faults.processes import resident_bytes
from tulle.testing.faults.storeclient import PREFIX
from tulle.testing.relay import Relay
from tulle_etcd.store import open_store

class Hasty(SystemClock):
    async def sleep(self, seconds):  # what is tried is the reconnecting and not the waiting
        await asyncio.sleep(0)

async def main(port, times):
    async with Relay(port) as line:
        store = open_store({"etcd-endpoints": [f"http://127.0.0.1:{line.port}"]})
        mirror = Mirror(store, PREFIX, lambda kv: "", clock=Hasty(), rng=random.Random(1))
        running = asyncio.create_task(mirror.run())
        for number in range(times + 1):
            while not (mirror.connected and mirror.status().reconnects == number):
                await asyncio.sleep(0.001)
            if number in (times // 3, times):
                print(resident_bytes(os.getpid()), len(os.listdir("/proc/self/fd")), flush=True)
            line.drop()
        running.cancel()
        await asyncio.wait({running})
        await store.close()

asyncio.run(main(*map(int, sys.argv[1:])))
"""
GROWTH_BYTES = 2 << 20
"""gRPC's arenas grow by a page or two now and then; 300 connections that were kept would be 10 MB."""


@pytest.mark.parametrize(
    "times", [pytest.param(300), pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_memory_and_descriptors_are_steady_over_reconnects(
    etcd: EtcdServer, times: int, tmp_path: Path, say: Say
) -> None:
    command = [sys.executable, "-c", RECONNECTS, str(etcd.client_port), str(times)]
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(command, stdout=PIPE, stderr=log, text=True, timeout=3000, check=True)
    (early, early_files), (late, late_files) = (
        tuple(map(int, line.split())) for line in done.stdout.splitlines()
    )
    say("MB after a third", f"{early / 1e6:.2f}")
    say("MB at the end", f"{late / 1e6:.2f}")
    assert late - early < GROWTH_BYTES
    assert late_files <= early_files + 2
    said = (tmp_path / "log").read_text().splitlines()
    assert len(said) <= 6 + times // 60, "a store that comes and goes fills the log"
