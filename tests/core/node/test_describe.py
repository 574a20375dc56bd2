"""The local API's description: OpenAPI that a validator takes, true of the answers; docs/ is up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from tulle.contracts.specs import ApiMethod
from tulle.node import describe
from tulle.node.api import Api
from tulle.node.dataplane import UserSpace
from tulle.node.http import HttpError, Request
from tulle.node.methods import OWN, methods
from tulle.node.state import NodeState
from tulle.plugins import load_plugins

DOCS = Path(__file__).parents[3] / "docs"


class Lookup(msgspec.Struct):
    """Which name."""

    name: Annotated[str, Meta(description="Of a pod.")]
    limit: int = 10


async def handler(query: Any, body: Any) -> Any:
    return {}


PLUGINS = (
    ApiMethod(
        verb="GET", path="dns/names", handler=handler, summary="Names.", query=Lookup, answer=list[str]
    ),
    ApiMethod(verb="POST", path="dns/flush", handler=handler),
    ApiMethod(verb="GET", path="odd", handler=handler, answer=object),
)


@pytest.mark.parametrize("added", [(), PLUGINS])
def test_the_document_is_openapi(added: tuple[ApiMethod, ...]) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document = describe.openapi([*OWN, *added])
    validator.validate(document)
    assert len(document["paths"]) == len(OWN) + len(added)
    with pytest.raises(pytest.importorskip("jsonschema").ValidationError):
        validator.validate({**document, "paths": {"no-slash": {"get": {}}}})


@pytest.mark.parametrize("name", ["api.md", "openapi.json"])
def test_docs_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == describe.files(OWN)[name], "run `make docs`"


def test_every_method_and_every_field_is_explained() -> None:
    document = describe.openapi(OWN)
    for path, verbs in document["paths"].items():
        for operation in verbs.values():
            assert operation["summary"].endswith("."), path
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), f"{name} has no docstring"


class Replaceable(UserSpace):
    """As with a forwarder at work; the real thing is in tests/lab/test_handover.py."""

    async def replace(self) -> tuple[int, int, float]:
        return 1, 2, 0.0004


def test_what_the_methods_answer_fits_the_description(make_node: Callable[[], NodeState]) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    async def down(release: bool) -> list[str]:
        return ["x: removed"]

    async def answers() -> dict[str, Any]:
        node = make_node()
        node.dataplane = Replaceable(
            run_dir=node.run_dir, keeper=node.keeper, plugins=load_plugins(), engine="auto", local_prefixes=()
        )
        api = Api(Path("unused"), methods(node, down))
        found = {one.path: await api.handle(Request(one.verb, f"/v1/{one.path}", {}, None)) for one in OWN}
        await node.membership.let_go()
        return {path: json.loads(msgspec.json.encode(answer)) for path, answer in found.items()}

    document = describe.openapi(OWN)
    found = asyncio.run(answers())
    assert found.keys() == {one.path for one in OWN}
    for one in OWN:
        operation = document["paths"][f"/v1/{one.path}"][one.verb.lower()]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(
            found[one.path]
        )


@pytest.mark.parametrize("query", [{"per": "x"}, {"peer": "x" * 300}, {"peer": "a", "b": ""}])
def test_what_is_not_described_is_refused(query: dict[str, str], make_node: Callable[[], NodeState]) -> None:
    async def ask() -> None:
        node = make_node()
        await Api(Path("unused"), methods(node, None)).handle(  # type: ignore[arg-type]  # nothing is taken down
            Request("GET", "/v1/status", query, None)
        )

    with pytest.raises(HttpError) as refused:
        asyncio.run(ask())
    assert refused.value.status == 400
    assert "it takes peer" in str(refused.value)
