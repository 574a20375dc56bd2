"""A mount and a network namespace for one test, without a lab: what is mounted or linked there is nobody else's.

    with Apart() as apart, small_disk(apart, HERE, tmp_path, 1 << 20) as disk:
        apart.run(HERE, ["touch", str(tmp_path / "a")])

Needs no root where the kernel gives user namespaces. It ends with the block, or with the process that made it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

HERE = "here"
"""The one place there."""
RUN_S = 60.0
_READY = "ready"


class NoNamespaces(Exception):
    """This kernel, or its administrator, gives none."""


class Apart:
    """See the module. A `places.Places`. Entering it raises NoNamespaces."""

    def __init__(self) -> None:
        self._keeper: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # It lives as long as the pipe to it is open, so it ends with us also after kill -9.
        keep = f"ip link set lo up; echo {_READY}; exec cat"
        self._keeper = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", keep],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline().strip() != _READY:
            _, said = self._keeper.communicate()
            raise NoNamespaces(f"no user, mount and network namespaces here: {said.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.communicate()

    def command(self, place: str, argv: Sequence[str]) -> list[str]:
        """A command line for outside that runs `argv` inside, as the same process."""
        assert self._keeper is not None, "not entered"
        if place != HERE:
            raise ValueError(f"{place!r}: the only place here is {HERE!r}")
        enter = ["nsenter", "--preserve-credentials", f"--target={self._keeper.pid}"]
        return [*enter, "--user", "--mount", "--net", "--wd=/", "--", *argv]

    def run(
        self,
        place: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = RUN_S,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """See `Places`. Raises RuntimeError, with what the program wrote, where `check` fails."""
        done = subprocess.run(
            self.command(place, argv), input=input or "", capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)!r} ended with status {done.returncode}: {done.stderr}")
        return done

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See `Places`."""
        return subprocess.Popen(self.command(place, argv), **options)
