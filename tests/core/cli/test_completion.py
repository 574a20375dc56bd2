"""Completion scripts, read by the shells that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tulle.cli.completion import completion, tulled_flags
from tulle.config.groups import all_options
from tulle.config.help import help_text
from tulle.plugins import load_plugins


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_knows_the_words_function_and_tulleds_flags(shell: str) -> None:
    result = CliRunner().invoke(completion, [shell])
    assert result.exit_code == 0
    assert "_TULLE_COMPLETE" in result.output
    assert "etcd-endpoints" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_itself_finds_the_script_right(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(completion, [shell]).output
    checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_a_flag_of_tulled() -> None:
    script = CliRunner().invoke(completion, ["bash"]).output
    ask = "COMP_WORDS=(tulled --etcd-end); COMP_CWORD=1; _tulled; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "--etcd-endpoints"


def test_tulled_completes_every_flag_that_its_help_lists() -> None:
    """core's, every plugin's, and those without effect."""
    listed = {name for name, _ in tulled_flags()}
    words = {word for word in help_text(load_plugins().option_groups(), "tulled").split() if word[:2] == "--"}
    assert {f"--{one.name}" for one in all_options(load_plugins().option_groups())} <= listed
    assert {word.rstrip(":,.") for word in words if "=" not in word and "(" not in word} <= listed
    assert {"--check", "--help", "--version", "--config-file", "--ip-masq", "--sqlite-file"} <= listed


def test_bash_completes_the_words_of_tulle() -> None:
    """By the script itself, with the real program behind it."""
    script = CliRunner().invoke(completion, ["bash"]).output
    ask = "COMP_WORDS=(tulle sta); COMP_CWORD=1; _tulle_completion tulle sta tulle; echo ${COMPREPLY[@]}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{ask}"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ) | {"PATH": path},
        timeout=30,
    )
    assert done.stdout.strip() == "status"
