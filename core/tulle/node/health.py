"""/healthz, /readyz and /metrics over TCP, where --healthz-port asks for them. Anybody who reaches the port may read.

/healthz  200 while tulled's loop turns     /readyz  200, or 503 with the reasons, until packets are carried
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tulle.node.http import Answer, HttpError, HttpServer, Request
from tulle.node.metrics import CONTENT_TYPE, Metrics


class HealthServer:
    """`not_ready()` gives the reasons, empty when there are none."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], Sequence[str]]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready
        self._paths: dict[str, Callable[[], Awaitable[Answer]]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics_text,
        }
        self._server = HttpServer(self._handle)

    async def start(self, host: str, port: int) -> int:
        """The port it listens on. Raises OSError that names flag and address."""
        try:
            return await self._server.start_tcp(host, port)
        except OSError as error:
            raise OSError(
                error.errno,
                f"--healthz-port: {host} port {port} cannot be listened on ({error.strerror}); "
                "give another --healthz-ip or --healthz-port, or 0 for none",
            ) from error

    def close(self) -> None:
        self._server.close()

    async def _handle(self, request: Request) -> Answer:
        method = self._paths.get(request.path)
        if method is None:
            raise HttpError(404, f"there are: {', '.join(self._paths)}")
        if request.verb not in ("GET", "HEAD"):
            raise HttpError(405, "use GET")
        return await method()

    async def _healthz(self) -> Answer:
        return Answer(200, b"ok\n")

    async def _readyz(self) -> Answer:
        reasons = self._not_ready()
        return Answer(503 if reasons else 200, ("\n".join(reasons) or "ok").encode() + b"\n")

    async def _metrics_text(self) -> Answer:
        return Answer(200, self._metrics.text(), CONTENT_TYPE)
