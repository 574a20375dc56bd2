"""What can be measured in a running lab: pings between all pairs, floods that are counted, streams that are checked.

Runs `tulle.lab.traffic` in pods (or nodes) and reads its reports.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tulle.lab.errors import LabError
from tulle.lab.inside import Inside, stop, tail

TRAFFIC = (sys.executable, "-m", "tulle.lab.traffic")

PING_WAIT_S = 2.0
DRAIN_S = 2.0
"""Silence after which what is missing is lost."""

PATIENCE_S = 20.0
"""For the first datagram, and for each step of a stream."""

END_S = 5.0
"""For a tool to end after its work."""


class FloodResult(msgspec.Struct, frozen=True):
    """What became of a flood."""

    sent: int
    received: int
    lost: int
    duplicates: int
    reordered: int
    foreign: int
    socket_drops: int
    """Lost by the receiver's own socket, part of `lost`: the tool was too slow, not the network."""
    longest_gap_ms: float
    duration_s: float


class StreamResult(msgspec.Struct, frozen=True):
    """What became of a TCP stream."""

    bytes: int
    unchanged: bool
    duration_s: float
    gbit_s: float


class Flood:
    """A flood that is under way."""

    def __init__(
        self, receiver: subprocess.Popen[str], sender: subprocess.Popen[str], longest_s: float
    ) -> None:
        self._receiver = receiver
        self._sender = sender
        self._longest_s = longest_s

    def finish(self) -> FloodResult:
        """Wait for its end. Raises LabError where a tool failed or hangs."""
        sent = report(self._sender, self._longest_s)
        counted = report(self._receiver, PATIENCE_S + DRAIN_S)
        return msgspec.convert({**counted, "sent": sent["sent"] - sent["refused"]}, FloodResult)


def ping(lab: Inside, source: str, targets: Sequence[str], count: int, family: int | None) -> dict[str, int]:
    """From one place to several: answers by place."""
    addresses = {lab.address(target, family): target for target in targets}
    with tool(lab, source, "ping", "--count", str(count), "--wait", str(PING_WAIT_S), *addresses) as process:
        answers = report(process, PING_WAIT_S + count + END_S)
    return {addresses[address]: answered for address, answered in answers.items()}


def ping_all(lab: Inside, count: int, family: int | None) -> dict[tuple[str, str], int]:
    """From every pod to every other pod, all at once: answers by (from, to)."""
    pods = lab.plan.pod_places
    found: dict[tuple[str, str], int] = {}
    running = []
    try:
        for source in pods:
            addresses = {lab.address(target, family): target for target in pods if target != source}
            if addresses:
                words = ["ping", "--count", str(count), "--wait", str(PING_WAIT_S), *addresses]
                running.append((source, addresses, start(lab, source, words)))
        for source, addresses, process in running:
            answers = report(process, PING_WAIT_S + count + len(pods) + END_S)
            found |= {(source, addresses[address]): answered for address, answered in answers.items()}
    finally:
        for _, _, process in running:
            stop(process)
    return found


@contextmanager
def flood(
    lab: Inside, source: str, target: str, *, count: int, rate: float, size: int, family: int | None
) -> Iterator[Flood]:
    """Count numbered datagrams from one place to another; see `Flood.finish`. Both tools end with the block."""
    address = lab.address(target, family)
    run = ["--count", str(count), "--run", str(secrets.randbits(32))]
    patience = ["--drain", str(DRAIN_S), "--patience", str(PATIENCE_S)]
    with tool(lab, target, "flood-receive", address, *run, *patience) as receiver:
        port = str(listening(receiver))
        rates = ["--rate", str(rate), "--size", str(size)]
        with tool(lab, source, "flood-send", address, port, *run, *rates) as sender:
            yield Flood(receiver, sender, PATIENCE_S + 3 * count / (rate or 1000.0))


def transfer(
    lab: Inside, source: str, target: str, *, total: int, check: bool, family: int | None, timeout: float
) -> StreamResult:
    """One TCP stream from one place to another."""
    address = lab.address(target, family)
    options = ["--timeout", str(PATIENCE_S)] + ([] if check else ["--no-hash"])
    with tool(lab, target, "stream-receive", address, *options) as receiver:
        port = str(listening(receiver))
        with tool(lab, source, "stream-send", address, port, "--bytes", str(total), *options) as sender:
            found = report(sender, timeout)
            report(receiver, END_S)
    return msgspec.convert(found, StreamResult)


def start(lab: Inside, place: str, words: Sequence[str]) -> subprocess.Popen[str]:
    return lab.popen(
        place,
        [*TRAFFIC, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def tool(lab: Inside, place: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = start(lab, place, words)
    try:
        yield process
    finally:
        stop(process)


def listening(process: subprocess.Popen[str]) -> int:
    """The port of a receiver that just started."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise failed(process)
    return int(json.loads(line)["listening"])


def report(process: subprocess.Popen[str], timeout: float) -> dict[str, Any]:
    """A tool's last line. Raises LabError where it failed or does not end."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{described(process)} did not end within {timeout:g} s.") from error
    if process.returncode != 0:
        raise LabError(f"{described(process)} failed:\n{tail(errors)}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def failed(process: subprocess.Popen[str]) -> LabError:
    _, errors = process.communicate()
    return LabError(f"{described(process)} failed:\n{tail(errors)}")


def described(process: subprocess.Popen[str]) -> str:
    words = list(process.args) if isinstance(process.args, list) else [process.args]
    return " ".join(str(word) for word in words[words.index("--") + 1 :])
