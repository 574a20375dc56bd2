"""The manual pages as they are generated."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tulle.config.groups import all_options
from tulle.config.help import title
from tulle.plugins import load_plugins

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


def test_tulleds_page_has_every_flag_under_whose_it_is(pages: Path) -> None:
    text = (pages / "tulled.8").read_text().replace("\\-", "-")
    groups = load_plugins().option_groups()
    assert [line[5:-1] for line in text.splitlines() if line.startswith(".SS ")] == [
        title(one) for one in groups
    ]
    for option in all_options(groups):
        assert f".B --{option.name}\n" in text
    assert "/etc/tulle/tulled.toml" in text


def test_the_lone_interfaces_page_has_its_options_and_files(pages: Path) -> None:
    text = (pages / "tulle-wg.8").read_text().replace("\\-", "-")
    for term in ("-f, --foreground", "--version", "NAME", "LOG_LEVEL", "/var/run/wireguard/NAME.sock"):
        assert f".B {term}\n" in text


def test_a_page_says_what_the_help_says_without_its_indentation(pages: Path) -> None:
    text = (pages / "tulle-leases-reserve.1").read_text()
    assert "\nSUBNET is 10.5.52.0/24, or" in text
    assert ".B \\-\\-public\\-ip TEXT" in text
    assert ".B SUBNET" not in text  # an argument without a help of its own
    assert not [line for line in text.splitlines() if line.startswith(" ")]


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_nothing_wrong_with_any_page(pages: Path) -> None:
    for page in pages.iterdir():
        checked = subprocess.run(
            ["groff", "-man", "-ww", "-z", str(page)], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, ""), page.name
