"""The plugin's method of the local API, and who is told that it is none of his."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.backend import Report
from tulle.node.api import Api
from tulle.node.http import HttpError, Request
from tulle.node.methods import methods
from tulle.node.network import check_network
from tulle.node.state import NodeState
from tulle.plugins import load_plugins
from tulle.testing.backend_contract import RecordingContext
from tulle_wireguard.backend import WireguardBackend
from tulle_wireguard.methods import GRACE_S, METHODS
from tulle_wireguard.options import WireguardOptions


def node(backend: str, running: Any) -> NodeState:
    found: Any = dict.fromkeys(NodeState.__struct_fields__)
    found |= {"backend": running, "report": Report()}
    if backend:
        text = f'{{"Network": "10.42.0.0/16", "Backend": {{"Type": "{backend}"}}}}'
        found["network"] = check_network(text, load_plugins())
    return NodeState(**found)


async def never(release: bool) -> list[str]:
    raise AssertionError("nobody asked for this")


def ask(state: NodeState, body: Any) -> Any:
    """POST /v1/wireguard/rotate-key, as the HTTP server hands it on."""
    api = Api(Path("/nowhere"), methods(state, never, METHODS))
    return api.handle(Request("POST", "/v1/wireguard/rotate-key", {}, body))


def test_the_running_backend_gets_a_new_key(tmp_path: Path) -> None:
    async def run() -> None:
        backend, ctx = WireguardBackend(WireguardOptions()), RecordingContext(tmp_path)
        await backend.advertise(ctx)
        await backend.start(ctx)
        before = backend.public_keys()
        answer = await ask(node("wireguard", backend), {})
        assert answer.public_keys == backend.public_keys() != before
        assert answer.old_key_for_s == GRACE_S
        answer = await ask(node("encrypted-udp", backend), {"grace_s": 0})
        assert answer.old_key_for_s == 0
        await backend.stop(True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("backend", "running", "body", "said"),
    [
        ("udp", object(), {}, "this is for backend wireguard, and this node runs udp"),
        ("", None, {}, "this node has no backend yet"),
        ("wireguard", None, {}, "this node has no backend yet"),
        ("wireguard", object(), {"grace_s": -1}, "grace_s"),
        ("wireguard", object(), {"grace_s": 86_401}, "grace_s"),
        ("wireguard", object(), {"key": "mine"}, "key"),
    ],
)
def test_who_asks_for_what_cannot_be_is_told(backend: str, running: Any, body: Any, said: str) -> None:
    with pytest.raises(HttpError, match=said) as raised:
        asyncio.run(ask(node(backend, running), body))
    assert raised.value.status == 400
