"""For all tests: how long hypothesis may take, and what is run first."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A machine that does other things is slow by bursts: that fails nothing. pytest-timeout ends what really hangs.
settings.register_profile("tulle", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tulle")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with labs or an etcd take longest: they come first, in whatever order they are, so that at the end no
    worker waits for another one's long file."""
    long = {item.path for item in items if any(map(item.get_closest_marker, ("lab", "etcd")))}
    items.sort(key=lambda item: item.path not in long)
