"""A relay as a program of its own, in a place of a lab, between daemons and their store.

    with StoreProxy(lab, "switch", listen="192.0.2.254:2400", server="192.0.2.254:2379") as proxy:
        lab.start_tulled("n1", ["--etcd-endpoints", "http://192.0.2.254:2400"])
        proxy.freeze()

The program takes one word a line on its standard input, answers with "ok", and ends with that input.
"""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from tulle.testing.faults.places import Places
from tulle.testing.relay import Relay

ANSWER_S = 10.0
_OK = "ok"


class StoreProxy:
    """See the module; each method is that of `tulle.testing.relay.Relay`."""

    def __init__(self, places: Places, place: str, *, listen: str, server: str) -> None:
        """HOST:PORT each; the host of an IPv6 address in brackets."""
        self._places = places
        self._place = place
        self._words = [listen, server]
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tulle.testing.faults.proxy", *self._words]
        self._process = self._places.popen(
            self._place, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._expect_ok("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate()

    def cut(self) -> None:
        self._order("cut")

    def drop(self) -> None:
        self._order("drop")

    def freeze(self) -> None:
        self._order("freeze")

    def mute(self) -> None:
        self._order("mute")

    def thaw(self) -> None:
        self._order("thaw")

    def refuse(self) -> None:
        self._order("refuse")

    def accept(self) -> None:
        self._order("accept")

    def delay(self, seconds: float) -> None:
        self._order(f"delay {seconds}")

    def _order(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        self._expect_ok(line)

    def _expect_ok(self, line: str) -> None:
        assert self._process is not None
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], ANSWER_S)[0] or out.readline().strip() != _OK:
            raise RuntimeError(
                f"the store proxy did not do {line!r}: its reason is on the standard error output"
            )


async def serve(listen: str, server: str) -> None:
    """Until the end of the standard input."""
    (host, port), (server_host, server_port) = _split(listen), _split(server)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with Relay(server_port, server_host=server_host, host=host, port=port) as relay:
        print(_OK, flush=True)
        while line := (await reader.readline()).decode().split():
            await _obey(relay, *line)
            print(_OK, flush=True)


async def _obey(relay: Relay, word: str, argument: str = "") -> None:
    if word == "delay":
        relay.delay_s = float(argument)
    elif word == "accept":
        await relay.accept()
    elif word == "refuse":
        await relay.refuse()
    else:
        {
            "cut": relay.cut,
            "drop": relay.drop,
            "freeze": relay.freeze,
            "mute": relay.mute,
            "thaw": relay.thaw,
        }[word]()


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
