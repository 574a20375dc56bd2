"""/healthz, /readyz and /metrics over TCP, where --healthz-port asks for them. Anybody who reaches the port may read.

/healthz  200 while tulled's loop turns     /readyz  200, or 503 with the reasons, until packets are carried
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence

from tulle.net.prefix import Address
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
        self._server: HttpServer | None = None
        self._at: tuple[Address, int] | None = None

    async def listen(self, address: Address, port: int) -> None:
        """Serve there and nowhere else; nowhere for port 0. Where it raises OSError, which names flag and address, it
        goes on as before."""
        old, wanted = self._at, (address, port) if port else None
        if wanted == old:
            return
        self.close()  # first: the old address may be in the way of the new one
        try:
            await self._open(wanted)
        except OSError:
            with contextlib.suppress(OSError):
                await self._open(old)
            raise

    async def _open(self, at: tuple[Address, int] | None) -> None:
        if at is not None:
            self._server = await self._serve(*at)
            self._at = at

    async def _serve(self, address: Address, port: int) -> HttpServer:
        server = HttpServer(self._handle)
        try:
            await server.start_tcp(str(address), port)
            return server
        except OSError as error:
            raise OSError(
                f"--healthz-port: {address} port {port} cannot be listened on ({os.strerror(error.errno or 0)}); "
                "give another --healthz-ip or --healthz-port, or 0 for none"
            ) from error

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = self._at = None

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
