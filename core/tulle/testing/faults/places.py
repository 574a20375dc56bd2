"""Where a fault is done: anything that runs programs in places. `tulle.lab.Lab` does."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any, Protocol


class Places(Protocol):
    """A place is a text that only the implementation understands: "n1", "n1/p2" or "switch" in a lab."""

    def run(
        self,
        place: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = ...,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end; with `check`, raises where its exit status is not 0."""
        ...

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program there; it ends when its handle is terminated. `options` are Popen's."""
        ...
