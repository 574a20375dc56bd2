"""The lab's own ICMP echo. That it agrees with the system's ping is tested in test_build."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tulle.lab.namespaces import CLONE_NEWNET, unshare
from tulle.lab.ping import family_of, ping


@pytest.fixture
def loopback() -> Iterator[Any]:
    """Calls functions in a network namespace of their own, with nothing but loopback."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")
        thread.submit(os.system, "ip link set lo up").result()
        yield lambda *arguments: thread.submit(*arguments).result()


def test_the_family_is_that_of_the_address() -> None:
    assert (family_of("10.0.0.1"), family_of("fd00::1")) == (4, 6)


def test_each_of_several_addresses_of_both_families_has_its_own_count(loopback: Any) -> None:
    addresses = ["127.0.0.1", "127.0.0.2", "::1", "192.0.2.9"]
    assert loopback(ping, addresses, 3, 0.01, 0.2, 56) == {
        "127.0.0.1": 3,
        "127.0.0.2": 3,
        "::1": 3,
        "192.0.2.9": 0,
    }
