"""The smallest worker: keeps descriptors, says who it is, can be told to hang or to fail. Run by test_supervise.

Usage: tiny_worker.py MARK DIRECTORY LISTEN-FD FINGERPRINT [mute|crash|sessions|protocol1]
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from tulle.worker import messages
from tulle.worker.serve import ControlServer


class Tiny:
    def __init__(self, fingerprint: str, sessions: bytes) -> None:
        self.fingerprint = fingerprint
        self.sessions = sessions
        self.names: list[str] = []
        self.held: list[int] = []

    def hello(self) -> messages.Hello:
        return messages.Hello(
            protocols=list(messages.PROTOCOLS),
            version="1",
            fingerprint=self.fingerprint,
            pid=os.getpid(),
            descriptors=self.names,
        )

    def descriptors(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        for one in self.held:
            os.close(one)
        self.names, self.held = list(names), list(descriptors)

    def export(self) -> tuple[Sequence[str], Sequence[int]]:
        return self.names, self.held

    def export_state(self) -> bytes:
        return self.sessions

    def import_state(self, data: bytes) -> None:
        self.sessions += b" from " + data

    def message(self, message: Any) -> Any | None:
        return None


def main(_mark: str, _directory: str, listen_fd: str, fingerprint: str, mood: str = "") -> None:
    if mood == "crash":
        raise SystemExit("this worker does not like it here")
    while mood == "mute":
        time.sleep(60)
    if mood == "protocol1":
        messages.PROTOCOLS = (1,)
    sessions = fingerprint.encode() if mood == "sessions" else b""
    decode = msgspec.msgpack.Decoder(messages.Common).decode
    server = ControlServer(socket.socket(fileno=int(listen_fd)), Tiny(fingerprint, sessions), decode)
    while not server.stopping:
        due = server.idle(time.monotonic())
        wait = 1.0 if due is None else max(0.0, due - time.monotonic())
        for fileno in select.select(server.filenos(), [], [], wait)[0]:
            server.handle(fileno)


if __name__ == "__main__":
    main(*sys.argv[1:])
