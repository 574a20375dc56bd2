"""Labs for the tests of whole clusters, and hands to look into them and to disturb them.

A test that fails shows the end of each tulled's log.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.registry import Registry
from tulle.testing.etcd import FETCH, find_etcd

HERE = Path(__file__).parent
WIRE = (sys.executable, str(HERE / "wire.py"))
KERNEL = (sys.executable, str(HERE / "kernel.py"))
TULLE = (sys.executable, "-m", "tulle.cli.main")

LONG_S = 30.0
"""Far more than anything here takes, for machines under load."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for lab in {id(one): one for one in item.funcargs.values() if isinstance(one, Lab)}.values():
            for node in lab.plan.node_names:
                try:
                    report.sections.append((f"log of {node}", lab.log_tail(node)))
                except (LabError, OSError):
                    break  # the lab has ended
    return report


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Of these tests alone: `tulle lab list` on this machine does not show their labs."""
    return Registry(tmp_path_factory.mktemp("labs") / "registry")


@pytest.fixture(scope="session")
def etcd_here() -> Path:
    """The folder of etcd's programs. Fails, and does not skip, where they can be had."""
    found = find_etcd()
    if found is None:
        if shutil.which("apt-get") is None:
            pytest.skip(f"no etcd, and no apt to get it with: {FETCH}")
        pytest.fail(f"these tests need a real etcd: {FETCH}")
    return found


LabMaker = Callable[..., Lab]


@pytest.fixture(scope="module")
def make_lab(registry: Registry) -> Iterator[LabMaker]:
    """`make_lab(nodes=2, ...)` brings a lab up that lasts as long as the module's tests; asked for the same again, it
    gives the same (tests come in any order, also those of one parameter)."""
    made: dict[str, Lab] = {}
    with ExitStack() as stack:

        def make(**how: Any) -> Lab:
            key = repr(sorted(how.items()))
            if key not in made:
                made[key] = stack.enter_context(Lab(registry=registry, **how))
            return made[key]

        yield make


class Hands:
    """What the tests do in a lab beyond the lab's own measurements."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def wire(self, place: str, **order: Any) -> Any:
        """Run `wire.py` there to its end; returns its last line."""
        done = self.lab.run(place, [*WIRE, json.dumps(order)])
        return json.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def capture(self, place: str, **order: Any) -> Iterator[Callable[[], list[Any]]]:
        """Capture there (or whatever `do` says, see `wire.py`). What it gives ends that and returns its lines."""
        process = self.lab.popen(
            place,
            [*WIRE, json.dumps({"do": "capture"} | order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == "ready"

            def finish() -> list[dict[str, Any]]:
                output, _ = process.communicate(timeout=LONG_S)
                return [json.loads(line) for line in output.splitlines()]

            yield finish
        finally:
            process.kill()
            process.communicate()

    def kernel(self, place: str, *calls: Sequence[Any]) -> list[Any]:
        """Netlink requests there (`kernel.py`): ("link", "set", {"ifname": "eth0", "mtu": 1400})."""
        found: list[Any] = json.loads(self.lab.run(place, [*KERNEL, json.dumps(calls)]).stdout)
        return found

    def links(self, node: str) -> dict[str, dict[str, Any]]:
        """Name -> index, mtu, up."""
        (found,) = self.kernel(node, ("links",))
        return dict(found)

    def routes(self, node: str, protocol: int | None = None) -> list[dict[str, Any]]:
        """Of the main tables: destination, kind, link, protocol."""
        (found,) = self.kernel(node, ("routes",))
        return [one for one in found if protocol is None or one["protocol"] == protocol]

    def tulle(self, place: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line there."""
        return self.lab.run(place, [*TULLE, *words], check=check)

    def counters(self, node: str) -> dict[str, int]:
        """Of the forwarder, as tulled last heard them (it asks each second)."""
        return dict(self.lab.status(node)["dataplane"]["counters"])

    def exists(self, node: str, path: str) -> bool:
        return self.lab.run(node, ["test", "-e", path], check=False).returncode == 0


@pytest.fixture(scope="session")
def hands() -> Callable[[Lab], Hands]:
    return Hands


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(ask)` asks until the answer is true and returns it; fails after LONG_S."""

    def wait(ask: Callable[[], Any], within_s: float = LONG_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (answer := ask()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_s:g} s: {getattr(ask, '__name__', ask)}")
            time.sleep(0.05)
        return answer

    return wait


@pytest.fixture(scope="session")
def end_process() -> Callable[[int], bool]:
    """Whether a process has ended (a zombie has)."""

    def ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return ended


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Record a measured figure: it is printed (`pytest -rP`) and lies in a JUnit report."""

    def record(name: str, value: object) -> None:
        record_property(name, str(value))
        print(f"{name}: {value}")

    return record
