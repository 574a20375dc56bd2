"""tulled's own methods of the local API. Plugins add theirs by `tulle_api_methods`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tulle.contracts.specs import ApiMethod
from tulle.node import describe, status
from tulle.node.answers import DownAnswer, ReplaceAnswer, Replaced, StatusAnswer, StoreSettings
from tulle.node.state import NodeState
from tulle.worker.session import WorkerGone

Remove = Callable[[bool], Awaitable[list[str]]]
"""Takes everything away (True: the lease too), returns a line for each thing, and then ends tulled."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Takes nothing."""


class StatusQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the status."""

    peer: Annotated[
        str, Meta(description="Only the peers with this name, lease key, subnet or address.", max_length=256)
    ] = ""


class DownBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much to take away."""

    release: Annotated[bool, Meta(description="Give the lease back to the cluster, too.")] = False


class Served(msgspec.Struct, frozen=True):
    """What the methods work on."""

    node: NodeState
    remove: Remove
    all: Sequence[ApiMethod]


async def show_status(served: Served, query: StatusQuery, body: Nothing) -> StatusAnswer:
    return status.snapshot(served.node, query.peer)


async def show_store(served: Served, query: Nothing, body: Nothing) -> StoreSettings:
    """With secrets: whoever may ask this is root and could read them anyway."""
    config = served.node.config
    return StoreSettings(
        store=config.store,
        settings=config.store_settings,
        prefix=config.prefix,
        by_default=config.store_default,
    )


async def take_down(served: Served, query: Nothing, body: DownBody) -> DownAnswer:
    return DownAnswer(removed=await served.remove(body.release))


async def replace_forwarder(served: Served, query: Nothing, body: Nothing) -> ReplaceAnswer:
    """Of each plane, one after the other."""
    planes = served.node.planes
    if not planes:
        raise ValueError("this node has no forwarder, or not yet; see `tulle status`")
    done: list[Replaced] = []
    for plane in planes:
        if done and not plane.wanted:
            continue
        try:
            old, new, seconds = await plane.replace()
        except WorkerGone as error:
            which = f"forwarder {plane.name}".strip()
            raise ValueError(f"the {which} was not replaced: {error}") from error
        done.append(Replaced(plane=plane.name, old_pid=old, new_pid=new, pause_ms=round(seconds * 1000, 1)))
    first = done[0]
    return ReplaceAnswer(
        old_pid=first.old_pid, new_pid=first.new_pid, pause_ms=first.pause_ms, second=done[1:]
    )


async def show_description(served: Served, query: Nothing, body: Nothing) -> dict[str, Any]:
    return describe.openapi(served.all)


OWN = (
    ApiMethod(
        verb="GET",
        path="status",
        handler=show_status,
        summary="What this node does and what is wrong.",
        query=StatusQuery,
        body=Nothing,
        answer=StatusAnswer,
    ),
    ApiMethod(
        verb="GET",
        path="store",
        handler=show_store,
        summary="How to reach the store, with secrets.",
        query=Nothing,
        body=Nothing,
        answer=StoreSettings,
    ),
    ApiMethod(
        verb="GET",
        path="openapi",
        handler=show_description,
        summary="This description, with the methods that plugins add.",
        query=Nothing,
        body=Nothing,
        answer=dict[str, Any],
    ),
    ApiMethod(
        verb="POST",
        path="forwarder/replace",
        handler=replace_forwarder,
        summary="Let a new forwarder take over from the running one; no packet is lost.",
        query=Nothing,
        body=Nothing,
        answer=ReplaceAnswer,
    ),
    ApiMethod(
        verb="POST",
        path="down",
        handler=take_down,
        summary="Take everything away and end tulled.",
        query=Nothing,
        body=DownBody,
        answer=DownAnswer,
    ),
)
"""As they are described; their handlers take what they work on first."""


def methods(node: NodeState, remove: Remove, added: Sequence[ApiMethod] = ()) -> list[ApiMethod]:
    """All that this node serves, our own first."""
    served = Served(node, remove, [*OWN, *added])
    own = [msgspec.structs.replace(one, handler=partial(one.handler, served)) for one in OWN]
    theirs = [
        msgspec.structs.replace(one, handler=partial(_ask_backend, node, one)) if one.backend else one
        for one in added
    ]
    return [*own, *theirs]


async def _ask_backend(node: NodeState, method: ApiMethod, query: Any, body: Any) -> Any:
    """Raises ValueError where the running backend is not the method's."""
    runs = "" if node.network is None else node.network.backend.name
    if node.backend is None or not runs:
        raise ValueError(f"{method.path}: this node has no backend yet; see `tulle status`, and try again")
    if runs != method.backend:
        raise ValueError(f"{method.path}: this is for backend {method.backend}, and this node runs {runs}")
    return await method.handler(node.backend, query, body)


if __name__ == "__main__":  # `make docs`
    for name, text in describe.files(OWN).items():
        (Path(sys.argv[1]) / name).write_text(text)
