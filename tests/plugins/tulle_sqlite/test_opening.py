"""Files that are not what they should be: nothing is changed, and the message says what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tulle.contracts.store import Denied, Put, StoreError, Unavailable
from tulle_sqlite import schema
from tulle_sqlite.opening import explain, missing
from tulle_sqlite.store import SqliteStore


def _try(path: Path) -> StoreError:
    """The error of a first call on that file."""

    async def run() -> StoreError:
        store = SqliteStore(path)
        try:
            with pytest.raises(StoreError) as caught:
                await store.get("k")
        finally:
            await store.close()
        return caught.value

    return asyncio.run(run())


def _fill(path: Path, keys: int) -> None:
    async def run() -> None:
        store = SqliteStore(path)
        for start in range(0, keys, 100):
            await store.transact([], [Put(f"k/{start + n}", b"v" * 200) for n in range(100)])
        await store.close()

    asyncio.run(run())


def test_directory_and_files_are_nobody_elses_business(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.sqlite"

    async def run() -> list[int]:
        store = SqliteStore(path)
        await store.transact([], [Put("k", b"")])
        names = [path.parent, path, Path(f"{path}-wal"), Path(f"{path}-shm")]
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in names]
        await store.close()
        return modes

    assert asyncio.run(run()) == [0o700, 0o600, 0o600, 0o600]


def test_a_directory_that_was_there_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    _fill(tmp_path / "store.sqlite", 1)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_path_with_odd_characters_is_that_path(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory%20#é" / "store.sqlite"
    _fill(path, 1)
    assert path.read_bytes().startswith(b"SQLite format 3\0")


@pytest.mark.parametrize("content", [b"this is no database\n" * 100, b"key = value\n"])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    error = _try(path)
    assert isinstance(error, Denied)
    assert str(path) in str(error)
    assert "move it away" in str(error)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    error = _try(path)
    assert isinstance(error, Denied)
    assert "of another program" in str(error)
    assert "--sqlite-file" in str(error)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_tulle_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    _fill(path, 1)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    error = _try(path)
    assert isinstance(error, Denied)
    assert f"its format is {schema.VERSION + 1}, this tulle knows {schema.VERSION}" in str(error)
    assert path.read_bytes() == before


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    _fill(path, 3_000)
    content = bytearray(path.read_bytes())
    content[8_192:] = b"\xa5" * (len(content) - 8_192)
    path.write_bytes(content)
    error = _try(path)
    assert isinstance(error, Denied)
    assert "damaged" in str(error)
    assert "tulle init" in str(error)


def test_a_directory_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    error = _try(tmp_path)
    assert isinstance(error, Denied)
    assert "Is a directory" in str(error)


def test_a_file_instead_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    error = _try(tmp_path / "file" / "store.sqlite")
    assert isinstance(error, Denied)
    assert str(tmp_path / "file" / "store.sqlite") in str(error)


_AS_SOMEBODY_ELSE = """
import asyncio, os, sys
from tulle.contracts.store import Denied
from tulle_sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    try:
        await store.get("k")
    except Denied as error:
        print(error)
    await store.close()

if os.geteuid() == 0:
    os.setuid(65534)
asyncio.run(main())
"""


def test_a_user_without_rights_is_told_to_be_another_one(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    _fill(path, 1)
    path.chmod(0o400)
    command = [sys.executable, "-c", _AS_SOMEBODY_ELSE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Permission denied" in done.stdout
    assert f"{path} cannot be used" in done.stdout
    assert "run as a user who may write" in done.stdout


_ON_A_SMALL_DISK = """
import asyncio, os, pathlib, sys
from tulle.contracts.store import Denied, Put, Unavailable
from tulle_sqlite.store import SqliteStore

async def main(directory):
    store = SqliteStore(directory / "store.sqlite")
    await store.transact([], [Put("k", b"before")])
    (directory / "ballast").write_bytes(b"x" * 300_000)
    try:
        for number in range(100):
            await store.transact([], [Put(f"k/{number}", b"v" * 20_000)])
    except Unavailable as error:
        print("full:", error)
    print("read:", (await store.get("k")).value.decode())
    (directory / "ballast").unlink()
    await store.transact([], [Put("k", b"after")])
    print("read:", (await store.get("k")).value.decode())
    await store.close()
    os.system(f"mount -o remount,ro {directory}")
    try:
        await SqliteStore(directory / "store.sqlite").get("k")
    except Denied as error:
        print("read-only:", error)

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


def test_a_full_disk_is_said_and_got_over_and_a_read_only_one_is_said(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"'
    inside = [sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path)]
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("this kernel gives no user namespace")
    command = [*unshare, "sh", "-c", mount, "sh", *inside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    full, before, after, read_only = done.stdout.splitlines() or [done.stderr]
    assert full.startswith("full:")
    assert "is full: free some space" in full
    assert (before, after) == ("read: before", "read: after")
    assert "Read-only file system" in read_only
    assert "--sqlite-file" in read_only


def _sqlite_error(statement: str, *preparations: str) -> sqlite3.Error:
    """A real error of SQLite's."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for preparation in preparations:
            connection.execute(preparation)
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(statement)
    return caught.value


def test_errors_become_what_the_contract_has() -> None:
    path = Path("/somewhere/store.sqlite")
    full = _sqlite_error(
        "INSERT INTO t VALUES (zeroblob(1000000))", "CREATE TABLE t (x)", "PRAGMA max_page_count = 3"
    )
    readonly = _sqlite_error("CREATE TABLE t (x)", "PRAGMA query_only = 1")
    for error, kind, advice in [
        (full, Unavailable, "free some space"),
        (readonly, Denied, "root, usually"),
        (OSError(28, "No space left on device"), Unavailable, "No space left"),
        (OSError(30, "Read-only file system"), Denied, "--sqlite-file"),
        (sqlite3.OperationalError("something new"), Unavailable, "something new"),
    ]:
        explained = explain(error, path)
        assert type(explained) is kind
        assert "/somewhere/store.sqlite" in str(explained)
        assert advice in str(explained)


def test_a_file_that_is_not_there_is_told_from_one_that_cannot_be_looked_at(tmp_path: Path) -> None:
    there = tmp_path / "store.sqlite"
    for absent in (there, there / "under", tmp_path / "no/folder/s"):
        assert missing({"sqlite-file": str(absent)}) == f"there is no store file {absent}"
    there.touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for present in (there, tmp_path, loop, "a\0b", None):  # what is wrong with these, opening them says
        assert missing({"sqlite-file": present and str(present)}) == ""
    there.unlink()
    assert missing({"sqlite-file": str(there)})  # nothing was made by asking
