"""The lab: a whole cluster in namespaces on one machine, for people, tests, benchmarks and fault tools.

    with Lab(nodes=3, pods=2) as lab:
        assert lab.ping("n1/p1", "n3/p2", count=3) == 3

How it is built, from the outside in:

launch      starts `init` and gives it its user ids           (on the host)
refusal     what to say when the machine does not allow it    (pure)
init        process 1 of the lab; with it everything ends     (inside, standard library only)
enter       runs one program somewhere inside                 (crosses over, standard library only)
build       links, addresses, bridges, namespaces of nodes and pods (inside, netlink)
plan        who is called what and has which address          (pure)
stores      the store and the network config in it
registry    which labs this user has                          (on the host)
inside, daemons, cluster   the class Lab: places and programs; tulleds; up and down
traffic     ping, flood, stream: what is run inside pods to count and to measure (standard library only)
measure     runs those and reads what they report
demo        `tulle lab demo`

Nothing is imported here until it is asked for: `enter` and `init` start in milliseconds because of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tulle.lab.cluster import Lab
    from tulle.lab.errors import LabError

__all__ = ["Lab", "LabError"]


def __getattr__(name: str) -> Any:
    if name == "Lab":
        from tulle.lab.cluster import Lab

        return Lab
    if name == "LabError":
        from tulle.lab.errors import LabError

        return LabError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
