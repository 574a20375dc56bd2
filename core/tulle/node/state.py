"""What a node has come to so far. The daemon fills it in, step by step; status and the local API read it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Backend, Peer, Problem, Report, Underlay
from tulle.node.components import Components
from tulle.node.context import Context
from tulle.node.dataplane import UserSpace
from tulle.node.keeper import Keeper
from tulle.node.membership import Membership
from tulle.node.network import Network
from tulle.node.rundir import RunDir


class NodeState(msgspec.Struct, kw_only=True):
    """None: that step has not been reached."""

    config: DaemonConfig
    membership: Membership
    run_dir: RunDir
    keeper: Keeper
    components: Components
    network: Network | None = None
    underlay: Underlay | None = None
    context: Context | None = None
    dataplane: UserSpace | None = None
    second_planes: dict[str, UserSpace] = {}
    """By name; of a backend that needs more than one device."""
    backend: Backend | None = None
    report: Report = Report()
    """Of the last reconcile."""
    underlay_problem: Problem | None = None
    file_problem: Problem | None = None
    """Why subnet.env is not there."""
    peers: Sequence[Peer] = ()
    doing: str = "starting"
    """The step that is under way; "" when all are done."""

    def not_ready(self) -> list[str]:
        """Why packets are not carried; empty when they are."""
        if self.doing:
            return [self.doing]
        if self.file_problem is not None:
            return [f"{self.file_problem.subject} {self.file_problem.message}"]
        return [reason for plane in self.planes for reason in plane.ready()] + self.components.ready()

    @property
    def planes(self) -> list[UserSpace]:
        """All of them, the first one first."""
        return [] if self.dataplane is None else [self.dataplane, *self.second_planes.values()]

    def problems(self) -> list[Problem]:
        own = (self.underlay_problem, self.file_problem)
        kept = [*self.report.problems, *self.components.problems(), *self.keeper.problems]
        return [*(one for one in own if one is not None), *kept]
