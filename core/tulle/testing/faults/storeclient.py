"""A client of a store as tulled is one: a mirror of a prefix and a set of records that is kept, in one log of outages.

    async with StoreClient(store, "n1", ttl_s=5) as n1:             in this process
    with StoreProcess("tulle_etcd.store:open_store", settings, "n1", log) as n1:   in one of its own, to be measured

The program takes an empty line on its standard input, answers with a `Report` as JSON, and ends with that input.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from tulle.contracts.specs import load
from tulle.contracts.store import KeyValue, Store
from tulle.store.clock import SystemClock
from tulle.store.mirror import Mirror
from tulle.store.publisher import Publisher, RecordSet
from tulle.store.retry import OutageLog

PREFIX = "/faults/nodes/"
ANSWER_S = 20.0
_POLL_S = 0.02
_log = logging.getLogger("tulle.testing.storeclient")


class Report(msgspec.Struct, frozen=True):
    """How it stands with a client."""

    connected: bool
    """Whether its watch stands."""
    nodes: Mapping[str, str]
    """The names and values that it knows, also while the store is away."""
    reconnects: int
    relists: int
    renewed_s: float
    """Since the store last confirmed our record."""
    lost: bool
    """Another has taken our record."""


class StoreClient:
    """See the module. Keeps PREFIX + name = value; closes the store at the end, and leaves the record to run out."""

    def __init__(
        self, store: Store, name: str, *, value: str = "", ttl_s: int = 30, renew_s: float = 1.0
    ) -> None:
        clock, rng = SystemClock(), random.Random(name)
        outages = OutageLog(_log, f"{store.name} at {store.location}", clock)
        self.mirror: Mirror[str] = Mirror(store, PREFIX, _decode, clock=clock, rng=rng, outages=outages)
        self.publisher = Publisher(store, clock=clock, rng=rng, outages=outages)
        self.kept: RecordSet | None = None
        self._store = store
        self._put = {"wanted": {PREFIX + name: value.encode()}, "ttl_s": ttl_s, "renew_s": renew_s}
        self._name = name
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """At once: the record is written as soon as the store is there."""
        for work in (self.mirror.run(), self.publisher.run(), self._publish()):
            self._tasks.append(asyncio.create_task(work))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    def report(self) -> Report:
        status = self.mirror.status()
        return Report(
            connected=self.mirror.connected,
            nodes={key.removeprefix(PREFIX): item.value or "" for key, item in self.mirror.items.items()},
            reconnects=status.reconnects,
            relists=status.relists,
            renewed_s=self._clock.now() - self.kept.renewed if self.kept else float("inf"),
            lost=self.kept is not None and self.kept.lost.is_set(),
        )

    async def until(self, wanted: Callable[[Report], bool], within_s: float) -> float:
        """Seconds until its report is so. Raises TimeoutError with the last one, and what has ended the client."""
        start = time.monotonic()
        while not wanted(self.report()):
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() - start > within_s:
                raise TimeoutError(f"not within {within_s:g} s: {self.report()}")
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - start

    async def _publish(self) -> None:
        self.kept = await self.publisher.put(self._name, **self._put)  # type: ignore[arg-type]


class StoreProcess:
    """See the module. `factory` is that of the plugin's StoreSpec; `log` gets what the program logs."""

    def __init__(self, factory: str, settings: Mapping[str, Any], name: str, log: Path) -> None:
        self._arguments = [factory, json.dumps(settings), name]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tulle.testing.faults.storeclient", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            try:
                self._process.communicate(timeout=ANSWER_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()

    @property
    def pid(self) -> int:
        assert self._process is not None, "not entered"
        return self._process.pid

    def report(self) -> Report:
        """Raises RuntimeError, with the end of its log, where it does not answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        out = self._process.stdout
        assert out is not None
        print(file=self._process.stdin, flush=True)
        line = out.readline() if select.select([out], [], [], ANSWER_S)[0] else ""
        if not line:
            raise RuntimeError(f"the store client does not answer; its log:\n{self._log.read_text()}")
        return msgspec.json.decode(line, type=Report)

    def until(self, wanted: Callable[[Report], bool], within_s: float) -> float:
        """As `StoreClient.until`."""
        start = time.monotonic()
        while not wanted(last := self.report()):
            if time.monotonic() - start > within_s:
                raise TimeoutError(f"not within {within_s:g} s: {last}")
            time.sleep(_POLL_S)
        return time.monotonic() - start

    def lines(self, word: str = "") -> list[str]:
        """What it has logged so far, of lines that hold this word."""
        return [line for line in self._log.read_text().splitlines() if word in line]


def _decode(kv: KeyValue) -> str:
    return kv.value.decode(errors="replace")


async def serve(factory: str, settings: str, name: str) -> None:
    """Until the end of the standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with StoreClient(load(factory)(json.loads(settings)), name) as client:
        while await reader.readline():
            # Endless where nothing was renewed yet: JSON has no word for that.
            report = msgspec.structs.replace(
                client.report(), renewed_s=min(client.report().renewed_s, sys.float_info.max)
            )
            print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(serve(*sys.argv[1:]))
