"""What this plugin adds to tulled's local API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from tulle.contracts.specs import ApiMethod

if TYPE_CHECKING:
    from tulle_wireguard.backend import WireguardBackend

GRACE_S = 300
"""Longer than a session lasts (REJECT_AFTER_TIME, 180 s): whoever hears of the new key within two minutes keeps his."""
LONGEST_GRACE_S = 86_400


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Takes nothing."""


class RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long the old key is taken beside the new one."""

    grace_s: Annotated[
        float, Meta(ge=0, le=LONGEST_GRACE_S, description="Seconds; 0: the old key is refused at once.")
    ] = GRACE_S


class RotateAnswer(msgspec.Struct, frozen=True):
    """The new keys."""

    public_keys: Annotated[dict[str, str], Meta(description="By device.")]
    old_key_for_s: float


async def rotate_key(backend: WireguardBackend, query: Nothing, body: RotateBody) -> RotateAnswer:
    return RotateAnswer(await backend.rotate(body.grace_s), body.grace_s)


METHODS = (
    ApiMethod(
        verb="POST",
        path="wireguard/rotate-key",
        handler=rotate_key,
        summary="Give this node a new WireGuard key; no packet is lost.",
        query=Nothing,
        body=RotateBody,
        answer=RotateAnswer,
        backend="wireguard",
    ),
)
