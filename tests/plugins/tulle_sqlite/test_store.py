"""The sqlite store keeps the contract of stores, and copes with what happens to files and clocks."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from tulle.contracts.specs import load
from tulle.contracts.store import Compacted, LeaseGone, Put, Revision, Store, Unavailable
from tulle.testing.store_contract import StoreContract
from tulle_sqlite import store as store_module
from tulle_sqlite import tulle_stores
from tulle_sqlite.clocks import Reading
from tulle_sqlite.inotify import FileWatch
from tulle_sqlite.store import SqliteStore
from tulle_sqlite.transaction import COMPACT_EVERY

DAY_S = 86_400.0


class Clocks:
    """A wall clock and a steady one, to be set at will."""

    def __init__(self) -> None:
        self.reading = Reading(wall=1_800_000_000.0, steady=500.0, boot="a")

    def __call__(self) -> Reading:
        return self.reading

    def pass_s(self, seconds: float) -> None:
        now = self.reading
        self.reading = Reading(now.wall + seconds, now.steady + seconds, now.boot)

    def step_wall(self, seconds: float) -> None:
        self.reading = msgspec.structs.replace(self.reading, wall=self.reading.wall + seconds)


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "state" / "store.sqlite"
        self.clocks = Clocks()

    async def open_store(self) -> Store:
        return SqliteStore(self.path, clocks=self.clocks)

    async def compact(self, store: Store, revision: Revision) -> None:
        assert isinstance(store, SqliteStore)
        await store.compact(revision)

    async def expire(self, store: Store, seconds: float) -> None:
        self.clocks.pass_s(seconds)


async def _put(store: Store, key: str, value: bytes = b"") -> Revision:
    return (await store.transact([], [Put(key, value)])).revision


def _empty(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs_a_lease(tmp_path: Path) -> None:
    async def run() -> None:
        clocks = Clocks()
        store, other = (SqliteStore(tmp_path / "s", clocks=clocks) for _ in range(2))
        lease = await store.grant(60)
        for step_s in (DAY_S, -2 * DAY_S):
            clocks.step_wall(step_s)
            clocks.pass_s(10)
            assert await other.remaining([lease]) == {lease: pytest.approx(50)}
            await _put(other, "a write puts the clock right")
            assert await store.remaining([lease]) == {lease: pytest.approx(50)}
            assert await store.keepalive(lease) == 60
        clocks.pass_s(61)
        with pytest.raises(LeaseGone):
            await store.keepalive(lease)
        await store.close()
        await other.close()

    asyncio.run(run())


@pytest.mark.parametrize(("wall_s", "left_s"), [(20.0, 40.0), (-DAY_S, 60.0), (DAY_S, None)])
def test_after_a_reboot_a_lease_has_what_the_wall_clock_leaves_it_and_never_more_than_its_ttl(
    tmp_path: Path, wall_s: float, left_s: float | None
) -> None:
    async def run() -> None:
        clocks = Clocks()
        store = SqliteStore(tmp_path / "s", clocks=clocks)
        lease = await store.grant(60)
        await store.close()
        clocks.reading = Reading(clocks.reading.wall + wall_s, steady=3.0, boot="b")
        store = SqliteStore(tmp_path / "s", clocks=clocks)
        await _put(store, "k")
        expected = {} if left_s is None else {lease: pytest.approx(left_s)}
        assert await store.remaining([lease]) == expected
        await store.close()

    asyncio.run(run())


def test_history_is_bounded_by_itself(tmp_path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(tmp_path / "s", keep_revisions=50)
        first = await _put(store, "k")
        for number in range(50 + COMPACT_EVERY):
            last = await _put(store, "k", b"%d" % number)
        with pytest.raises(Compacted, match="list again"):
            await store.list("", revision=first)
        with pytest.raises(Compacted):
            await anext(store.watch("", after=first))
        old = await store.list("", revision=Revision(last - 50))
        assert old.items[0].value == b"%d" % (COMPACT_EVERY - 1)
        await store.close()
        with closing(sqlite3.connect(tmp_path / "s")) as file:
            (events,) = file.execute("SELECT count(*) FROM events").fetchone()
        assert 50 <= events < 60

    asyncio.run(run())


def test_a_watch_is_woken_by_another_client_long_before_it_would_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_S", 60.0)

    async def run() -> None:
        reader, writer = SqliteStore(tmp_path / "s"), SqliteStore(tmp_path / "s")
        watch = reader.watch("", after=await _put(writer, "start"))
        await anext(watch)
        for number in range(20):
            waiting = asyncio.create_task(anext(watch))
            await asyncio.sleep(0.01)
            await _put(writer, f"k{number}")
            (event,) = (await asyncio.wait_for(waiting, 10)).events
            assert event.kv.key == f"k{number}"
        await watch.aclose()
        await reader.close()
        await writer.close()

    asyncio.run(run())


def test_a_watch_works_where_the_kernel_gives_no_wake_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileWatch, "start", lambda self: False)

    async def run() -> None:
        reader, writer = SqliteStore(tmp_path / "s"), SqliteStore(tmp_path / "s")
        watch = reader.watch("", after=await _put(writer, "start"))
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.2)
        await _put(writer, "k")
        (event,) = (await asyncio.wait_for(waiting, 10)).events
        assert event.kv.key == "k"
        await watch.aclose()
        await reader.close()
        await writer.close()

    asyncio.run(run())


def test_an_idle_watch_looks_seldom(tmp_path: Path) -> None:
    async def run() -> None:
        clocks, looks = Clocks(), 0

        def counted() -> Reading:
            nonlocal looks
            looks += 1
            return clocks()

        store = SqliteStore(tmp_path / "s", clocks=counted)
        await store.grant(60)  # with a lease in it, each look asks what time it is
        watch = store.watch("", after=await _put(store, "start"))
        await anext(watch)
        waiting = asyncio.create_task(anext(watch))
        await _put(store, "k")
        await waiting
        waiting, looks = asyncio.create_task(anext(watch)), 0
        await asyncio.sleep(1.2)
        assert 1 <= looks <= 12  # the looks after the wake-ups for one write, and then one a second
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await store.close()

    asyncio.run(run())


def test_a_long_history_comes_in_several_batches_of_whole_revisions(tmp_path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(tmp_path / "s")
        start = (await store.list("")).revision
        for _ in range(25):
            await store.transact([], [Put(f"k{number}", b"") for number in range(90)])
        watch, batches = store.watch("", after=start), []
        while sum(len(batch.events) for batch in batches) < 25 * 90:
            batches.append(await anext(watch))
        assert len(batches) == 3
        assert [batch.synced for batch in batches] == [True, False, False]
        assert all(len(batch.events) % 90 == 0 for batch in batches)
        await watch.aclose()
        await store.close()

    asyncio.run(run())


def test_a_file_that_is_removed_in_use_is_said_once_and_a_new_one_begins(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        one, two = SqliteStore(path), SqliteStore(path)
        for number in range(5):
            last = await _put(one, f"k{number}")
        lease = await one.grant(60)
        watch = two.watch("", after=last)
        await anext(watch)
        await asyncio.sleep(
            0.05
        )  # a file's revisions begin with its milliseconds: five writes must lie behind
        _empty(tmp_path)
        with pytest.raises(Unavailable, match=f"{path} was removed or replaced.*tulle init"):
            await one.get("k0")
        assert await one.get("k0") is None
        assert await _put(one, "new") > last
        with pytest.raises(Unavailable, match="removed"):
            await asyncio.wait_for(anext(watch), 10)
        assert [kv.key for kv in (await two.list("")).items] == ["new"]
        with pytest.raises(Compacted):
            await anext(two.watch("", after=last))
        with pytest.raises(LeaseGone):
            await two.keepalive(lease)
        assert await two.grant(60) > lease
        await one.close()
        assert await _put(two, "k") is not None
        await two.close()

    asyncio.run(run())


def test_a_locked_file_is_said_after_a_while_and_the_event_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.5)

    async def run() -> None:
        store = SqliteStore(tmp_path / "s")
        await _put(store, "k", b"1")
        with closing(sqlite3.connect(tmp_path / "s", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            blocked = asyncio.create_task(_put(store, "k", b"2"))
            turns = 0
            while not blocked.done():
                await asyncio.sleep(0.01)
                turns += 1
            assert turns > 10
            with pytest.raises(Unavailable, match="locked by another process"):
                await blocked
            (kv,) = (await store.list("")).items  # reading needs no lock
            assert kv.value == b"1"
        await _put(store, "k", b"3")
        await store.close()

    asyncio.run(run())


def test_calls_that_waited_too_long_behind_others_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.4)

    async def run() -> None:
        store = SqliteStore(tmp_path / "s")
        await _put(store, "k", b"1")
        with closing(sqlite3.connect(tmp_path / "s", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            calls = [_put(store, "k", b"%d" % number) for number in range(10)]
            async with asyncio.timeout(3):
                results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
        assert "nothing was done" in str(results[-1])
        (kv,) = (await store.list("")).items
        assert kv.value == b"1"
        await store.close()

    asyncio.run(run())


def test_reading_works_while_expired_keys_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.5)

    async def run() -> None:
        clocks = Clocks()
        store = SqliteStore(tmp_path / "s", clocks=clocks)
        await store.transact([], [Put("k", b"", await store.grant(5))])
        clocks.pass_s(10)
        with closing(sqlite3.connect(tmp_path / "s", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert await store.get("k") is not None
        assert await store.get("k") is None
        await store.close()

    asyncio.run(run())


def test_a_cancelled_call_leaves_the_client_usable(tmp_path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(tmp_path / "s")
        for number in range(20):
            call = asyncio.create_task(_put(store, "k", b"%d" % number))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await _put(store, "k", b"last")
        (kv,) = (await store.list("")).items
        assert kv.value == b"last"
        await store.close()

    asyncio.run(run())


def test_what_a_client_wrote_is_in_the_file_when_it_has_closed_though_others_are_open(tmp_path: Path) -> None:
    async def run() -> None:
        other, store = SqliteStore(tmp_path / "s"), SqliteStore(tmp_path / "s")
        await other.health()
        await _put(store, "k", b"needle")
        assert b"needle" not in (tmp_path / "s").read_bytes()
        await store.close()
        assert b"needle" in (tmp_path / "s").read_bytes()
        await other.close()

    asyncio.run(run())


def test_the_hook_names_the_embedded_store_and_its_option(tmp_path: Path) -> None:
    (spec,) = tulle_stores()
    assert spec.embedded
    assert [option.name for option in spec.options] == ["sqlite-file"]
    factory = load(spec.factory)
    store = factory({"sqlite-file": str(tmp_path / "s")})
    assert (store.name, store.location, store.single_machine) == (spec.name, str(tmp_path / "s"), True)
    assert not (tmp_path / "s").exists()
    for wrong in ({}, {"sqlite-file": ""}, {"sqlite-file": "a\0b"}):
        with pytest.raises(ValueError, match="--sqlite-file is"):
            factory(wrong)


def test_a_lease_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        asyncio.run(SqliteStore(tmp_path / "s").grant(0))
