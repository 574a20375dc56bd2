"""What lies in the run directory, and the lock that makes one tulled of one directory.

tulled.lock     held while tulled runs; its text is tulled's process id
tulled.sock     the local API
forwarder.sock  the forwarder's control socket; forwarder.log is its standard error; forwarder-NAME.sock and .log are
                a second one's, of a backend that has two devices
node.json       what `tulle down` must know when tulled is gone
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from tulle.files import write_atomically
from tulle.kernel.sysctl import Old
from tulle.worker.processes import running

OWN_FILES = ("tulled.sock", "tulled.lock", "node.json", "node.json.new")
FORWARDER_FILE = re.compile(r"forwarder(-[a-z0-9-]+)?\.(sock|sock\.new|log)")
FORWARDER = "tulle-forwarder"
PLANE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

LOCK_RETRY_S = 0.01


class Record(msgspec.Struct, kw_only=True):
    """node.json: written before anything is changed, so that a crash in between leaves nothing unknown."""

    node: str
    node_id: str
    state_dir: str
    store: str
    store_prefix: str
    store_settings: dict[str, object] = {}
    """Without secrets."""
    subnet_file: str = ""
    subnet_file_text: str = ""
    """As we wrote it last: another's is left alone."""
    links: list[str] = []
    sysctls: dict[str, Old] = {}
    """Values as they were before tulle changed them."""


class ForwarderPlace(NamedTuple):
    """Of one plane's forwarder."""

    socket: Path
    marks: tuple[str, str]
    """Arguments by which it is known among all processes."""


class AlreadyRunning(Exception):
    """Another tulled holds this run directory."""


class RunDir:
    """Paths, lock and record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.api_socket = path / "tulled.sock"
        self._lock_path = path / "tulled.lock"
        self._record_path = path / "node.json"
        self._lock: int | None = None

    def forwarder(self, plane: str = "") -> ForwarderPlace:
        """Where the forwarder of that plane is; "": the first. Raises ValueError on a name that is none."""
        if plane and not PLANE_NAME.fullmatch(plane):
            raise ValueError(
                f"{plane!r} is no name for a data plane: small letters, digits and single hyphens"
            )
        suffix = f"-{plane}" if plane else ""
        return ForwarderPlace(self.path / f"forwarder{suffix}.sock", (FORWARDER + suffix, str(self.path)))

    def forwarders(self) -> dict[int, str]:
        """The planes of the forwarders that run here, by process id; of this and of earlier tulleds."""
        found = {}
        for pid in running((str(self.path),)):
            for word in _words(pid):
                if word == FORWARDER:
                    found[pid] = ""
                elif word.startswith(FORWARDER + "-") and PLANE_NAME.fullmatch(word[len(FORWARDER) + 1 :]):
                    found[pid] = word[len(FORWARDER) + 1 :]
        return found

    def take(self) -> None:
        """Make the directory and hold the lock as long as this process lives. Raises AlreadyRunning, OSError."""
        while True:
            descriptor = self._open_lock()
            self._wait_for(descriptor)
            if _is_at(descriptor, self._lock_path):
                break
            os.close(descriptor)  # who held it took the file away with everything else
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._lock = descriptor

    def _wait_for(self, descriptor: int) -> None:
        while not _locked(descriptor):
            holder = self.holder()
            if holder is not None:
                os.close(descriptor)
                raise AlreadyRunning(
                    f"{self.path}: tulled runs here already (pid {holder}); "
                    "stop it, or give this one another --run-dir"
                )
            time.sleep(LOCK_RETRY_S)  # somebody looked for the holder just now, or has not said his name yet

    def hold(self) -> Path | None:
        """Take the lock again where its file was removed or replaced; returns the path then. Raises AlreadyRunning,
        OSError."""
        if self._lock is None or _is_at(self._lock, self._lock_path):
            return None
        os.close(self._lock)
        self._lock = None
        self.take()
        return self._lock_path

    def _open_lock(self) -> int:
        try:
            if not self.path.is_dir():  # one that is there keeps its mode: it may be anybody's
                self.path.mkdir(parents=True, exist_ok=True)
                self.path.chmod(0o755)
            return os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OSError(
                f"{self.path}: cannot be the run directory ({error.strerror}); make it writable for tulled, or "
                "name another with --run-dir"
            ) from error

    def holder(self) -> int | None:
        """The process id of the tulled that runs here, None where none does."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode(errors="replace").strip()
            return int(text) if text.isdigit() else None
        finally:
            os.close(descriptor)
        return None

    def record(self) -> Record | None:
        """What the last tulled wrote; None where there is nothing to read."""
        try:
            return msgspec.json.decode(self._record_path.read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_record(self, record: Record) -> None:
        write_atomically(self._record_path, msgspec.json.encode(record), mode=0o600)

    def leave(self) -> None:
        """Take socket and lock away where nothing else was ever put here: whoever only looks finds no trace of a tulled
        that ended before it changed anything. Call it while the lock is held."""
        with contextlib.suppress(OSError):
            if {one.name for one in self.path.iterdir()} <= {self.api_socket.name, self._lock_path.name}:
                self.clear()

    def clear(self) -> list[str]:
        """Remove our files, and the directory where nothing else is in it."""
        removed = []
        there = {one.name for one in self.path.iterdir()} if self.path.is_dir() else set()
        for name in (*OWN_FILES, *sorted(filter(FORWARDER_FILE.fullmatch, there))):
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()
                removed.append(f"{self.path / name}: removed")
        with contextlib.suppress(OSError):
            self.path.rmdir()
            removed.append(f"{self.path}: removed")
        return removed


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _words(pid: int) -> list[str]:
    """The arguments of a process; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether this open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
