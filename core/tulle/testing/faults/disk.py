"""A disk of a few kilobytes under one directory, which can be filled up, freed and turned read-only.

with small_disk(lab, "n1", "/var/lib/tulle", 1 << 20) as disk:
    disk.fill()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tulle.testing.faults.places import Places

BALLAST = ".ballast"


class Disk:
    """Made by `small_disk`."""

    def __init__(self, places: Places, place: str, directory: str) -> None:
        self._places = places
        self._place = place
        self.directory = directory

    def fill(self) -> None:
        """Leave no byte free: the next who needs one gets ENOSPC."""
        # dd ends with a status of its own when the disk is full, and sync tells nothing new.
        self._sh('dd if=/dev/zero of="$0/$1" bs=4096 status=none oflag=append conv=notrunc || true', BALLAST)

    def free(self) -> None:
        """Take that away."""
        self._sh('rm -f "$0/$1"', BALLAST)

    def read_only(self) -> None:
        """For all programs. The kernel refuses it (as it does for a real disk) while a file there is open for
        writing: close the store first."""
        self._sh('mount -o remount,ro "$0"')

    def writable(self) -> None:
        self._sh('mount -o remount,rw "$0"')

    def _sh(self, script: str, *arguments: str) -> None:
        self._places.run(self._place, ["sh", "-c", script, self.directory, *arguments])


@contextmanager
def small_disk(places: Places, place: str, directory: str | Path, size_bytes: int) -> Iterator[Disk]:
    """A tmpfs of that size over an existing directory, with a copy of what was there. Who has files open there keeps
    the old ones: put it there before the program starts."""
    disk = Disk(places, place, str(directory))
    disk._sh('set -e; new=$(mktemp -d); mount -t tmpfs -o "size=$1" tulle-fault "$new"; cp -a "$0/." "$new/"; '
             'mount --move "$new" "$0"; rmdir "$new"', str(size_bytes))  # fmt: skip
    try:
        yield disk
    finally:
        disk._sh('umount --lazy "$0"')
