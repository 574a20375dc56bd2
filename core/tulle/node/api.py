"""tulled's local API: which methods there are, what plugins add, and how a request finds its method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulle.contracts.specs import ApiMethod
from tulle.contracts.store import StoreError
from tulle.node.describe import VERSION
from tulle.node.http import HttpError, HttpServer, Request


class Api:
    """Methods by verb and path, served on a Unix socket."""

    def __init__(self, path: Path, methods: Sequence[ApiMethod]) -> None:
        # The first of a name wins: core's come first, and no plugin can take their place.
        self._methods: dict[tuple[str, str], ApiMethod] = {
            (one.verb, one.path): one for one in reversed(methods)
        }
        self._path = path
        self._server = HttpServer(self.handle)

    async def start(self) -> None:
        """Called again it listens anew, where somebody has removed the socket."""
        await self._server.start_unix(self._path)

    def reachable(self) -> bool:
        return self._server.reachable()

    def close(self) -> None:
        self._server.close()

    async def handle(self, request: Request) -> Any:
        """Raises HttpError for anything that is not a method."""
        _, version, *rest = [*request.path.split("/", 2), "", ""][:3]
        if version != VERSION:
            raise HttpError(404, f"{request.path}: methods lie under /{VERSION}/")
        path = rest[0].strip("/")
        method = self._methods.get((request.verb, path))
        if method is None:
            verbs = sorted(verb for verb, known in self._methods if known == path)
            if verbs:
                raise HttpError(405, f"{request.verb} /{VERSION}/{path}: use {', '.join(verbs)}")
            known = ", ".join(sorted(f"{verb} /{VERSION}/{name}" for verb, name in self._methods))
            raise HttpError(404, f"{request.path}: no such method. There are: {known}")
        if request.body is not None and not isinstance(request.body, dict):
            raise HttpError(400, "the body must be a JSON object")
        query = _checked("the query", request.query, method.query, from_text=True)
        body = _checked("the body", request.body or {}, method.body)
        try:
            return await method.handler(query, body)
        except ValueError as error:
            raise HttpError(400, str(error)) from error
        except StoreError as error:
            raise HttpError(503, str(error)) from error


def _checked(
    what: str, given: Mapping[str, Any], kind: type[msgspec.Struct] | None, *, from_text: bool = False
) -> Any:
    """As the method's type. Raises HttpError that names the field."""
    if kind is None:
        return given
    try:
        return msgspec.convert(given, kind, strict=not from_text)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "nothing"
        raise HttpError(400, f"{what} is wrong: {error}; it takes {known}") from error
