"""The state file: which commands were run, so that the next tulled runs only what is needed.

It holds for one boot of the machine and one network namespace: after that nothing is left of what commands did.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from tulle.files import write_atomically
from tulle_extension.calls import Call, Done
from tulle_extension.options import ExtensionOptions

FILE = "extension.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NETWORK_NAMESPACE = Path("/proc/self/ns/net")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What extension.json says. Commands stand there as hashes, since they may hold secrets."""

    era: str = ""
    """Boot and network namespace."""
    pre: str = ""
    """The PreStartupCommand that was run."""
    data_text: str | None = None
    """What it printed."""
    post: str = ""
    """The PostStartupCommand that was run, and what it was told; "" where it has not succeeded."""
    commands: str = ""
    """The commands for peers."""
    peers: dict[str, Done] = {}
    """By lease key."""


def load(state_dir: Path, options: ExtensionOptions, era: str) -> Record:
    """What an earlier tulled did; an empty record where there was none, or its file makes no sense.

    Other commands than it ran know nothing of what those did: the add command is then run once more for each peer."""
    record = Record()
    with contextlib.suppress(OSError, ValueError):
        record = msgspec.json.decode((state_dir / FILE).read_bytes(), type=Record)
    commands = commands_hash(options)
    if record.era != era:
        return Record(era=era, commands=commands)
    if record.commands != commands:
        return msgspec.structs.replace(record, commands=commands, peers=to_be_added_again(record.peers))
    return record


def to_be_added_again(peers: dict[str, Done]) -> dict[str, Done]:
    return {key: Done(done.call, added=False) for key, done in peers.items()}


def save(state_dir: Path, record: Record) -> None:
    """Raises OSError."""
    write_atomically(state_dir / FILE, msgspec.json.encode(record), mode=0o600)


def forget(state_dir: Path) -> None:
    """Raises OSError where it cannot be removed."""
    with contextlib.suppress(FileNotFoundError):
        (state_dir / FILE).unlink()


def commands_hash(options: ExtensionOptions) -> str:
    return text_hash(options.subnet_add_command, options.subnet_remove_command)


def text_hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()


def call_hash(command: str, call: Call) -> str:
    """Of a command and what it is told."""
    told = (f"{name}={call.environment[name]}" for name in sorted(call.environment))
    return text_hash(command, call.stdin, *told)


def this_era() -> str:
    """Of this boot and this network namespace; "" for what the kernel does not say."""
    boot, namespace = "", ""
    with contextlib.suppress(OSError):
        boot = BOOT_ID.read_text().strip()
    with contextlib.suppress(OSError):
        namespace = os.readlink(NETWORK_NAMESPACE)
    return f"{boot} {namespace}"
