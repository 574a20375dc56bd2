"""An hour of faults over five nodes, one or two at a time, with a look at everything after each: `make soak`.

SOAK_S    seconds (default 3600)
SOAK_SEED the seed of another run, which is printed first: the same faults on the same nodes in the same order
SOAK_ONLY kinds of `faults.KINDS` to choose from, by comma, to find out about one
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from soak.checker import Checker
from soak.faults import KINDS, Kind, Scene
from soak.record import Record, Step
from soak.traffic import Traffic, everybody_talks
from tulle.lab import Lab
from tulle.lab.registry import Registry

NODES = 5
BACK_S = 10.0
"""Within this all pods hear each other again when a fault's cause is gone."""
BLINK_S = 1.5
"""Of silence at a fault that pods must not notice: a busy machine's, far less than any repair takes."""
TWO_AT_ONCE = 0.3
"""Of the steps."""
SHORT_S, LONG_S, LONG = (0.2, 6.0), (30.0, 45.0), 0.05
"""How long a fault lasts; the share of those that outlast the sign of life that other nodes go by (30 s)."""
MOST_VIOLATIONS = 5
"""Of steps: then the cluster is no more what it should be, and what follows says little."""
MORE_S = 300
"""For the lab, the last step and the end."""

SECONDS = int(os.environ.get("SOAK_S", "3600"))
SEED = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(1 << 32))))
ONLY = [name for name in os.environ.get("SOAK_ONLY", "").split(",") if name]

pytestmark = [pytest.mark.soak, pytest.mark.lab, pytest.mark.etcd, pytest.mark.timeout(SECONDS + MORE_S)]


def decks(rng: random.Random) -> Iterator[Kind]:
    """All kinds in some order, over and over: none is left out for long."""
    kinds = [one for one in KINDS if not ONLY or one.name in ONLY]
    if not kinds:
        raise ValueError(f"SOAK_ONLY={','.join(ONLY)}: there are {', '.join(one.name for one in KINDS)}")
    while True:
        yield from rng.sample(kinds, len(kinds))


class Soak:
    """The lab, its pods' talk, and what was seen."""

    def __init__(self, lab: Lab, traffic: Traffic, seed: int) -> None:
        self.lab, self.traffic = lab, traffic
        self.record = Record(seed)
        self.checker = Checker(lab)
        self._rng = random.Random(seed)
        self._kinds = decks(self._rng)

    def step(self) -> Step:
        kinds = [next(self._kinds)]
        if self._rng.random() < TWO_AT_ONCE:
            kinds += [one for one in [next(self._kinds)] if not (one.store and kinds[0].store)]
        nodes = self._rng.sample(self.lab.plan.node_names, len(kinds))
        lasts = self._rng.uniform(*(LONG_S if self._rng.random() < LONG else SHORT_S))
        faults = tuple(f"{kind.name} on {node}" for kind, node in zip(kinds, nodes, strict=True))
        scenes = [Scene(self.lab, node, random.Random(self._rng.random())) for node in nodes]
        print(f"step {len(self.record.steps) + 1}: {', '.join(faults)}, {lasts:.1f} s", flush=True)
        wrong: list[str] = []
        began = time.monotonic()
        with ExitStack() as stack:
            for kind, scene in zip(kinds, scenes, strict=True):
                stack.enter_context(kind.happens(scene))
            wrong += self._while_it_lasts(kinds, lasts)
        gone = time.monotonic()
        back_s, missing = self.traffic.wait_back(gone, BACK_S)
        if missing:
            wrong.append(f"traffic is not back after {BACK_S:g} s: {', '.join(missing)}")
        wrong += self.checker.violations()
        silence = self.traffic.silence(began, gone)
        if all(kind.harmless for kind in kinds) and silence.seconds > BLINK_S:
            wrong.append(f"pods noticed it: {silence}")
        step = Step(
            len(self.record.steps) + 1, faults, back_s, silence.seconds, self.checker.ready_s, tuple(wrong)
        )
        self.record.steps.append(step)
        for one in wrong:
            print(f"    VIOLATION {one}", flush=True)
        return step

    def _while_it_lasts(self, kinds: list[Kind], lasts: float) -> list[str]:
        begun = time.monotonic()
        wrong = []
        unlearned = any(kind.learned for kind in kinds) and any(
            not (kind.learned or kind.momentary) for kind in kinds
        )
        if all(kind.works or kind.harmless for kind in kinds) and not unlearned:
            _, missing = self.traffic.wait_back(begun, BACK_S)
            if missing:
                wrong.append(f"traffic is not back after {BACK_S:g} s while it lasts: {', '.join(missing)}")
        if not all(kind.momentary for kind in kinds):
            time.sleep(max(0.0, begun + lasts - time.monotonic()))
        return wrong

    def summary(self, seconds: float) -> str:
        more = {
            "descriptors more than at a process's start, at most": self.checker.most_descriptors,
            "memory more than at a process's start, at most": f"{self.checker.most_bytes / 2**20:.1f} MiB",
            "log lines of a node in a step, at most": self.checker.most_log_lines,
        }
        return self.record.text(seconds, more)

    def logs(self) -> str:
        return "\n".join(f"log of {node}:\n{self.lab.log_tail(node)}" for node in self.lab.plan.node_names)


def test_a_cluster_stands_whatever_happens_to_it(soak_registry: Registry) -> None:
    print(f"\nsoak: SOAK_SEED={SEED} SOAK_S={SECONDS}", flush=True)
    with (
        Lab(nodes=NODES, pods=1, store="etcd", family="dual", registry=soak_registry) as lab,
        everybody_talks(lab) as traffic,
    ):
        soak = Soak(lab, traffic, SEED)
        began = time.monotonic()
        broken = 0
        try:
            while time.monotonic() - began < SECONDS and broken < MOST_VIOLATIONS:
                if soak.step().violations:
                    broken += 1
                    print(soak.logs(), flush=True)
        finally:
            print(soak.summary(time.monotonic() - began), flush=True)
    assert soak.record.violations == []
