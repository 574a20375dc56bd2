"""`python -m tulle.lab.traffic`: the lab's traffic tools, run inside pods. Each prints one JSON object a line.

    ping ADDRESS...                       how many echo requests each address answered
    flood-receive / flood-send            UDP with sequence numbers: lost, repeated, overtaken, longest gap
    stream-receive / stream-send          TCP with a hash at both ends: unchanged, and how fast

A receiver prints {"listening": PORT} first: then its sender can start. Standard library only, quick to start.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from tulle.lab import flood, ping, stream


def parser() -> argparse.ArgumentParser:
    tool = argparse.ArgumentParser(prog="python -m tulle.lab.traffic", description="The lab's traffic tools.")
    words = tool.add_subparsers(dest="word", required=True)

    echo = words.add_parser("ping", help="ICMP echo to many addresses at once")
    echo.add_argument("addresses", nargs="+")
    echo.add_argument("--count", type=int, default=1)
    echo.add_argument("--interval", type=float, default=0.05, metavar="SECONDS")
    echo.add_argument("--wait", type=float, default=2.0, metavar="SECONDS", help="for the last answers")
    echo.add_argument("--size", type=int, default=56, metavar="BYTES", help="payload")

    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--count", type=int, default=20000, help="datagrams")
    both.add_argument("--run", type=int, default=1, help="the same number on both sides")
    receive = words.add_parser("flood-receive", parents=[both], help="count numbered datagrams")
    receive.add_argument("bind")
    receive.add_argument("--port", type=int, default=0)
    receive.add_argument("--drain", type=float, default=2.0, metavar="SECONDS", help="of silence end it")
    receive.add_argument("--patience", type=float, default=20.0, metavar="SECONDS", help="for the first one")
    send = words.add_parser("flood-send", parents=[both], help="send numbered datagrams")
    send.add_argument("address")
    send.add_argument("port", type=int)
    send.add_argument("--rate", type=float, default=5000.0, help="datagrams a second; 0: as fast as possible")
    send.add_argument("--size", type=int, default=64, metavar="BYTES", help="payload")

    ends = argparse.ArgumentParser(add_help=False)
    ends.add_argument("--no-hash", action="store_true", help="speed only")
    ends.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each step")
    receive = words.add_parser("stream-receive", parents=[ends], help="receive one TCP stream")
    receive.add_argument("bind")
    receive.add_argument("--port", type=int, default=0)
    send = words.add_parser("stream-send", parents=[ends], help="send one TCP stream")
    send.add_argument("address")
    send.add_argument("port", type=int)
    send.add_argument("--bytes", type=int, default=64 << 20)
    send.add_argument("--seed", type=int, default=1)
    return tool


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 where a receiver or sender could not do its work; losses are no failure, they are the result."""
    given = parser().parse_args(argv)
    try:
        run(given)
    except (OSError, ValueError) as error:
        print(f"{given.word}: {error}", file=sys.stderr)
        return 1
    return 0


def run(given: argparse.Namespace) -> None:
    match given.word:
        case "ping":
            say(ping.ping(given.addresses, given.count, given.interval, given.wait, given.size))
        case "flood-receive":
            for line in flood.receive(
                given.bind,
                given.port,
                count=given.count,
                run=given.run,
                drain_s=given.drain,
                patience_s=given.patience,
            ):
                say(line)
        case "flood-send":
            rates = {"count": given.count, "rate": given.rate, "size": given.size}
            say(flood.send(given.address, given.port, run=given.run, **rates))
        case "stream-receive":
            check = not given.no_hash
            for line in stream.receive(given.bind, given.port, check=check, timeout_s=given.timeout):
                say(line)
        case "stream-send":
            check = not given.no_hash
            work = {"total": given.bytes, "seed": given.seed, "timeout_s": given.timeout}
            say(stream.send(given.address, given.port, check=check, **work))


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
