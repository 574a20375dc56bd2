"""One TCP stream whose two ends each take the SHA-256 of what they saw: what "arrives unchanged" is checked with, and
what a stream's speed is measured with.

The sender sends, closes its half and gets the receiver's count and hash as one JSON line. Its time ends there, so that
nothing that still lies in a buffer counts as moved.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import time
from collections.abc import Generator, Iterator
from typing import Any

BLOCK_BYTES = 1 << 18
NUMBER_BYTES = 8
"""Each block begins with its number, so that no two are equal and a lost or repeated one shows."""

LISTEN_BACKLOG = 1


def blocks(total: int, seed: int) -> Iterator[bytes]:
    """`total` bytes in blocks, the same for the same seed."""
    body = random.Random(seed).randbytes(BLOCK_BYTES - NUMBER_BYTES)
    number = 0
    while total > 0:
        block = (number.to_bytes(NUMBER_BYTES, "big") + body)[:total]
        yield block
        total -= len(block)
        number += 1


def send(address: str, port: int, *, total: int, seed: int, check: bool, timeout_s: float) -> dict[str, Any]:
    """Send `total` bytes. The report's "unchanged" compares both ends; without `check` (nothing is hashed) it compares
    the counts alone."""
    digest = hashlib.sha256()
    with socket.create_connection((address, port), timeout=timeout_s) as out:
        start = time.monotonic()
        for block in blocks(total, seed):
            if check:
                digest.update(block)
            out.sendall(block)
        out.shutdown(socket.SHUT_WR)
        far = json.loads(read_all(out))
        duration = time.monotonic() - start
    near = {"bytes": total, "sha256": digest.hexdigest()}
    return {
        **near,
        "unchanged": near == far,
        "received": far,
        "duration_s": round(duration, 6),
        "gbit_s": round(total * 8 / duration / 1e9, 4),
    }


def receive(bind: str, port: int, *, check: bool, timeout_s: float) -> Generator[dict[str, Any], None, None]:
    """Yields {"listening": port} when a sender can come, and what the one sender sent."""
    digest, total = hashlib.sha256(), 0
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bind, port))
        listener.listen(LISTEN_BACKLOG)
        listener.settimeout(timeout_s)
        yield {"listening": listener.getsockname()[1]}
        incoming, _ = listener.accept()
        with incoming:
            incoming.settimeout(timeout_s)
            while size := incoming.recv_into(buffer):
                total += size
                if check:
                    digest.update(buffer[:size])
            report = {"bytes": total, "sha256": digest.hexdigest()}
            incoming.sendall(json.dumps(report).encode())
    yield report


def read_all(opened: socket.socket) -> bytes:
    pieces = []
    while piece := opened.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
