"""Running `tulle` in this process, on a store of the test's own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tulle.cli.main import main


class Said(msgspec.Struct):
    """What a command did."""

    status: int
    out: str
    err: str


Tulle = Callable[..., Said]


@pytest.fixture
def tulle(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tulle:
    """`tulle("config", "show", ..., stdin="...")`, without the environment's settings."""
    for name in os.environ:
        if name.startswith(("TULLED_", "FLANNELD_")):
            monkeypatch.delenv(name)

    def run(*words: object, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, ...]:
    """Flags that name an sqlite store of this test, and a run directory in which nothing runs."""
    return (
        "--store=sqlite",
        f"--sqlite-file={tmp_path / 'store.sqlite'}",
        f"--run-dir={tmp_path / 'run'}",
        f"--state-dir={tmp_path / 'state'}",
    )
