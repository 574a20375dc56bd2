"""The sqlite store whose writers are killed or frozen, whose disk is full or read-only, whose file is removed or
belongs to a newer tulle: what was acknowledged stays, nothing is corrupt, the message says what to do, and it goes on
by itself when the cause is gone."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.store import Denied, Put, Unavailable
from tulle.testing.faults.apart import HERE, Apart, NoNamespaces
from tulle.testing.faults.disk import small_disk
from tulle.testing.faults.processes import frozen, kill
from tulle.testing.faults.storeclient import StoreClient
from tulle_sqlite import schema
from tulle_sqlite.store import PATIENCE_S, SqliteStore

BACK_S = 5.0


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    try:
        yield store
    finally:
        await store.close()


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def program(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


# Writers that are killed or frozen

WRITER = """
import asyncio, sys
from tulle.contracts.store import Put
from tulle_sqlite.store import SqliteStore

async def main(path, keys):
    store = SqliteStore(path)
    number = 0
    while True:  # a megabyte each: most of the time it is within a transaction
        number += 1
        value = b"%d " % number + bytes(1_000_000 // keys)
        await store.transact([], [Put(f"k/{key}", value) for key in range(keys)])
        print(number, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
KEYS = 200


@pytest.mark.parametrize("kills", [pytest.param(6), pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_writers_killed_in_mid_transaction_leave_all_or_nothing(tmp_path: Path, kills: int) -> None:
    path, rng = tmp_path / "s", random.Random(kills)

    async def numbers() -> set[int]:
        async with opened(path) as store:
            return {int(kv.value.split()[0]) for kv in (await store.list("k/")).items}

    for _ in range(kills):
        command = [sys.executable, "-c", WRITER, str(path), str(KEYS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline()]
            time.sleep(rng.uniform(0, 0.05))
            kill(writer.pid)
            told += writer.stdout.read().splitlines()
        last = int(told[-1])
        (kept,) = asyncio.run(numbers())  # one number: no transaction was done by half
        assert kept in (last, last + 1)  # the answer to the last one may be lost
        check_integrity(path)


def test_a_writer_that_freezes_in_mid_transaction_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    holder = (
        "import sqlite3, sys\n"
        "file = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "file.execute('BEGIN IMMEDIATE'); file.execute(\"UPDATE keys SET value = x'00'\")\n"
        "print('held', flush=True); input(); file.execute('ROLLBACK'); print('gone', flush=True); input()\n"
    )

    async def run() -> None:
        async with asyncio.timeout(60), opened(path) as store:
            await store.transact([], [Put("k", b"1")])
            command = [sys.executable, "-c", holder, str(path)]
            with program(command) as process:
                assert process.stdout
                assert process.stdin
                process.stdout.readline()
                with frozen(process.pid):
                    start = time.monotonic()
                    with pytest.raises(Unavailable, match=rf"locked by another process.*fuser -v {path}"):
                        await store.transact([], [Put("k", b"2")])
                    assert time.monotonic() - start < 10 * PATIENCE_S
                    found = await store.get("k")
                    assert found is not None
                    assert found.value == b"1"
                process.stdin.write(b"\n")
                process.stdin.flush()
                process.stdout.readline()
                await store.transact([], [Put("k", b"2")])
                process.communicate(b"\n", timeout=10)
        check_integrity(path)

    asyncio.run(run())


# The disk

TALKER = """
import asyncio, json, sys
from tulle.contracts.store import Put, StoreError
from tulle_sqlite.store import SqliteStore

async def main(path):
    store = SqliteStore(path)
    for line in sys.stdin:
        key, _, size = line.rstrip("\\n").partition(" ")
        try:
            if size:
                await store.transact([], [Put(key, bytes(int(size)))])
                print("ok", flush=True)
            elif key == "close":
                await store.close()
                store = SqliteStore(path)
                print("ok", flush=True)
            else:
                found = await store.get(key)
                print(len(found.value) if found else "none", flush=True)
        except StoreError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def apart() -> Iterator[Apart]:
    try:
        with Apart() as made:
            yield made
    except NoNamespaces as reason:
        pytest.skip(str(reason))


@pytest.fixture
def talk(apart: Apart, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """`talk("k 100")` puts 100 bytes, `talk("k")` says how long the value is, `talk("close")` opens the file anew;
    by one and the same program on the small disk."""
    command = [sys.executable, "-c", TALKER, str(tmp_path / "state" / "store.sqlite")]
    process: subprocess.Popen[Any] | None = None

    def say(line: str) -> str:
        nonlocal process
        if process is None:  # when the disk is there
            process = apart.popen(HERE, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin
        assert process.stdout
        print(line, file=process.stdin, flush=True)
        answer: str = process.stdout.readline().rstrip("\n")
        return answer

    yield say
    if process is not None:
        process.communicate(timeout=20)


def integrity(apart: Apart, path: Path) -> str:
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())"
    return apart.run(HERE, [sys.executable, "-c", code, str(path)]).stdout.strip()


def test_a_full_disk_refuses_writers_serves_readers_and_is_used_again_when_freed(
    apart: Apart, tmp_path: Path, talk: Callable[[str], str]
) -> None:
    with small_disk(apart, HERE, tmp_path, 2 << 20) as disk:
        assert talk("k 1000") == "ok"
        disk.fill()
        answers = [talk(f"k/{number} 20000") for number in range(30)]
        assert answers[-1].startswith("Unavailable: the disk of store file")
        assert "is full: free some space and try again" in answers[-1]
        assert talk("k") == "1000"
        disk.free()
        assert talk("after 100") == "ok"
        assert [talk(f"k/{number}") for number in range(30)] == [
            "20000" if answer == "ok" else "none" for answer in answers
        ], "what was acknowledged is there, and nothing else"
        assert integrity(apart, tmp_path / "state" / "store.sqlite") == "ok"


@pytest.mark.parametrize("exists", [True, False])
def test_a_disk_that_is_full_from_the_start_is_said_to_be_full(
    apart: Apart, tmp_path: Path, talk: Callable[[str], str], exists: bool
) -> None:
    (tmp_path / "state").mkdir()
    with small_disk(apart, HERE, tmp_path, 2 << 20) as disk:
        if exists:
            assert talk("k 1000") == "ok"
            assert talk("close") == "ok"
        disk.fill()
        for _ in range(2):
            answer = talk("k 30000")
            assert answer.startswith("Unavailable: the disk of store file"), answer
            assert "is full: free some space" in answer
        disk.free()
        assert talk("k 30000") == "ok"
        assert integrity(apart, tmp_path / "state" / "store.sqlite") == "ok"


def test_a_read_only_file_system_is_said_and_used_again_when_it_is_writable(
    apart: Apart, tmp_path: Path, talk: Callable[[str], str]
) -> None:
    with small_disk(apart, HERE, tmp_path, 2 << 20) as disk:
        assert talk("k 1000") == "ok"
        assert talk("close") == "ok"
        disk.read_only()
        for line in ("k", "k 10"):
            answer = talk(line)
            assert answer.startswith("Denied: store file"), answer
            assert "Read-only file system" in answer
            assert "--sqlite-file" in answer
        disk.writable()
        assert talk("k") == "1000"
        assert talk("k 10") == "ok"
        assert integrity(apart, tmp_path / "state" / "store.sqlite") == "ok"


# The file


def test_a_file_that_is_removed_under_its_users_is_made_anew_with_all_their_records(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        async with (
            asyncio.timeout(60),
            StoreClient(SqliteStore(path), "n1") as n1,
            StoreClient(SqliteStore(path), "n2") as n2,
        ):
            for node in (n1, n2):
                await node.until(lambda report: {"n1", "n2"} == set(report.nodes), BACK_S)
            path.unlink()
            for node in (n1, n2):
                await node.until(lambda report: report.relists > 0, BACK_S)
                await node.until(lambda report: {"n1", "n2"} == set(report.nodes), BACK_S)
                await node.until(lambda report: report.connected and report.renewed_s < 2, BACK_S)
                assert not node.report().lost
        check_integrity(path)

    asyncio.run(run())


IDLE = """
import asyncio, sys
from tulle_sqlite.store import SqliteStore

async def main(path):
    store = SqliteStore(path)
    await store.get("k")
    print("open", flush=True)
    input()

asyncio.run(main(sys.argv[1]))
"""


def test_a_process_that_still_has_the_removed_file_open_stops_nobody_from_using_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        async with asyncio.timeout(60):
            first = SqliteStore(path)
            for number in range(50):
                await first.transact([], [Put(f"old/{number}", bytes(2_000))])
            with program([sys.executable, "-c", IDLE, str(path)]) as idle:
                assert idle.stdout
                idle.stdout.readline()
                path.unlink()
                async with opened(path) as second:
                    for number in range(5):
                        await second.transact([], [Put(f"new/{number}", bytes(2_000))])
                    with pytest.raises(Unavailable, match=r"was removed or replaced .* run 'tulle init'"):
                        await first.get("old/1")
                    assert len((await first.list("")).items) == 5
                    idle.communicate(b"\n", timeout=10)
                    await second.transact([], [Put("new/5", b"")])
            assert len((await first.list("")).items) == 6
            await first.close()
        check_integrity(path)

    asyncio.run(run())


def test_a_file_that_was_taken_away_and_put_back_is_used_as_it_was(tmp_path: Path) -> None:
    path, aside = tmp_path / "s", tmp_path / "aside"

    async def run() -> None:
        async with asyncio.timeout(60):
            async with opened(path) as store:
                await store.transact([], [Put("k", b"before")])
            os.rename(path, aside)
            async with opened(path) as store:
                assert await store.get("k") is None
                os.rename(aside, path)
                with pytest.raises(Unavailable, match="removed or replaced"):
                    await store.get("k")
                found = await store.get("k")
                assert found is not None
                assert found.value == b"before"
                await store.transact([], [Put("k", b"after")])
        check_integrity(path)

    asyncio.run(run())


def test_a_newer_tulle_that_takes_the_file_over_while_it_is_open_is_noticed_before_anything_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"

    def set_version(version: int) -> None:
        with closing(sqlite3.connect(path)) as newer:
            newer.execute(f"PRAGMA user_version = {version}")

    async def refused(call: Any) -> None:
        with pytest.raises(
            Denied, match=f"newer tulle .its format is {schema.VERSION + 1}, .*use that tulle"
        ):
            await call

    async def run() -> None:
        async with asyncio.timeout(60), opened(path) as store:
            start = (await store.transact([], [Put("k", b"1")])).revision
            watch = store.watch("", after=start)
            assert (await anext(watch)).synced
            set_version(schema.VERSION + 1)
            await refused(asyncio.wait_for(anext(watch), BACK_S))
            await refused(store.get("k"))
            await refused(store.transact([], [Put("k", b"2")]))
            await refused(store.health())
            set_version(schema.VERSION)
            found = await store.get("k")
            assert found is not None
            assert found.value == b"1"
            await store.transact([], [Put("k", b"2")])

    asyncio.run(run())


def test_a_file_that_was_damaged_is_refused_and_its_backup_is_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        async with asyncio.timeout(60), opened(path) as store, opened(path) as other:
            for number in range(50):
                await store.transact([], [Put(f"k/{number}", bytes(2_000))])
            await other.health()
            with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(f"{path}.backup")) as backup:
                live.backup(backup)
            os.rename(path, tmp_path / "aside")
            # With the log of the lost file beside it, SQLite would make a whole file of this garbage again, or half.
            path.write_bytes(b"not a database" * 1000)
            for client in (store, other):
                with pytest.raises(Unavailable, match="removed or replaced"):
                    await client.get("k/1")
                with pytest.raises(Denied, match="damaged or is not an SQLite file"):
                    await client.get("k/1")
            os.rename(f"{path}.backup", path)
            for client in (store, other):
                await client.transact([], [Put("k/50", b"")])
                assert len((await client.list("k/")).items) == 51
        check_integrity(path)

    asyncio.run(run())
