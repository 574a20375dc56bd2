"""Where tulled's socket lies, for words that need nothing else of its settings: they must not cost what reading all of
them costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from tulle.config.core_options import CONFIG_FILE

F = TypeVar("F", bound=Callable[..., Any])

RUN_DIR = "/run/tulle"


def run_dir_option(command: F) -> F:
    """`--run-dir`, as the argument `run_dir: Path`: the flag, TULLED_RUN_DIR, the config file, the default."""
    return click.option(
        "--run-dir",
        type=click.Path(path_type=Path),
        envvar="TULLED_RUN_DIR",
        default=configured,
        show_default=RUN_DIR,
        help="tulled's.",
    )(command)


def configured(environ: Mapping[str, str] = os.environ, default_file: str = CONFIG_FILE) -> Path:
    """What the config file says, where there is one that can be read. What is wrong with it, tulled says."""
    file = environ.get("TULLED_CONFIG_FILE") or default_file
    if not os.path.exists(file):
        return Path(RUN_DIR)
    import tomllib

    try:
        found = tomllib.loads(Path(file).read_text())
    except (OSError, ValueError, RecursionError):
        return Path(RUN_DIR)
    value = found.get("run-dir", found.get("run_dir"))
    return Path(value) if isinstance(value, str) and value else Path(RUN_DIR)
