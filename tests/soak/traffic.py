"""All pods of a lab ping each other all the time; how long each was not heard is asked for afterwards."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tulle.lab import Lab
from tulle.lab.inside import stop

WATCHER = (sys.executable, str(Path(__file__).with_name("watcher.py")))
ANSWER_S = 30.0
"""A watcher answers between two of its rounds; the machine may be busy."""
POLL_S = 0.2
SETTLED_S = 1.0
"""As `watcher.SETTLED_S`."""


class Silence(NamedTuple):
    """The pair of pods that was worst off."""

    seconds: float
    source: str
    address: str

    def __str__(self) -> str:
        return f"{self.source} did not hear {self.address} for {self.seconds:.1f} s"


class Traffic:
    """See `everybody_talks`."""

    def __init__(self, watchers: dict[str, subprocess.Popen[str]]) -> None:
        self._watchers = watchers

    def wait_back(self, since: float, within_s: float) -> tuple[float, list[str]]:
        """Seconds from `since` until every pod heard every other one, and which pairs did not by then."""
        deadline = since + within_s
        while True:
            found = self._ask(since)
            missing = [
                f"{pod} to {name}"
                for pod, told in found.items()
                for name in told
                if told[name]["back"] is None
            ]
            if not missing:
                return max(one["back"] for told in found.values() for one in told.values()), []
            if time.monotonic() > deadline:
                return within_s, missing
            time.sleep(POLL_S)

    def silence(self, since: float, until: float) -> Silence:
        """The longest between these moments."""
        time.sleep(max(0.0, until + SETTLED_S - time.monotonic()))
        found = self._ask(since, until)
        return max(
            Silence(one["silent"], pod, name) for pod, told in found.items() for name, one in told.items()
        )

    def _ask(self, since: float, until: float | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        question = json.dumps({"since": since, "until": until})
        for one in self._watchers.values():
            assert one.stdin is not None
            print(question, file=one.stdin, flush=True)
        return {pod: answer(one) for pod, one in self._watchers.items()}


def answer(watcher: subprocess.Popen[str]) -> Any:
    """Its next line."""
    assert watcher.stdout is not None
    if not select.select([watcher.stdout], [], [], ANSWER_S)[0]:
        raise TimeoutError(f"a watcher does not answer within {ANSWER_S:g} s")
    return json.loads(watcher.stdout.readline())


@contextmanager
def everybody_talks(lab: Lab) -> Iterator[Traffic]:
    watchers: dict[str, subprocess.Popen[str]] = {}
    try:
        for pod in lab.plan.pod_places:
            others = [one for one in lab.plan.pod_places if one != pod]
            addresses = [lab.address(one, family) for one in others for family in lab.plan.families]
            watchers[pod] = lab.popen(
                pod, [*WATCHER, *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        for one in watchers.values():
            assert answer(one) == "ready"
        yield Traffic(watchers)
    finally:
        for one in watchers.values():
            stop(one)
