"""Runs one command of the operator to its end. The only file here that starts processes.

The command is an argument of `sh -c` as the operator wrote it. What peers say is in the environment and on the standard
input: it never becomes part of a command line.

Not asyncio's own subprocesses: their `wait` waits, in some releases of Python, until the outputs are closed as well
(cpython issue 119710), and something that a command leaves in the background holds them open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Mapping

import msgspec

log = logging.getLogger("tulle.extension")

MAX_OUTPUT_BYTES = 65536
"""Kept of what a command writes to each of its outputs; the rest is read and thrown away."""
LOGGED_CHARACTERS = 2000
"""Of that, what the log gets."""
CHUNK_BYTES = 65536
LINGER_S = 1.0
"""For outputs to end after the command has: something that it left in the background may hold them open."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a run."""

    error: str = ""
    """"" where its exit status was 0; else what happened, for people."""
    output: str = ""
    """Its standard output, cut at MAX_OUTPUT_BYTES, without white space at both ends."""
    cut: bool = False


class Pipe:
    """An output of a command, read as it comes."""

    def __init__(self) -> None:
        self.text = bytearray()
        """One byte more than is kept tells that there was more."""
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._far: int
        self._near, self._far = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._near, False)
        self._loop.add_reader(self._near, self._read)

    @property
    def for_command(self) -> int:
        return self._far

    def started(self) -> None:
        """The command has its end: ours of that is closed, so that we see it end."""
        os.close(self._far)
        self._far = -1

    def close(self) -> None:
        self._loop.remove_reader(self._near)
        for descriptor in (self._near, self._far):
            if descriptor >= 0:
                os.close(descriptor)
        self._near = self._far = -1

    def _read(self) -> None:
        chunk = os.read(self._near, CHUNK_BYTES)
        self.text += chunk[: MAX_OUTPUT_BYTES + 1 - len(self.text)]
        if not chunk:
            self._loop.remove_reader(self._near)
            self.ended.set()


async def run(
    name: str, command: str, environment: Mapping[str, str], stdin: str, timeout_s: float
) -> Outcome:
    """Run `command` with tulled's environment and this one; a line feed follows `stdin`, so that a shell's `read` takes
    it. What it prints is logged under `name`. Raises nothing on account of the command; where we are cancelled, and
    where the time is up, it is killed with all that it started."""
    with contextlib.ExitStack() as stack:
        output, errors = Pipe(), Pipe()
        stack.callback(output.close)
        stack.callback(errors.close)
        source = _source(stdin)
        stack.callback(os.close, source)
        try:
            process = _start(command, environment, source, output.for_command, errors.for_command)
        except OSError as error:
            return Outcome(
                f"{name} cannot be started: {error.strerror}; there must be an `sh` in tulled's PATH"
            )
        stack.callback(_end, process)
        output.started()
        errors.started()
        in_time = await _ended(process, timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await output.ended.wait()
                await errors.ended.wait()
        late_after_s = 0.0 if in_time else timeout_s
        return _outcome(name, process.wait(), late_after_s, bytes(output.text), bytes(errors.text))


def _source(text: str) -> int:
    """A file in memory: a command that does not read it holds up nobody."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text.encode(errors="replace") + b"\n")
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _start(
    command: str, environment: Mapping[str, str], stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", command],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **environment},
        start_new_session=True,
    )


async def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for its end. False: it was killed, since its time was up."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
        return True
    except TimeoutError:
        _kill(process)
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It ends when we do: a cancelled run leaves nothing behind."""
    if process.poll() is None:
        _kill(process)
        process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The command and what it started: it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _outcome(name: str, status: int, late_after_s: float, output: bytes, errors: bytes) -> Outcome:
    said = _shown(errors) or _shown(output)
    for stream, text in (("stdout", _shown(output)), ("stderr", _shown(errors))):
        if text:
            log.info("command-output of=%r %s=%r", name, stream, text)
    error = ""
    if late_after_s:
        error = f"{name} did not end within {late_after_s:g} s and was killed"
    elif status < 0:
        error = f"{name} was ended by signal {-status}"
    elif status:
        error = f"{name} ended with status {status}"
    if error and said:
        error += f": {said.splitlines()[-1]}"
    kept = output[:MAX_OUTPUT_BYTES].decode(errors="replace").strip()
    return Outcome(error, kept, cut=len(output) > MAX_OUTPUT_BYTES)


def _shown(text: bytes) -> str:
    found = text[:MAX_OUTPUT_BYTES].decode(errors="replace").strip()
    return found if len(found) <= LOGGED_CHARACTERS else f"{found[:LOGGED_CHARACTERS]}…"
