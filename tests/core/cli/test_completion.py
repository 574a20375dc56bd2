"""Completion scripts, read by the shells that are there."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from tulle.cli.completion import completion


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
