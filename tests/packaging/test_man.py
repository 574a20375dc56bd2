"""The manual pages as they are generated."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "packaging/man/generate.py"), str(directory)], check=True)
    return directory


def test_every_word_and_the_daemon_have_a_page(pages: Path) -> None:
    names = {page.name for page in pages.iterdir()}
    assert {"tulle.1", "tulled.8", "tulle-init.1", "tulle-lab-up.1", "tulle-config-check.1"} <= names
    assert "\\-\\-etcd\\-endpoints" in (pages / "tulled.8").read_text()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_nothing_wrong_with_any_page(pages: Path) -> None:
    for page in pages.iterdir():
        checked = subprocess.run(
            ["groff", "-man", "-ww", "-z", str(page)], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, ""), page.name
