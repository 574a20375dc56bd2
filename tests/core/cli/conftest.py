"""Running `tulle` in this process, on a store of the test's own, beside a tulled that says what the test wants."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.cli.main import main
from tulle.contracts.specs import ApiMethod
from tulle.node.answers import StatusAnswer, StoreAnswer
from tulle.node.api import Api


class Said(msgspec.Struct):
    """What a command did."""

    status: int
    out: str
    err: str


Tulle = Callable[..., Said]


@pytest.fixture
def tulle(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tulle:
    """`tulle("config", "show", ..., stdin="...")`, without the environment's settings."""
    for name in os.environ:
        if name.startswith(("TULLED_", "FLANNELD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TULLED_CONFIG_FILE", os.devnull)  # whatever lies in /etc/tulle of this machine

    def run(*words: object, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        status = ended.value.code
        assert isinstance(status, int)
        return Said(status, said.out, said.err)

    return run


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, ...]:
    """Flags that name an sqlite store of this test, and a run directory in which nothing runs."""
    return (
        "--store=sqlite",
        f"--sqlite-file={tmp_path / 'store.sqlite'}",
        f"--run-dir={tmp_path / 'run'}",
        f"--state-dir={tmp_path / 'state'}",
    )


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A path that fits a socket's name (108 bytes, unix(7))."""
    with tempfile.TemporaryDirectory(prefix="tulle-") as name:
        yield Path(name)


Answers = Mapping[str, Any]
Serving = Callable[[Path, Answers], AbstractContextManager[None]]


@pytest.fixture
def serving() -> Serving:
    """`with serving(directory, {"status": answer}):` a real server there answers GET /v1/status so; an answer that is
    an exception is raised."""

    @contextmanager
    def serve(directory: Path, answers: Answers) -> Iterator[None]:
        ready, ending = threading.Event(), []

        async def run() -> None:
            over = asyncio.Event()
            ending.append((asyncio.get_running_loop(), over))
            api = Api(directory / "tulled.sock", [_method(name, answers[name]) for name in answers])
            await api.start()
            ready.set()
            await over.wait()
            api.close()

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            assert ready.wait(10)
            yield
        finally:
            loop, over = ending[0]
            loop.call_soon_threadsafe(over.set)
            thread.join(10)

    return serve


def _method(name: str, answer: Any) -> ApiMethod:
    async def handler(query: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ApiMethod(verb="GET", path=name, handler=handler)


@pytest.fixture
def make_status() -> Callable[..., StatusAnswer]:
    """`make_status(ready=False, ...)`: what the tulled of a node without peers says, with differences."""

    def make(**different: Any) -> StatusAnswer:
        store = StoreAnswer(
            name="sqlite",
            location="/x/store.sqlite",
            single_machine=True,
            by_default=False,
            prefix="/coreos.com/network",
            state="connected",
            since=940.0,
            latency_s=0.0012,
            endpoint="/x/store.sqlite",
            server_version="SQLite 3",
            outages=0,
            last_error="",
        )
        base: dict[str, Any] = {
            "node": "n1",
            "version": "0.1.0",
            "ready": True,
            "not_ready_because": [],
            "store": store,
            "networks": ["10.42.0.0/16"],
            "subnets": ["10.42.5.0/24"],
            "underlay": {"link": "eth0", "mtu": 1500, "public": ["192.0.2.1"], "because": "--iface eth0"},
            "backend": {"type": "udp"},
            "dataplane": {},
            "components": {},
            "peers": [],
            "peer_count": len(different.get("peers", ())),
            "problems": [],
            "mended": [],
            "mends": 0,
        }
        return msgspec.convert(msgspec.to_builtins(base | different), StatusAnswer)

    return make


def _as_run(words: Sequence[str], cache: Path) -> list[float]:
    """CPU seconds of runs one after the other, the first of which fills the cache of compiled modules."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPYCACHEPREFIX": str(cache), "TULLED_CONFIG_FILE": os.devnull}
    taken = []
    for _ in range(RUNS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "tulle.cli.main", *words], env=environ, capture_output=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return taken[1:]


RUNS = 5


@pytest.fixture
def cpu_s(tmp_path: Path, record_property: Callable[[str, object], None]) -> Callable[..., float]:
    """`cpu_s("--help")`: the least CPU seconds of some runs of `tulle --help`: what others do on this machine makes a
    run dearer, never cheaper. Recorded in a JUnit report."""

    def measure(*words: str) -> float:
        least = min(_as_run(words, tmp_path / "pycache"))
        record_property(f"cpu_s of tulle {' '.join(words)}", round(least, 4))
        return least

    return measure


MODULES = """
import json, sys
from tulle.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.fixture
def imported() -> Callable[..., set[str]]:
    """`imported("--help")`: the names of all modules that a run of `tulle --help` has imported at its end."""

    def ask(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", MODULES, *words],
            env=dict(os.environ) | {"TULLED_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return {str(name) for name in json.loads(done.stderr.splitlines()[-1])}

    return ask
