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
from tulle.node.answers import DownAnswer, ReplaceAnswer, StatusAnswer, StoreSettings
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
    plane = served.node.dataplane
    if plane is None:
        raise ValueError("this node has no forwarder, or not yet; see `tulle status`")
    try:
        old, new, seconds = await plane.replace()
    except WorkerGone as error:
        raise ValueError(f"the forwarder was not replaced: {error}") from error
    return ReplaceAnswer(old_pid=old, new_pid=new, pause_ms=round(seconds * 1000, 1))


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
    return [*own, *added]


if __name__ == "__main__":  # `make docs`
    for name, text in describe.files(OWN).items():
        (Path(sys.argv[1]) / name).write_text(text)
