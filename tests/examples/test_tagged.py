"""The example plugin on a stranger's machine: installed by pip beside tulle it works, and broken it harms nobody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
LAB_OF_UDP = Path(__file__).with_name("lab_of_udp.py")
NETWORK = {"Network": "10.42.0.0/16", "Backend": {"Type": "tagged"}}
SYNTAX_ERROR = "\ndef broken(:\n"


def plugins_of(environment: Any) -> dict[str, dict[str, Any]]:
    listed = json.loads(environment.run("tulle", "plugins", "list", "-o", "json").stdout)
    return {one["name"]: one for one in listed}


@pytest.fixture(scope="module")
def store(installed: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose network config asks for `tagged`, written where the plugin works."""
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    flags = ("--store", "sqlite", "--sqlite-file", path)
    installed.run("tulle", "config", "set", "-", *flags, input=json.dumps(NETWORK))
    return path


def test_it_is_listed_with_what_it_provides(installed: Any) -> None:
    found = plugins_of(installed)["tagged"]
    assert found["version"] == "0.1.0"
    assert found["provides"] == ["backend:tagged", "encapsulation:tagged"]
    assert found["origin"] == "tulle-tagged (tulle_tagged)"
    assert found["error"] == ""


def test_its_wrong_options_are_configuration_errors(installed: Any) -> None:
    wrong = NETWORK | {"Backend": {"Type": "tagged", "Cluster": "", "Port": 0}}
    done = installed.run("tulle", "config", "check", "-", input=json.dumps(wrong), check=False)
    assert done.returncode == 2
    assert "Backend.Cluster" in done.stderr
    assert "Backend.Port" in done.stderr


@pytest.mark.lab
def test_its_own_tests_pass_and_its_pods_talk_by_its_wire(installed: Any, example: Path) -> None:
    """Among them the real packets of tests/test_lab.py: the lab's tulleds run in this environment too."""
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-ra")
    done = installed.run("python", *words, cwd=example)
    assert " passed" in done.stdout
    lab_tests = (example / "tests" / "test_lab.py").read_text().count("\ndef test_")
    assert f"test_lab.py {'.' * lab_tests}" in done.stdout


def test_core_knows_nothing_of_it() -> None:
    for folder in ("core", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "tulle_tagged" not in path.read_text(), path


@pytest.mark.lab
@pytest.mark.parametrize("file", ["__init__.py", "backend.py"])
def test_with_a_syntax_error_udp_works_and_a_config_that_asks_for_it_ends_with_status_2(
    file: str,
    example: Path,
    make_environment: Callable[[Path], Any],
    store: Path,
    tmp_path: Path,
) -> None:
    broken = Path(shutil.copytree(example, tmp_path / "broken"))
    with (broken / "src" / "tulle_tagged" / file).open("a") as source:
        source.write(SYNTAX_ERROR)
    environment = make_environment(broken)
    listed = plugins_of(environment)
    assert listed["udp"]["error"] == ""
    if file == "__init__.py":
        assert listed["tagged"]["error"].startswith("SyntaxError")
    told = json.loads(environment.run("python", LAB_OF_UDP, tmp_path / "labs", store).stdout)
    assert told["answers"] == 3
    assert told["status"] == 2
    assert "tagged" in told["said"]
    assert "SyntaxError" in told["said"]
