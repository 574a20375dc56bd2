"""How a node loses what it holds (both end `LeaseManager.run`; tulled says so and starts again or stops), and how it
must think again before it has anything."""

from __future__ import annotations

from tulle.contracts.subnet import DuplicateNode as DuplicateNode
from tulle.contracts.subnet import SubnetLost as SubnetLost


class ConfigChanged(ValueError):
    """The network config was changed between the caller's look at it and its subnet (while it waited for one, say).
    Nothing was taken: read the config again, and acquire with what it says now."""


def duplicate(node: str, holder: str) -> DuplicateNode:
    """`holder`: what is known of the other one."""
    return DuplicateNode(
        f"another tulled is alive under the node name {node!r} ({holder}): stop one of the two, or give this "
        "node a name of its own with --node-name. A machine that was cloned needs another host name, and its "
        "tulle state directory removed"
    )
