"""Short directories for sockets, the kernel tests' network namespace, and a node that has not begun yet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.kernel.conftest import netns as netns
from tulle.kernel.netlink import Netlink
from tulle.node.components import Components
from tulle.node.keeper import Keeper
from tulle.node.membership import open_membership
from tulle.node.rundir import RunDir
from tulle.node.settings import gather
from tulle.node.state import NodeState
from tulle.plugins import load_plugins


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A Unix socket's path has at most 107 bytes (unix(7)), pytest's own directories are longer."""
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)


@pytest.fixture
def make_node(tmp_path: Path) -> Callable[[], NodeState]:
    """What the API's methods work on, before the first step; to be called where an event loop runs."""

    def make() -> NodeState:
        plugins = load_plugins()
        places = [f"--{name}-dir={tmp_path / name}" for name in ("run", "state")]
        config = gather(plugins, ["--node-name=n1", "--store=memory", *places], {}, "").config
        assert config is not None
        return NodeState(
            config=config,
            membership=open_membership(config, plugins),
            run_dir=RunDir(config.run_dir),
            keeper=Keeper(Netlink()),
            components=Components(plugins, config.options),
        )

    return make
