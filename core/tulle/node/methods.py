"""tulled's own methods of the local API. Plugins add theirs by `tulle_api_methods`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tulle.contracts.backend import JsonObject
from tulle.contracts.specs import ApiMethod
from tulle.node import status
from tulle.node.state import NodeState

Query = Mapping[str, str]
Body = Mapping[str, Any]


def methods(node: NodeState, remove: Callable[[bool], Awaitable[list[str]]]) -> list[ApiMethod]:
    """`remove(release)` takes everything away, returns a line for each thing, and then ends tulled."""

    async def show_status(query: Query, body: Body) -> JsonObject:
        return status.snapshot(node)

    async def store(query: Query, body: Body) -> JsonObject:
        """With secrets: whoever may ask this is root and could read them anyway."""
        return {
            "store": node.config.store,
            "settings": node.config.store_settings,
            "prefix": node.config.prefix,
        }

    async def down(query: Query, body: Body) -> JsonObject:
        return {"removed": await remove(bool(body.get("release", False)))}

    return [
        ApiMethod(
            verb="GET", path="status", handler=show_status, summary="What this node does and what is wrong."
        ),
        ApiMethod(verb="GET", path="store", handler=store, summary="How to reach the store, with secrets."),
        ApiMethod(verb="POST", path="down", handler=down, summary="Take everything away and end tulled."),
    ]
