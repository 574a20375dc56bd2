"""Which labs a user has: one small file a lab, in a directory that only the user can read.

A file holds the pid of the lab's init and that process's start time, so that another process that got the same pid
later is not taken for it. Everything else about a lab lies inside the lab. Files of labs that have ended are taken
away by whoever looks next.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tulle.lab.errors import LabError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")

STATE_FIELD, START_FIELD = 0, 19
"""Of /proc/PID/stat, counted behind the name (proc(5): fields 3 and 22)."""


@dataclass(frozen=True)
class Process:
    """A process, safe against its pid being used again. `start` is in clock ticks since boot."""

    pid: int
    start: int

    def alive(self) -> bool:
        """False for a zombie: nobody may be there to wait for it, and nothing of it runs."""
        return start_time(self.pid) == self.start


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where there is none or only its zombie."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[STATE_FIELD] in "ZX" else int(fields[START_FIELD])


def default_directory() -> Path:
    """Where this user's labs are listed: below XDG_RUNTIME_DIR where that is the user's own, else below /tmp."""
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # `su` and `sudo -E` leave another user's directory in the environment.
    if runtime and os.path.isdir(runtime) and os.stat(runtime).st_uid == uid:
        return Path(runtime, "tulle-lab")
    return Path(f"/tmp/tulle-lab-{uid}")


class Registry:
    """The labs of one user."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or default_directory()

    def add(self, name: str, process: Process) -> None:
        """Enter a lab. Raises LabError where the name is in use or is none."""
        check_name(name)
        with self._locked():
            if name in self._living():
                raise LabError(
                    f"There is a lab {name!r} already. Take it down with: tulle lab down --name {name}, "
                    "or give this one another name with --name."
                )
            temporary = self.directory / f".{name}.new"
            temporary.write_text(json.dumps({"pid": process.pid, "start": process.start}))
            temporary.rename(self._file(name))

    def remove(self, name: str, process: Process) -> None:
        """Take a lab's entry away, if it is still this lab's."""
        if not self.directory.exists():
            return
        with self._locked():
            if read_entry(self._file(name)) == process:
                self._file(name).unlink()

    def living(self) -> dict[str, Process]:
        """The labs that run, by name. Entries of those that have ended are removed."""
        if not self.directory.exists():
            return {}
        with self._locked():
            return self._living()

    def find(self, name: str) -> Process:
        """Raises LabError where no lab of that name runs."""
        living = self.living()
        if name not in living:
            others = f" These run: {', '.join(sorted(living))}." if living else ""
            raise LabError(f"No lab {name!r} runs.{others} Start one with: tulle lab up --name {name}")
        return living[name]

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _living(self) -> dict[str, Process]:
        found = {}
        for path in sorted(self.directory.glob("*.json")):
            process = read_entry(path)
            if process is not None and process.alive():
                found[path.stem] = process
            else:
                path.unlink(missing_ok=True)
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory for ourselves; when it is empty afterwards it goes."""
        handle = self._open()
        try:
            yield
            if not os.listdir(handle):
                self.directory.rmdir()
        finally:
            os.close(handle)

    def _open(self) -> int:
        """The locked directory, made where it is missing."""
        while True:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            try:
                handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # another process found it empty
            except OSError as error:
                raise LabError(
                    f"{self.directory} is not a directory that can be read ({error.strerror}). "
                    "Move it away and try again."
                ) from error
            found = os.fstat(handle)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                os.close(handle)
                raise LabError(
                    f"{self.directory} belongs to somebody else or is open to others, so what it says of labs "
                    "cannot be trusted. Move it away and try again."
                )
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._is_still(found):
                return handle
            os.close(handle)

    def _is_still(self, found: os.stat_result) -> bool:
        try:
            return os.path.samestat(found, os.stat(self.directory, follow_symlinks=False))
        except FileNotFoundError:
            return False


def check_name(name: str) -> None:
    """Raises LabError where `name` cannot be a lab's."""
    if not NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot be a lab's name: use up to 31 small letters, digits and dashes, no dash first."
        )


def read_entry(path: Path) -> Process | None:
    """What an entry says; None where it is missing or damaged."""
    try:
        entry = json.loads(path.read_text())
        return Process(int(entry["pid"]), int(entry["start"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
