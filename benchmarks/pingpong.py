"""One datagram there and back, many times, one after the other: what a request waits. Runs inside pods.

    pingpong.py answer ADDRESS          prints {"listening": PORT}, answers until it is ended
    pingpong.py ask ADDRESS PORT COUNT  prints {"answered": N, "p50_us": T}

Standard library only. The two ends' own time is in the figure, the same for whatever lies between them.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time

BYTES = 64
PATIENCE_S = 1.0
WARM_UP = 20
"""Round trips that resolve neighbours and fill caches, and are not counted."""


def answer(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        print(json.dumps({"listening": server.getsockname()[1]}), flush=True)
        while True:
            data, sender = server.recvfrom(BYTES)
            server.sendto(data, sender)


def ask(address: str, port: int, count: int) -> None:
    times: list[int] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect((address, port))
        for number in range(-WARM_UP, count):
            wanted = number.to_bytes(8, "big", signed=True).ljust(BYTES, b".")
            start = time.perf_counter_ns()
            client.send(wanted)
            try:
                found = client.recv(BYTES)
            except TimeoutError:
                continue
            if number >= 0 and found == wanted:
                times.append(time.perf_counter_ns() - start)
    print(json.dumps({"answered": len(times), "p50_us": statistics.median(times) / 1000 if times else None}))


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2])
    else:
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
