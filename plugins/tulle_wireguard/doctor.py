"""The check `wireguard-sockets` of `tulle doctor`: what a killed tulled left where `wg` looks for devices."""

from __future__ import annotations

import asyncio

from tulle.contracts.doctor import DoctorContext, Finding
from tulle_wireguard import uapi_socket
from tulle_wireguard.nodesockets import dead_sockets


async def check(ctx: DoctorContext) -> list[Finding]:
    """Nothing on a node of another backend where nothing is left."""
    directory = uapi_socket.DIRECTORY
    try:
        dead = await asyncio.to_thread(dead_sockets, directory)
    except OSError as error:
        what = f"cannot be looked at ({error.strerror})"
        return [Finding(severity="skipped", subject=str(directory), what=what, mend="sudo tulle doctor")]
    why = "wg(8) lists the device all the same and cannot ask it"
    found = [
        Finding(
            severity="warning", subject=str(one), what="nobody serves this socket", why=why, mend=f"rm {one}"
        )
        for one in dead
    ]
    if not found and ctx.backend == "wireguard":
        return [Finding(severity="ok", subject=str(directory), what="no socket of a tulled that is gone")]
    return found
