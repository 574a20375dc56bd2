"""Several processes share one file: nothing is lost, also when one is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from tulle.contracts.store import Event, Put
from tulle_sqlite.store import SqliteStore

WRITER = Path(__file__).with_name("writer.py")
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def _process(*arguments: str | Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments), stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


async def _counts(store: SqliteStore, until: str) -> list[int]:
    """What a watch from the beginning sees of the common count, up to a last key."""
    events: list[Event] = []
    start = (await store.list("p/")).revision
    watch = store.watch("p/", after=start)
    while not events or events[-1].kv.key != until:
        events += (await asyncio.wait_for(anext(watch), PATIENCE_S)).events
    await watch.aclose()
    return [int(event.kv.value) for event in events if event.kv.key == "p/count"]


def test_several_writers_lose_no_update_and_watches_see_each_exactly_once(tmp_path: Path) -> None:
    path, writers, times = tmp_path / "s", 4, 100

    async def run() -> None:
        watching, store = SqliteStore(path), SqliteStore(path)
        await store.health()
        seen = [asyncio.create_task(_counts(client, "p/end")) for client in (watching, store)]
        await asyncio.sleep(0)
        acknowledged: list[int] = []
        async with contextlib.AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(_process(WRITER, path, f"w{number}", str(times)))
                for number in range(writers)
            ]
            for process in processes:
                output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
                assert process.returncode == 0
                acknowledged += map(int, output.split())
        await store.transact([], [Put("p/end", b"")])
        expected = list(range(1, writers * times + 1))
        assert sorted(acknowledged) == expected
        for task in seen:
            assert await task == expected
        await watching.close()
        await store.close()

    asyncio.run(run())


def test_a_killed_writer_leaves_everything_it_was_told_and_the_store_usable(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        store = SqliteStore(path)
        await store.health()
        seen = asyncio.create_task(_counts(store, "p/end"))
        await asyncio.sleep(0)
        for number in range(4):
            async with _process(WRITER, path, f"w{number}", "1000000") as process:
                assert process.stdout is not None
                for _ in range(20 + 7 * number):
                    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
                process.send_signal(signal.SIGKILL)
                rest, _ = await process.communicate()
                last = int([line, *rest.split(b"\n")[:-1]][-1])
            kept = await store.get("p/count")
            assert kept is not None
            assert int(kept.value) in (last, last + 1)  # the answer to the last one may be lost
            await store.transact([], [Put("p/mine", b"")])
        await store.transact([], [Put("p/end", b"")])
        counts = await seen
        assert counts == list(range(1, len(counts) + 1))
        await store.close()
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    asyncio.run(run())


_HOLDER = """
import sqlite3, sys, time
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
file.execute("UPDATE keys SET value = x'00'")
file.execute("PRAGMA cache_spill = 1")
print("held", flush=True)
time.sleep(600)
"""


def test_a_writer_killed_within_a_transaction_has_changed_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        store = SqliteStore(path)
        await store.transact([], [Put("k", b"1")])
        async with _process("-c", _HOLDER, path) as process:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"held\n"
            waiting = asyncio.create_task(store.transact([], [Put("other", b"2")]))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            process.send_signal(signal.SIGKILL)
            await waiting
        assert [(kv.key, kv.value) for kv in (await store.list("")).items] == [("k", b"1"), ("other", b"2")]
        await store.close()

    asyncio.run(run())


def test_several_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "directory" / "s"

    async def run() -> list[int]:
        async with contextlib.AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(_process(WRITER, path, f"w{number}", "1"))
                for number in range(5)
            ]
            outputs = [await asyncio.wait_for(process.communicate(), PATIENCE_S) for process in processes]
        assert [process.returncode for process in processes] == [0] * 5
        return sorted(int(output) for output, _ in outputs)

    assert asyncio.run(run()) == [1, 2, 3, 4, 5]
