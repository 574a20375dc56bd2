"""A memory world on a virtual clock."""

from __future__ import annotations

import random

import pytest

from tulle.testing.clock import VirtualClock
from tulle_memory.store import MemoryStore, MemoryWorld


class Shelf:
    """A world, its clock, and a client that stands for everybody else."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.world = MemoryWorld(self.clock.now)
        self.clock.on_move.append(self.world.expire)
        self.other = self.world.client()
        self.rng = random.Random(7)

    def client(self) -> MemoryStore:
        return self.world.client()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()
