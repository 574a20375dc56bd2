"""The tulleds of a lab: started, killed, asked for their status, waited for."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulle.lab.errors import LabError
from tulle.lab.init import LAB_DIR
from tulle.lab.inside import Inside, tail
from tulle.lab.plan import RUN_DIR, SUBNET_FILE, NodeNet, Place, Plan, parse_subnet_env
from tulle.node.client import ApiError, Client, NotRunning

TULLED = (sys.executable, "-m", "tulle.node.main")

READY_S = 30.0
"""Time for all nodes to be ready; a quiet machine needs 3 s."""

END_S = 10.0
"""Time for a daemon to end after a signal."""

ANSWER_S = 5.0
"""Time for a tulled to answer on its socket."""

POLL_S = 0.02

ENDING = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Daemons(Inside):
    """See the module. `node` is "n1", "n2", ..."""

    def __init__(self, plan: Plan, tulled: Sequence[str] = TULLED) -> None:
        """`tulled` is the command that starts a daemon; the lab appends the flags."""
        super().__init__(plan)
        self._tulled = list(tulled)

    def start_tulled(self, node: str, extra_args: Sequence[str] = ()) -> None:
        """Start a node's tulled; `wait_ready` waits until it works."""
        if self._find(node, is_tulled):
            raise LabError(f"The tulled of {node} runs already.")
        command = [*self.plan.tulled_command(node, self._tulled), *extra_args]
        self.detached(node, command, f"{LAB_DIR}/logs/{node}.log")

    def tulled_pid(self, node: str) -> int | None:
        """The pid, outside, of a node's tulled; None where it does not run."""
        return self._find(node, is_tulled)

    def forwarder_pid(self, node: str) -> int | None:
        """The pid, outside, of a node's forwarder; None where it does not run."""
        return self._find(node, is_forwarder)

    def kill_tulled(self, node: str, number: int = signal.SIGKILL) -> None:
        """Signal a node's tulled; where the signal ends it, wait for that. Raises LabError where it does not run."""
        self._kill(node, self.tulled_pid(node), "tulled", number)

    def kill_forwarder(self, node: str, number: int = signal.SIGKILL) -> None:
        """The same for the forwarder."""
        self._kill(node, self.forwarder_pid(node), "forwarder", number)

    def logs(self, node: str) -> str:
        """What the tulleds of a node have written, the newest last."""
        try:
            return (self.directory / "logs" / f"{node}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def log_tail(self, node: str) -> str:
        """The end of that, indented, for an error."""
        return tail(self.logs(node))

    def status(self, node: str) -> dict[str, Any]:
        """What GET /v1/status of a node's tulled answers. Raises LabError where it does not answer."""
        run_dir = self._node_file(node, RUN_DIR)
        if run_dir is None:
            raise LabError(f"The tulled of {node} does not run. Its log ends:\n{self.log_tail(node)}")
        try:
            found: dict[str, Any] = Client(run_dir, ANSWER_S).get("status")
        except (NotRunning, ApiError) as error:
            raise LabError(f"The tulled of {node} does not answer: {error}") from error
        return found

    def wait_subnets(self, timeout: float = READY_S) -> dict[str, NodeNet]:
        """Wait until each tulled has written its subnet.env. Raises LabError, with the log's end, where one ends
        before that or takes too long."""
        found: dict[str, NodeNet] = {}

        def missing() -> str:
            for node in self.plan.node_names:
                if node not in found:
                    net = self._read_subnet(node)
                    if net is None:
                        return node
                    found[node] = net
            return ""

        self._wait(missing, "has no subnet", timeout)
        return found

    def wait_ready(self, timeout: float = READY_S) -> None:
        """Wait until every tulled answers, is ready and carries packets to all other nodes."""
        self._wait(self._first_unready, "is not ready", timeout)

    def _first_unready(self) -> str:
        for node in self.plan.node_names:
            try:
                status = self.status(node)
            except LabError:
                return node
            if not is_ready(status, self.plan.nodes - 1):
                return node
        return ""

    def _wait(self, first_missing: Callable[[], str], what: str, timeout: float) -> None:
        """Poll until `first_missing` names no node any more."""
        deadline = time.monotonic() + timeout
        while node := first_missing():
            ended = self.tulled_pid(node) is None
            if ended or time.monotonic() > deadline:
                how = "has ended" if ended else f"{what} after {timeout:g} s"
                raise LabError(f"The tulled of {node} {how}. Its log ends:\n{self.log_tail(node)}")
            time.sleep(POLL_S)

    def _read_subnet(self, node: str) -> NodeNet | None:
        path = self._node_file(node, SUBNET_FILE)
        try:
            return parse_subnet_env(path.read_text()) if path else None
        except FileNotFoundError:
            return None

    def _node_file(self, node: str, path: str) -> Path | None:
        """A file of a node as a path outside, by way of its tulled; None where that does not run."""
        pid = self.tulled_pid(node)
        return Path(f"/proc/{pid}/root{path}") if pid else None

    def _find(self, node: str, wanted: Callable[[Sequence[str]], bool]) -> int | None:
        place = Place(self.place(node).node)
        return next((one.pid for one in self.residents() if one.place == place and wanted(one.argv)), None)

    def _kill(self, node: str, pid: int | None, what: str, number: int) -> None:
        if pid is None:
            raise LabError(f"The {what} of {node} does not run.")
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, number)
            if number in ENDING and not select.select([handle], [], [], END_S)[0]:
                raise LabError(f"The {what} of {node} did not end within {END_S:g} s of signal {number}.")
        finally:
            os.close(handle)


def is_ready(status: Mapping[str, Any], others: int) -> bool:
    """Whether a tulled is ready, knows that many other nodes, and its data plane has been told of them."""
    plane = status["dataplane"]
    settled = plane.get("generation_applied") == plane.get("generation_wanted")
    return bool(status["ready"]) and len(status["peers"]) >= others and settled


def is_tulled(argv: Sequence[str]) -> bool:
    return "--node-name" in argv and not is_forwarder(argv)


def is_forwarder(argv: Sequence[str]) -> bool:
    return any("tulle-forwarder" in word for word in argv)
