"""The local API described: as an OpenAPI 3.1 document for programs and as Markdown for people. Pure: methods in, text
out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tulle.contracts.specs import ApiMethod
from tulle.node.answers import ErrorAnswer

VERSION = "v1"
"""The first part of each path. A change that breaks a reader makes a new one."""
REFERENCE = "#/components/schemas/{name}"
JSON = "application/json"

ERRORS = {
    "400": "What was asked for is wrong",
    "403": "This user may not ask: only root and tulled's own user may",
    "404": "There is no such method",
    "405": "The path is right, the verb is not",
    "408": "The request was not whole in time",
    "413": "The body is too large",
    "500": "A fault of tulled's; its log says more",
    "503": "The store does not answer",
}


class Schemas:
    """JSON schemas of all types that some methods name. A plugin's type that has none counts as any JSON."""

    def __init__(self, methods: Sequence[ApiMethod]) -> None:
        types = [ErrorAnswer, *(kind for one in methods for kind in (one.query, one.body, one.answer))]
        described = {repr(one): one for one in types if one is not None and _has_schema(one)}
        schemas, self.components = msgspec.json.schema_components(described.values(), ref_template=REFERENCE)
        self._by_type = dict(zip(described, schemas, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """A reference, for a struct."""
        return self._by_type.get(repr(kind), {})

    def fields(self, kind: type[msgspec.Struct] | None) -> dict[str, Any]:
        """The whole schema of a struct, where it has fields; else empty."""
        reference = self.of(kind).get("$ref", "")
        schema: dict[str, Any] = self.components.get(reference.rpartition("/")[2], {})
        return schema if schema.get("properties") else {}


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except TypeError:
        return False
    return True


def openapi(methods: Sequence[ApiMethod]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    schemas = Schemas(methods)
    paths: dict[str, Any] = {}
    for one in methods:
        path = paths.setdefault(f"/{VERSION}/{one.path}", {})
        path.setdefault(one.verb.lower(), _operation(one, schemas))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tulled's local API",
            "version": VERSION,
            "description": "Served on a Unix socket, tulled.sock in the run directory.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


def _operation(method: ApiMethod, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{method.verb.lower()}-{method.path.replace('/', '-')}",
        "summary": method.summary or method.path,
        "responses": {
            "200": {"description": "Done", "content": {JSON: {"schema": schemas.of(method.answer)}}},
            "default": {
                "description": "What happened and what to do",
                "content": {JSON: {"schema": schemas.of(ErrorAnswer)}},
            },
        },
    }
    if query := schemas.fields(method.query):
        required = query.get("required", ())
        found["parameters"] = [
            _parameter(name, shape, name in required) for name, shape in query["properties"].items()
        ]
    if schemas.fields(method.body):
        found["requestBody"] = {"content": {JSON: {"schema": schemas.of(method.body)}}}
    return found


def _parameter(name: str, shape: dict[str, Any], required: bool) -> dict[str, Any]:
    schema = {key: value for key, value in shape.items() if key != "description"}
    found = {"name": name, "in": "query", "required": required, "schema": schema}
    return found | ({"description": shape["description"]} if "description" in shape else {})


# --- for people --------------------------------------------------------------------------------------------------

INTRODUCTION = f"""# The local API

tulled serves HTTP/1.1 with JSON on the Unix socket `tulled.sock` in its run directory (`/run/tulle`). Only root and the
user that tulled runs as may ask: the kernel says who connected. One request a connection. `tulle status`, `tulle down`
and `tulle doctor` use it, and so may you:

    curl --unix-socket /run/tulle/tulled.sock http://localhost/{VERSION}/status

`core/tulle/node/client.py` is a client that needs the standard library only. `openapi.json` beside this file says the
same in OpenAPI 3.1; `GET /{VERSION}/openapi` is that of the running tulled, with what plugins add.

Paths begin with `/{VERSION}/`. Within it, fields and methods are added and none is renamed or taken away: a reader must
leave alone what it does not know. What a method does not know, it refuses.

This file is made from the code by `make docs`.
"""


def markdown(methods: Sequence[ApiMethod]) -> str:
    """Each method with all of its fields."""
    schemas = Schemas(methods)
    lines = [INTRODUCTION, "## Methods", ""]
    for one in methods:
        lines += [f"### {one.verb} /{VERSION}/{one.path}", "", one.summary, ""]
        for title, kind in (("Query", one.query), ("Body", one.body)):
            if fields := schemas.fields(kind):
                lines += [f"{title}:", "", *_rows(fields), ""]
        lines += [f"Answers with {_shape(schemas.of(one.answer))}.", ""]
    lines += ["## Errors", "", "| status | means |", "|---|---|"]
    lines += [f"| {status} | {text} |" for status, text in ERRORS.items()]
    lines += ["", f"The body is then {_shape(schemas.of(ErrorAnswer))}.", "", "## Types", ""]
    asked = {kind.__name__ for one in methods for kind in (one.query, one.body) if kind is not None}
    for name, schema in sorted(schemas.components.items()):
        if name not in asked:
            lines += [f"### {name}", "", schema.get("description", ""), "", *_rows(schema), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _rows(schema: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, shape in schema["properties"].items():
        yield f"| {name} | {_shape(shape)} | {shape.get('description', '')} |"


def _shape(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_shape(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if kind == "object":
        return f"object of {_shape(schema.get('additionalProperties') or {})}"
    return kind


def files(methods: Sequence[ApiMethod]) -> dict[str, str]:
    """By file name, what lies in docs/."""
    document = msgspec.json.format(msgspec.json.encode(openapi(methods)), indent=2).decode()
    return {"api.md": markdown(methods), "openapi.json": document + "\n"}
