"""Room on the file system of the state directory."""

from __future__ import annotations

import os
from pathlib import Path

from tulle.contracts.doctor import DoctorContext, Finding

LOW_BYTES = 256 << 20
"""Below: a warning. A busy cluster's sqlite store with its log needs tens of megabytes."""
OUT_BYTES = 8 << 20
"""Below: an error. sqlite's write-ahead log alone can take 4 MB."""
LOW_FILES = 1000


async def check(ctx: DoctorContext) -> list[Finding]:
    path = existing(ctx.state_dir)
    found = os.statvfs(path)
    return [judge(str(path), found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)]


def existing(path: Path) -> Path:
    """The directory, or the nearest one above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def judge(path: str, free_bytes: int, free_files: int | None) -> Finding:
    """Pure. `free_files`: inodes, None where the file system does not count them."""
    megabytes = f"{free_bytes / (1 << 20):.0f} MiB free"
    out_of_files = free_files is not None and free_files < LOW_FILES
    if free_bytes >= LOW_BYTES and not out_of_files:
        return Finding(severity="ok", subject=path, what=megabytes)
    what = f"{free_files} more files fit (no inodes left)" if out_of_files else megabytes
    return Finding(
        severity="error" if free_bytes < OUT_BYTES or free_files == 0 else "warning",
        subject=path,
        what=what,
        why="the store and the node's identity lie there: when a write fails, leases are not renewed",
        mend=f"du -xh {path} | sort -h | tail  # then remove what is not needed",
    )
