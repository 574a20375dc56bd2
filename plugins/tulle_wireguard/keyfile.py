"""The file that holds this node's private key, made once and kept over restarts and reboots.

Its first line is the key, as `wg genkey` writes it. While a key that was replaced is still taken (`tulle wireguard
rotate-key`), a second line holds that: "previous <key> until <seconds of Unix time>".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tulle.files import write_atomically
from tulle_wireguard.constants import KEY_BYTES
from tulle_wireguard.crypto import public_key
from tulle_wireguard.keytext import key_bytes, key_text

MODE = 0o600
LONGEST_FILE = 1024
"""Bytes; ours have at most 120."""
_FIRST, _LAST_CLEAR, _LAST_SET = 0xF8, 0x7F, 0x40
"""Clamping (RFC 7748 section 5), as `wg genkey` does it."""


class KeyFileError(ValueError):
    """The key cannot be read or kept. The text says what to do."""


class Keys(NamedTuple):
    """What the file holds. Its repr shows no secret."""

    private: bytes
    previous: bytes = b""
    """Still taken until then; empty: none."""
    until: float = 0.0
    """Unix time."""

    def __repr__(self) -> str:
        return f"Keys(public={key_text(self.public)}, rotating={bool(self.previous)})"

    @property
    def public(self) -> bytes:
        return public_key(self.private)

    def former(self, unix_s: float) -> bytes:
        """The public key of `accepted`; empty where there is none."""
        accepted = self.accepted(unix_s)
        return public_key(accepted) if accepted else b""

    def accepted(self, unix_s: float) -> bytes:
        """The previous key where its time has not passed; else empty."""
        return self.previous if unix_s < self.until else b""


def load_keys(path: Path, random_bytes: Callable[[int], bytes]) -> Keys:
    """The keys of this file; a new one where there is no file. One that cannot be read or makes no sense is never
    overwritten. Raises KeyFileError."""
    try:
        data = _read(path)
    except FileNotFoundError:
        fresh = Keys(new_private(random_bytes))
        save_keys(path, fresh)
        return fresh
    except OSError as error:
        raise KeyFileError(
            f"{path}: this node's WireGuard key cannot be read ({error.strerror}); mend that, or remove the file: "
            "the node then gets a new key, which the others learn from its lease"
        ) from error
    keys = _parsed(data)
    if keys is None:
        raise KeyFileError(
            f"{path}: holds no WireGuard key (a line as `wg genkey` writes it); restore the file, or remove it: the "
            "node then gets a new key, which the others learn from its lease"
        )
    return keys


def save_keys(path: Path, keys: Keys) -> None:
    """Whole or not at all, and on the disk when it returns. Raises KeyFileError."""
    lines = [key_text(keys.private)]
    if keys.previous:
        lines.append(f"previous {key_text(keys.previous)} until {keys.until:.0f}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, ("\n".join(lines) + "\n").encode(), mode=MODE)
        _sync_directory(path.parent)
    except OSError as error:
        raise KeyFileError(
            f"{path}: this node's WireGuard key cannot be written ({error.strerror}); make that directory writable, "
            "or name another with --state-dir"
        ) from error


def new_private(random_bytes: Callable[[int], bytes]) -> bytes:
    """Clamped, so that every program shows the same text for it."""
    key = bytearray(random_bytes(KEY_BYTES))
    key[0] &= _FIRST
    key[-1] = key[-1] & _LAST_CLEAR | _LAST_SET
    return bytes(key)


def _read(path: Path) -> bytes:
    """Never waits: what is no plain file (a pipe, a device) is refused by what it holds."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, LONGEST_FILE)
    finally:
        os.close(descriptor)


def _parsed(data: bytes) -> Keys | None:
    try:
        lines = data.decode("ascii").split("\n")
        private = key_bytes(lines[0].rstrip())
        if not any(private):
            return None
        rest = [line for line in lines[1:] if line.strip()]
        if not rest:
            return Keys(private)
        word, previous, until_word, until = rest[0].split()
        if (len(rest), word, until_word) != (1, "previous", "until"):
            return None
        return Keys(private, key_bytes(previous), float(int(until)))
    except ValueError:
        return None


def _sync_directory(path: Path) -> None:
    """The file's name is on the disk too (fsync(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
