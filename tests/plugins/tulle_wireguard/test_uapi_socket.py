"""The socket's server with real connections: stock `wg` where it is there, and clients that misbehave."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tulle_wireguard import uapi_socket
from tulle_wireguard.interface import Interface
from tulle_wireguard.uapi import DeviceView, PeerView, Set
from tulle_wireguard.uapi_socket import MAX_CONNECTIONS, CannotChange, UapiServer

HEX = bytes(range(32)).hex()
LONG_S = 10.0


class Device:
    """Keeps what it is told; refuses the port 1."""

    def __init__(self) -> None:
        self.interface = Interface()
        self.changing = 0

    async def view(self) -> DeviceView:
        found = self.interface
        peers = [PeerView(public_key=one.public_key) for one in found.peers.values()]
        return DeviceView(listen_port=found.listen_port, peers=peers)

    async def change(self, wanted: Set) -> None:
        self.changing += 1
        assert self.changing == 1
        await asyncio.sleep(0)
        self.changing -= 1
        if wanted.listen_port == 1:
            raise CannotChange(errno.EADDRINUSE, "somebody has port 1")
        self.interface = self.interface.altered(wanted)


Act = Callable[[UapiServer, Device], Awaitable[None]]


def served(directory: Path, act: Act) -> None:
    async def run() -> None:
        device = Device()
        server = UapiServer("wg0", device, directory)
        await server.start()
        try:
            async with asyncio.timeout(LONG_S):
                await act(server, device)
        finally:
            await server.close()

    asyncio.run(run())


async def ask(server: UapiServer, data: str) -> str:
    """What is answered until the server has nothing more to say."""
    reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(data.encode())
    writer.write_eof()
    found = await reader.read()
    writer.close()
    return found.decode()


def test_several_requests_on_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        answer = await ask(
            server, f"set=1\nlisten_port=7\npublic_key={HEX}\n\nget=1\n\nset=1\nx=\n\nget=1\n\n"
        )
        first, got, refused, again, end = answer.split("\n\n")
        assert (first, refused, end) == ("errno=0", f"errno=-{errno.EINVAL}", "")
        assert got == again
        assert got.splitlines()[:2] == ["listen_port=7", f"public_key={HEX}"]

    served(tmp_path, act)


def test_a_change_that_cannot_be_made_is_told_by_its_errno(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        assert await ask(server, "set=1\nlisten_port=1\n\n") == f"errno=-{errno.EADDRINUSE}\n\n"

    served(tmp_path, act)


def test_changes_come_one_after_the_other(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        await asyncio.gather(
            *(ask(server, f"set=1\npublic_key={bytes([one]) * 32!s}\n\n") for one in range(3)),
            *(ask(server, f"set=1\npublic_key={(bytes([one]) * 32).hex()}\n\n") for one in range(20)),
        )
        assert len(device.interface.peers) == 20

    served(tmp_path, act)


def test_half_a_request_changes_nothing(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        assert await ask(server, "set=1\nlisten_port=7\n") == ""
        assert device.interface.listen_port == 0

    served(tmp_path, act)


def test_who_writes_without_end_is_hung_up_on(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        assert await ask(server, "x" * 5000 + "\n\nget=1\n\n") == f"errno=-{errno.E2BIG}\n\n"

    served(tmp_path, act)


def test_who_stops_in_the_middle_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi_socket, "WAIT_S", 0.05)

    async def act(server: UapiServer, device: Device) -> None:
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.write(b"set=1\n")
        assert await reader.read() == b""
        writer.close()

    served(tmp_path, act)


def test_one_connection_too_many_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        open_ = [await asyncio.open_unix_connection(server.path) for _ in range(MAX_CONNECTIONS)]
        assert await ask(server, "") == f"errno=-{errno.EBUSY}\n\n"
        reader, writer = open_[0]
        writer.write(b"get=1\n\n")
        assert await reader.readuntil(b"\n\n") == b"errno=0\n\n"
        for _, one in open_:
            one.close()

    served(tmp_path, act)


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    directory = tmp_path / "wireguard"

    async def act(server: UapiServer, device: Device) -> None:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        assert os.listdir(directory) == ["wg0.sock"]

    served(directory, act)
    assert os.listdir(directory) == []


def test_a_removed_socket_is_noticed(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        noticed = asyncio.create_task(server.removed())
        await asyncio.sleep(0.3)
        assert not noticed.done()
        server.path.unlink()
        await noticed

    served(tmp_path, act)


def test_another_ones_socket_in_its_place_is_left_alone(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        server.path.unlink()
        server.path.write_text("another's")
        await server.removed()

    served(tmp_path, act)
    assert (tmp_path / "wg0.sock").read_text() == "another's"


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "wg0.sock"))

    async def act(server: UapiServer, device: Device) -> None:
        assert await ask(server, "get=1\n\n") == "errno=0\n\n"

    served(tmp_path, act)


def test_a_socket_that_is_served_is_not_taken_over(tmp_path: Path) -> None:
    async def act(server: UapiServer, device: Device) -> None:
        with pytest.raises(OSError, match=r"wg0\.sock.*another program serves it.*stop that"):
            await UapiServer("wg0", device, tmp_path).start()
        assert await ask(server, "get=1\n\n") == "errno=0\n\n"

    served(tmp_path, act)


def test_a_place_where_no_socket_can_be_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def act(server: UapiServer, device: Device) -> None:
        with pytest.raises(OSError, match=r"wg0\.sock: cannot listen there \(.*\); run this as root"):
            await UapiServer("wg0", device, tmp_path / "file").start()

    served(tmp_path, act)
