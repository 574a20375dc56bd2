"""Fresh virtual environments with tulle and the example installed by pip, as a stranger's machine has them.

Nothing is fetched: both are built from the checkout, and what they depend on is linked from the environment that runs
these tests, tulle itself left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "tulle-tagged"
NOT_LINKED = ("tulle", "_tulle", "__editable__", "pip", "setuptools", "_distutils_hack", "__pycache__")
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "dist")

OFFLINE = {
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    # pip reads this one the wrong way round: false turns isolation off.
    "PIP_NO_BUILD_ISOLATION": "false",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_QUIET": "1",
}
"""What makes an ordinary `pip install` do without an index."""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def link(self, dependencies: Path) -> None:
        """Let what is linked there be found here, behind what is installed here."""
        (self.site_packages / "dependencies.pth").write_text(f"{dependencies}\n")

    def run(self, *words: str | Path, check: bool = True, **options: object) -> Done:
        """Run one of its programs to the end, with the environment of a plain shell."""
        return run([self.folder / "bin" / words[0], *words[1:]], check=check, **options)


def run(
    words: list[str | Path], *, check: bool = True, extra: Mapping[str, str] | None = None, **options: object
) -> Done:
    """Fails the test, with what was said, where the exit status is not 0. `extra` is added to the environment."""
    environment = {**plain_environment(), **(extra or {})}
    options = {"env": environment, "text": True, "timeout": 150, "capture_output": True} | options
    done: Done = subprocess.run([str(word) for word in words], **options)  # type: ignore[call-overload]
    if check and done.returncode:
        pytest.fail(f"{words} ended with status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def plain_environment() -> Mapping[str, str]:
    """Nothing of the environment that runs these tests leaks in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | OFFLINE | {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to every installed package but tulle."""
    folder = tmp_path_factory.mktemp("dependencies")
    for key in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(key)).iterdir():
            link = folder / entry.name
            if not entry.name.startswith(NOT_LINKED) and entry.suffix != ".pth" and not link.exists():
                link.symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def tulle_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.fail("these tests build packages and need hatchling: make setup-dev")
    return build(ROOT, tmp_path_factory.mktemp("tulle-wheel"))


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that nothing is written into the checkout."""
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("example") / EXAMPLE.name, ignore=LEFT_OUT))


def build(source: Path, folder: Path) -> Path:
    """A wheel of that source tree."""
    run([sys.executable, "-m", "pip", "wheel", "--wheel-dir", folder, source])
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def run_program() -> Callable[..., Done]:
    return run


@pytest.fixture(scope="session")
def environment_at() -> Callable[[Path], Environment]:
    """One that something else has made."""
    return Environment


EnvironmentMaker = Callable[..., Environment]


@pytest.fixture(scope="session")
def make_environment(
    tmp_path_factory: pytest.TempPathFactory, tulle_wheel: Path, dependencies: Path
) -> EnvironmentMaker:
    """`make_environment(source)`: a fresh one with tulle and what lies in that folder."""

    def make(source: Path) -> Environment:
        made = Environment(tmp_path_factory.mktemp("environment") / "venv")
        run([sys.executable, "-m", "venv", "--without-pip", made.folder])
        wheel = build(source, tmp_path_factory.mktemp("wheel"))
        run([sys.executable, "-m", "pip", "--python", made.python, "install", tulle_wheel, wheel])
        made.link(dependencies)
        return made

    return make


@pytest.fixture(scope="session")
def installed(make_environment: EnvironmentMaker, example: Path) -> Environment:
    """With the example as it is."""
    return make_environment(example)
