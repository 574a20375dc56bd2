"""A node's `wg` sockets: kept, mended, and no reason to fail."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.backend import DataPeer
from tulle.contracts.specs import load
from tulle_wireguard import tulle_backends
from tulle_wireguard.keytext import key_text
from tulle_wireguard.nodesockets import NodeSockets

PRIVATE, PUBLIC, LAPTOP = (bytes([number]) * 32 for number in (1, 2, 3))
NODE = DataPeer("10.42.1.0-24", ("10.42.1.0/24",), (), {"PublicKey": key_text(PUBLIC)})
DEVICES: dict[str, Any] = {"tulle-wg": lambda: {NODE.key: {"received-bytes": 5}}, "tulle-wg-v6": dict}

Act = Callable[[NodeSockets, list[str]], Awaitable[None]]


def kept(act: Act) -> None:
    async def run() -> None:
        changes: list[str] = []
        sockets = NodeSockets(lambda: changes.append("changed"))
        try:
            async with asyncio.timeout(10):
                await act(sockets, changes)
        finally:
            await sockets.close()

    asyncio.run(run())


async def ask(path: Path, request: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request.encode())
    found = await reader.readuntil(b"\n\n")
    writer.close()
    return found.decode()


def test_each_device_has_its_socket_until_it_is_not_kept_any_more(wg_sockets: Path) -> None:
    async def act(sockets: NodeSockets, changes: list[str]) -> None:
        await sockets.keep(DEVICES)
        assert sorted(one.name for one in wg_sockets.iterdir()) == ["tulle-wg-v6.sock", "tulle-wg.sock"]
        sockets.state("tulle-wg", PRIVATE, 51820, [NODE])
        shown = await ask(wg_sockets / "tulle-wg.sock", "get=1\n\n")
        assert f"public_key={PUBLIC.hex()}\n" in shown
        assert "rx_bytes=5\n" in shown
        await sockets.keep({"tulle-wg": DEVICES["tulle-wg"]})
        assert [one.name for one in wg_sockets.iterdir()] == ["tulle-wg.sock"]

    kept(act)
    assert list(wg_sockets.iterdir()) == []


def test_what_root_sets_is_told_and_kept_while_the_socket_is_mended(wg_sockets: Path) -> None:
    async def act(sockets: NodeSockets, changes: list[str]) -> None:
        path = wg_sockets / "tulle-wg.sock"
        await sockets.keep(DEVICES)
        sockets.state("tulle-wg", PRIVATE, 51820, [NODE])
        request = f"set=1\nfwmark=7\npublic_key={LAPTOP.hex()}\nallowed_ip=10.99.0.7/32\n\n"
        assert await ask(path, request) == "errno=0\n\n"
        assert changes == ["changed"]
        path.unlink()
        await sockets.keep(DEVICES)
        assert "fwmark=7\n" in await ask(path, "get=1\n\n")
        assert (sockets.fwmark("tulle-wg"), sockets.fwmark("tulle-wg-v6")) == (7, 0)
        assert [one.prefixes for one in sockets.by_hand("tulle-wg")] == [("10.99.0.7/32",)]

    kept(act)


def test_a_place_that_another_program_has_is_said_once_and_left_alone(
    wg_sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(sockets: NodeSockets, changes: list[str]) -> None:
        path = wg_sockets / "tulle-wg.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            for _ in range(3):
                await sockets.keep({"tulle-wg": DEVICES["tulle-wg"]})
            assert path.exists()
        await sockets.keep({"tulle-wg": DEVICES["tulle-wg"]})
        assert await ask(path, "get=1\n\n") == "errno=0\n\n"

    kept(act)
    said = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(said) == 1
    assert "another program serves it" in said[0]


def test_of_a_device_that_is_not_kept_nothing_is_by_hand() -> None:
    async def act(sockets: NodeSockets, changes: list[str]) -> None:
        assert (sockets.by_hand("tulle-wg"), sockets.fwmark("tulle-wg")) == ([], 0)

    kept(act)


def test_what_a_killed_tulled_left_is_taken_away_and_what_is_served_or_not_ours_stays(
    wg_sockets: Path,
) -> None:
    def left(name: str) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(wg_sockets / name))

    (spec,) = tulle_backends()
    take_away = load(spec.leftovers)
    assert asyncio.run(take_away()) == []
    left("tulle-wg-v6.sock")
    left("wg0.sock")  # of a standalone tulle-wg, or of wireguard-go

    async def act(sockets: NodeSockets, changes: list[str]) -> None:
        await sockets.keep({"tulle-wg": DEVICES["tulle-wg"]})
        assert await take_away() == [f"{wg_sockets / 'tulle-wg-v6.sock'}: removed"]
        assert sorted(one.name for one in wg_sockets.iterdir()) == ["tulle-wg.sock", "wg0.sock"]
        assert await ask(wg_sockets / "tulle-wg.sock", "get=1\n\n")

    kept(act)
    left("tulle-wg.sock")
    assert asyncio.run(take_away()) == [f"{wg_sockets / 'tulle-wg.sock'}: removed"]
    (wg_sockets / "tulle-wg.sock").write_text("no socket")
    assert asyncio.run(take_away()) == []
