"""A client of tulled's local API. Standard library only: copy this file into anything."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """tulled answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotRunning(Exception):
    """Nobody answers on the socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Speaks to the tulled of one run directory."""

    def __init__(self, run_dir: Path, timeout: float = 5.0) -> None:
        self.socket = run_dir / "tulled.sock"
        self._timeout = timeout

    def get(self, path: str) -> Any:
        """GET /v1/<path>. Raises NotRunning, ApiError."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST /v1/<path>. Raises NotRunning, ApiError."""
        return self._ask("POST", path, body)

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None) -> Any:
        connection = _UnixConnection(self.socket, self._timeout)
        try:
            # A server that refuses before it has read all has still answered.
            with contextlib.suppress(BrokenPipeError):
                connection.request(verb, f"/v1/{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read() or b"null")
        except PermissionError as error:
            raise ApiError(403, f"{self.socket}: only root may speak to tulled: use sudo") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRunning(
                f"{self.socket}: tulled does not answer ({_reason(error)}); is it running, and is --run-dir right?"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            message = answer.get("error") if isinstance(answer, dict) else None
            raise ApiError(response.status, str(message or response.reason))
        return answer


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens on it"
    return str(getattr(error, "strerror", None) or error)
