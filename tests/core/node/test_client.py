"""The API's client: what it returns, and how it says that nobody answers, or that somebody refuses."""

from __future__ import annotations

import ast
import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.specs import ApiMethod
from tulle.node import client
from tulle.node.api import Api
from tulle.node.client import ApiError, Client, NotRunning
from tulle.node.http import MAX_BODY_BYTES


async def echo(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
    return {"query": query, "body": body}


def asked(directory: Path, question: Callable[[Client], Any]) -> Any:
    """Ask a real server, in a thread as a command would."""

    async def run() -> Any:
        methods: list[ApiMethod] = [
            ApiMethod(verb="GET", path="echo", handler=echo),
            ApiMethod(verb="POST", path="echo", handler=echo),
        ]
        api = Api(directory / "tulled.sock", methods)
        await api.start()
        try:
            return await asyncio.to_thread(question, Client(directory))
        finally:
            api.close()

    return asyncio.run(run())


def test_what_the_method_returned_comes_back(short_dir: Path) -> None:
    assert asked(short_dir, lambda one: one.get("echo?a=1")) == {"query": {"a": "1"}, "body": {}}
    assert asked(short_dir, lambda one: one.post("echo", {"k": 1})) == {"query": {}, "body": {"k": 1}}


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        (lambda one: one.get("nothing"), 404, "no such method"),
        (lambda one: one.post("echo", {"k": "x" * (8 * MAX_BODY_BYTES)}), 413, "is not taken"),
    ],
)
def test_an_error_of_tulled_is_raised_with_its_words(
    short_dir: Path, question: Callable[[Client], Any], status: int, words: str
) -> None:
    with pytest.raises(ApiError, match=words) as raised:
        asked(short_dir, question)
    assert raised.value.status == status


def test_where_nobody_listens_the_message_names_the_socket(short_dir: Path) -> None:
    with pytest.raises(
        NotRunning, match=r"tulled\.sock: tulled does not answer \(there is no such socket\).*--run-dir"
    ):
        Client(short_dir).get("status")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(short_dir / "tulled.sock"))
    with pytest.raises(NotRunning, match=r"does not answer \(nobody listens on it\)"):
        Client(short_dir).get("status")


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{{{"]
)
def test_another_program_on_the_socket_is_not_taken_for_tulled(short_dir: Path, answer: bytes) -> None:
    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(answer)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(short_dir / "tulled.sock"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(NotRunning):
            Client(short_dir).get("status")
        thread.join()


def test_a_tulled_that_hangs_is_not_waited_for_longer_than_asked(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(short_dir / "tulled.sock"))
        listener.listen()
        with pytest.raises(NotRunning, match="timed out"):
            Client(short_dir, timeout=0.1).get("status")


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(client.__file__).read_text())
    imported = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | {"__future__"}
