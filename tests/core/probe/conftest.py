"""A network namespace with nothing but loopback, for one thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tulle.lab.namespaces import CLONE_NEWNET, unshare


@pytest.fixture
def inside() -> Iterator[Callable[..., Any]]:
    """`inside(function, *arguments)` calls it there."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")
        assert thread.submit(os.system, "ip link set lo up").result() == 0
        yield lambda *arguments: thread.submit(*arguments).result()
