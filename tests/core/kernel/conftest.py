"""A network namespace of the test's own, in a thread: nothing of the machine is seen or touched."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

CLONE_NEWNET = 0x40000000  # linux/sched.h

T = TypeVar("T")


def _enter_new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """Runs functions in one thread that lives in its own network namespace. `ip` is iproute2, the witness."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        return self._thread.submit(function, *arguments).result()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        def run() -> T:
            return asyncio.run(coroutine)

        return self.call(run)

    def ip(self, words: str) -> str:
        def run() -> str:
            done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"ip {words}: {done.stderr}"
            return done.stdout

        return self.call(run)

    def batch(self, lines: str) -> None:
        """`ip -batch`: many commands at once."""

        def run() -> None:
            subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)

        self.call(run)

    def json(self, words: str) -> Any:
        return json.loads(self.ip(f"-j {words}") or "[]")


@pytest.fixture
def netns() -> Iterator[Namespace]:
    """It goes when the thread has ended and the test's sockets are closed."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(_enter_new_namespace).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")
        namespace = Namespace(thread)
        namespace.ip("link set lo up")
        yield namespace
