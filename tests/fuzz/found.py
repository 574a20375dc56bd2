"""The targets: each file of `targets/` is one, with `target(data)`, which raises where something is wrong, and SEEDS.
One that holds something open has `close()` too."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent / "targets"


class Target(NamedTuple):
    """One parser, or a few that belong together."""

    name: str
    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    close: Callable[[], None]


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py"))


def load(name: str) -> Target:
    """Raises ModuleNotFoundError. Until it is closed nothing is logged: hostile bytes have much to say."""
    module = importlib.import_module(f"fuzz.targets.{name}")
    logging.disable(logging.CRITICAL)

    def close() -> None:
        logging.disable(logging.NOTSET)
        getattr(module, "close", lambda: None)()

    return Target(name, module.target, module.SEEDS, close)
