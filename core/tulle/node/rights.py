"""What tulled must be allowed to do here, looked at before anything is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tulle.config.daemon import DaemonConfig
from tulle.node import identity

CAP_NET_ADMIN = 12  # linux/capability.h
ADVICE = (
    "start it as root (sudo tulled ...), or have systemd do it: packaging/systemd/tulled.service names the "
    "capabilities that it needs"
)


def what_is_lacking(config: DaemonConfig, status: Path = Path("/proc/self/status")) -> str:
    """One message for people with everything that is lacking; "" where nothing is."""
    lacking = [*_capabilities(status), *_directories(config)]
    return f"tulled has not the rights that it needs: {'; '.join(lacking)}. {ADVICE}" if lacking else ""


def _capabilities(status: Path) -> Iterator[str]:
    """As the kernel tells (proc_pid_status(5)); where it does not tell, nothing is said."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), None)
    if mask is not None and not mask >> CAP_NET_ADMIN & 1:
        yield f"user {os.geteuid()} lacks the capability CAP_NET_ADMIN (for links, addresses, routes and the TUN)"


def _directories(config: DaemonConfig) -> Iterator[str]:
    wanted = {"--run-dir": config.run_dir}
    if not os.path.exists(identity.id_file(config.state_dir)):  # also where it may not be looked for
        wanted["--state-dir"] = config.state_dir
    for flag, path in wanted.items():
        if not _may_write(path):
            yield f"user {os.geteuid()} cannot write to {path} ({flag})"


def _may_write(path: Path) -> bool:
    """To the directory, or to the one in which it would be made."""
    there = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    return os.access(there, os.W_OK | os.X_OK, effective_ids=True)
