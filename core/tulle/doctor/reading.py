"""How checks look at this node: files, sysctls, other programs' output. What cannot be read is None."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

PROC_SYS = Path("/proc/sys")


def text(path: Path | str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def sysctl(key: str, root: Path = PROC_SYS) -> str | None:
    """`key` as a path below /proc/sys: "net/ipv4/ip_forward"."""
    found = text(root / key)
    return found.strip() if found is not None else None


def own_processes() -> dict[int, list[str]]:
    """Pid -> command line of the processes of this network namespace (other nodes of a lab are in others)."""
    here = os.readlink("/proc/self/ns/net")
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/net") == here:
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                    found[int(entry.name)] = words.split("\0") if words else []
    return found


class CommandFailed(Exception):
    """A program is there and did not do what it was asked to. The text says why."""


async def output(argv: Sequence[str]) -> str | None:
    """What a program prints; None where there is no such program. Raises CommandFailed."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandFailed(f"{argv[0]} cannot be run ({error.strerror})") from error
    try:
        printed, errors = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        said = errors.decode(errors="replace").strip().splitlines()
        raise CommandFailed(f"{' '.join(argv)}: {said[0] if said else f'status {process.returncode}'}")
    return printed.decode(errors="replace")
