"""Who this node is: a random id that survives reboots (in the state directory), and the kernel's boot id.

The name says which node; the id tells two machines apart that were given one name.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from tulle.files import write_atomically

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ID_BYTES = 16


class IdentityError(Exception):
    """The node's id cannot be read or kept. The text says what to do."""


def id_file(state_dir: Path) -> Path:
    return state_dir / "id"


def node_id(state_dir: Path) -> str:
    """The id in `<state-dir>/id`, made at the first start. An unreadable or damaged one is never overwritten.
    Raises IdentityError."""
    path = id_file(state_dir)
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return _create(path)
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityError(f"{path}: cannot be read ({error}); mend or remove the file") from error
    if len(text) != 2 * ID_BYTES or not set(text) <= set("0123456789abcdef"):
        raise IdentityError(
            f"{path}: {text[:40]!r} is not an id (32 hexadecimal digits); restore the file, or remove it: "
            "this node then waits until its former self is forgotten (30 s)"
        )
    return text


def _create(path: Path) -> str:
    text = secrets.token_hex(ID_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, f"{text}\n".encode(), mode=0o600)
    except OSError as error:
        raise IdentityError(
            f"{path}: cannot be written ({error.strerror}); make that directory writable, or name another "
            "with --state-dir"
        ) from error
    return text


def boot_id() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
