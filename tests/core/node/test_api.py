"""Methods of the local API: core's cannot be taken by a plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tulle.contracts.specs import ApiMethod
from tulle.node.api import Api
from tulle.node.http import Request


def says(word: str) -> Callable[..., Any]:
    async def handler(query: Mapping[str, str], body: Mapping[str, Any]) -> str:
        return word

    return handler


def test_the_first_of_a_name_wins(tmp_path: Path) -> None:
    methods = [
        ApiMethod(verb="GET", path="status", handler=says("core's")),
        ApiMethod(verb="GET", path="status", handler=says("a plugin's")),
        ApiMethod(verb="POST", path="status", handler=says("another verb")),
    ]
    api = Api(tmp_path / "api", methods)
    assert asyncio.run(api.handle(Request("GET", "/v1/status", {}, None))) == "core's"
    assert asyncio.run(api.handle(Request("GET", "/v1/status/", {}, None))) == "core's"
    assert asyncio.run(api.handle(Request("POST", "/v1/status", {}, {}))) == "another verb"
