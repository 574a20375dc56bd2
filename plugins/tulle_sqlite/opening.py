"""Bringing the file into being, and finding out whether it is ours before anything in it is changed."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tulle.contracts.store import Denied, StoreError, Unavailable
from tulle_sqlite import schema
from tulle_sqlite.clocks import Reading, anchor_at

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_RETRY_S = 0.02
_WAL_LIMIT_BYTES = 4 << 20
"""What the write-ahead log is cut back to after it has once grown beyond this."""

_HOPELESS = {
    errno.EACCES,
    errno.EEXIST,  # a file where the directory should be
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_ELSEWHERE = "choose another one with --sqlite-file"


def open_file(path: Path, deadline: float, reading: Reading) -> sqlite3.Connection:
    """A connection to the store in that file, which is made where it does not exist. `deadline`: monotonic
    seconds. Raises StoreError, sqlite3.Error and OSError."""
    _make_file(path)
    # mode=rw: SQLite must not make the file, for it would give it other rights.
    connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode=rw",
        uri=True,
        timeout=max(deadline - time.monotonic(), 0.0),
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        while True:
            try:
                _bring_up(connection, path, reading)
                return connection
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself while several processes turn a new file to WAL at once.
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)
    except BaseException:
        connection.close()
        raise


def missing(settings: Mapping[str, Any]) -> str:
    """That there is no such file (contracts.specs.StoreSpec.missing). One that cannot be looked at may be there: why it
    cannot, opening it says."""
    path = settings.get("sqlite-file") or "."
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no store file {path}"
    except (OSError, ValueError):
        return ""
    return ""


def is_busy(error: sqlite3.Error) -> bool:
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """The error for people, as one of the contract's kinds."""
    if isinstance(error, OSError):
        if error.errno in _HOPELESS:
            return Denied(f"store file {path} cannot be used ({error.strerror}): {_rights_or_elsewhere()}")
        return Unavailable(f"store file {path} cannot be used ({error.strerror}): mend that and try again")
    code = _primary(error)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _disk_is_full(path)):
        return Unavailable(f"the disk of store file {path} is full: free some space and try again")
    if is_busy(error) or code == sqlite3.SQLITE_PROTOCOL:
        return Unavailable(
            f"store file {path} is locked by another process for too long: see who with 'fuser -v {path}', "
            "and try again"
        )
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
        return removed(path)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return Denied(f"store file {path} cannot be opened for writing ({error}): {_rights_or_elsewhere()}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Denied(
            f"store file {path} is damaged or is not an SQLite file ({error}): move it away, "
            f"run 'tulle init' again (nodes then take new leases), or {_ELSEWHERE}"
        )
    return Unavailable(
        f"store file {path} failed ({error}): look at its disk and the kernel's log, try again"
    )


def removed(path: Path) -> Unavailable:
    return Unavailable(
        f"store file {path} was removed or replaced while it was in use, and what was in it is lost to this "
        "process: put it back, or run 'tulle init' for a new one"
    )


def newer(path: Path, version: int) -> Denied:
    return Denied(
        f"store file {path} was written by a newer tulle (its format is {version}, this tulle knows "
        f"{schema.VERSION}): use that tulle, or {_ELSEWHERE}"
    )


def _disk_is_full(path: Path) -> bool:
    """SQLite says "full" of the file itself, and "I/O error" where there is no room for what it keeps beside it."""
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False


def _primary(error: sqlite3.Error) -> int:
    """SQLite's result code without the details (sqlite.org/rescode.html)."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _rights_or_elsewhere() -> str:
    return f"run as a user who may write the file and its directory (root, usually), or {_ELSEWHERE}"


def _make_file(path: Path) -> None:
    """Raises OSError where the file is not there, readable and writable afterwards."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    if not os.path.lexists(path):
        _make_empty(path)
    if path.is_dir():
        raise _os_error(errno.EISDIR)
    if not os.access(path, os.R_OK | os.W_OK):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise _os_error(errno.EROFS if read_only else errno.EACCES)


def identity(path: str | Path) -> tuple[int, int]:
    """Which file that is; (0, 0): none. A file that somebody has open keeps its identity to itself."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def log_path(path: Path) -> str:
    return f"{path}-wal"


def discard_log(path: Path, log: tuple[int, int]) -> None:
    """To be called while the store whose log that is is still open, and its file is not at `path` any more. Where
    another file has been put there, SQLite would take the log for its, and play the lost file's pages into it."""
    with suppress(OSError), _alone(path):
        if identity(log_path(path)) == log:
            _remove_leftovers(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time. Raises OSError."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # ends with the descriptor
        yield
    finally:
        os.close(directory)


def _remove_leftovers(path: Path) -> None:
    for leftover in (log_path(path), f"{path}-shm", f"{path}-journal"):
        with suppress(FileNotFoundError):
            os.unlink(leftover)


def _make_empty(path: Path) -> None:
    """A new file, unless another process is faster. Raises OSError."""
    with _alone(path):
        if os.path.lexists(path):
            return
        # What a removed file has left. Its log index lives on while some process still has that file open, and would
        # be taken for the new file's: all who open it would fail until the last such process has let go.
        _remove_leftovers(path)
        # Only ever opened here when it is new: closing a descriptor of a file that SQLite has open in this
        # process would drop SQLite's locks (sqlite.org/howtocorrupt.html, 2.2).
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE))


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _bring_up(connection: sqlite3.Connection, path: Path, reading: Reading) -> None:
    # In one transaction: another process may be filling the file at this moment.
    connection.execute("BEGIN")
    try:
        ours = _check_ours(connection, path)
    finally:
        if connection.in_transaction:  # an I/O error may have ended it
            connection.execute("ROLLBACK")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise Denied(
            f"the file system of {path} cannot share memory between processes, which the store needs: "
            f"put it on a local disk ({_ELSEWHERE})"
        )
    # NORMAL: a crash of any process loses nothing; a crash of the machine may lose the last commits, never
    # more. Everybody who saw them went down with it, so nobody is left with a different past. FULL would make
    # every keepalive wait for the disk.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    if not ours:
        _create(connection, path, reading)


def _check_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """True: a store that we can read. False: empty. Else Denied."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == schema.APPLICATION_ID:
        if version == schema.VERSION:
            return True
        raise newer(path, version)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or version or tables:
        raise Denied(f"{path} is an SQLite file of another program and was left alone: {_ELSEWHERE}")
    return False


def _create(connection: sqlite3.Connection, path: Path, reading: Reading) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _check_ours(connection, path):  # another process may have been faster
            _create_tables(connection, reading)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _create_tables(connection: sqlite3.Connection, reading: Reading) -> None:
    # Numbers start at the milliseconds of now, so that those of a file that was removed are not used again:
    # who still holds one is told that it is gone, instead of waiting for a history that never comes.
    first = max(int(reading.wall * 1000), 1)
    for statement in schema.TABLES:
        connection.execute(statement)
    anchor = anchor_at(reading)
    connection.execute(schema.NEW_STATE, {"first": first, "boot": anchor.boot, "offset": anchor.offset})
    connection.execute(schema.FIRST_LEASE, (first,))
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
