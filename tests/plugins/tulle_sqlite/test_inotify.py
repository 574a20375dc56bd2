"""The wake-up says that a file was written, and of no other file."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from tulle_sqlite.inotify import FileWatch, concerns


def _event(name: bytes, mask: int = 2) -> bytes:
    padded = name + b"\0" * (16 - len(name) % 16) if name else b""
    return struct.pack("=iIII", 1, mask, 0, len(padded)) + padded


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (_event(b"other"), False),
        (_event(b"store.sqlite-shm") + _event(b"store.sqlite2"), False),
        (_event(b"store.sqlite-wal"), True),
        (_event(b"other") + _event(b"") + _event(b"store.sqlite"), True),
        (_event(b"", mask=0x4000), True),  # the queue overflowed: nobody knows what was lost
    ],
)
def test_events_of_other_files_are_passed_over(data: bytes, expected: bool) -> None:
    assert concerns(data, {b"store.sqlite", b"store.sqlite-wal"}) == expected


def test_a_write_to_the_log_rings(tmp_path: Path) -> None:
    async def run() -> None:
        rung = asyncio.Event()
        log = tmp_path / "store.sqlite-wal"
        log.write_bytes(b"1")
        watch = FileWatch(tmp_path / "store.sqlite", rung.set)
        assert watch.start()
        (tmp_path / "unrelated").write_bytes(b"1")
        await asyncio.sleep(0.1)
        assert not rung.is_set()
        with log.open("ab") as file:
            file.write(b"2")
        await asyncio.wait_for(rung.wait(), 10)
        rung.clear()
        watch.close()
        watch.close()
        log.write_bytes(b"3")
        await asyncio.sleep(0.1)
        assert not rung.is_set()

    asyncio.run(run())


def test_a_directory_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    async def run() -> None:
        watch = FileWatch(tmp_path / "nowhere" / "store.sqlite", lambda: None)
        assert not watch.start()
        watch.close()

    asyncio.run(run())
