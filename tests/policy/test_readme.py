"""The README tells the truth: its commands exist, and those of the lab are run here as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tulle.cli.main import tulle

BIN = Path(sys.executable).parent
PLACEHOLDER = "<address of another pod, as lab up printed them>"
FILLED = {"SUBNET": "10.42.250.0/24", "NODE": "n2", "DESTINATION": "n2", "FILE": "/var/lib/tulle/config.json"}
"""What stands for the words in capitals when the commands of the table are run on a lab's node n1."""
MORE = {"tulle init": "--force", "tulle leases release SUBNET": "--yes"}
"""There is a config already, and nobody can be asked."""
OF_ANOTHER_BACKEND = {"tulle wireguard peers"}
"""What a cluster of backend udp refuses."""


@pytest.fixture(scope="module")
def readme(checkout: Path) -> str:
    return (checkout / "README.md").read_text()


def commands(text: str) -> list[str]:
    """The lines of the indented blocks."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def test_every_command_that_is_shown_is_one(readme: str) -> None:
    """Those in blocks as they stand; those in the table by their words."""
    shown = [line for line in commands(readme) if line.startswith("tulle ")]
    shown += re.findall(r"`(tulle [a-z-]+(?: [a-z-]+)?)", readme)
    assert len(shown) > 10
    for line in shown:
        words = shlex.split(line.split("#")[0])[1:]
        command: click.Command = tulle
        context = click.Context(tulle, info_name="tulle")
        while isinstance(command, click.Group) and words and words[0] != "…":
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"{line}: there is no {name}"
            command = found
            context = click.Context(command, parent=context, info_name=name)
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        used = (
            {word.partition("=")[0] for word in words[: words.index("--")] if "--" in words}
            if "--" in words
            else {word.partition("=")[0] for word in words}
        )
        assert {word for word in used if word.startswith("-")} <= known, line


def table(text: str) -> list[str]:
    """The commands of the table, in its order."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `tulle ")]
    return [command for row in rows for command in re.findall(r"`([^`]+)`", row)]


def test_the_table_has_every_word_of_tulle(readme: str) -> None:
    words = {line.split()[1] for line in table(readme)}
    assert words == set(tulle.list_commands(click.Context(tulle)))


def test_every_make_target_that_is_shown_is_one(readme: str, checkout: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (checkout / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"`?make ([a-z]+)", readme))
    assert shown >= {"run", "test"}
    assert shown <= targets


def test_every_link_leads_somewhere(readme: str, checkout: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    assert [link for link in links if "://" not in link and not (checkout / link).exists()] == []


@pytest.mark.lab
@pytest.mark.skipif(os.getuid() != 0, reason="a lab whose parts are entered one by one needs root")
def test_the_commands_of_the_lab_run_as_they_stand(readme: str) -> None:
    lines = [line for line in commands(readme) if line.startswith("tulle lab ")]
    assert lines[0].startswith("tulle lab up")
    assert lines[-1].startswith("tulle lab down")
    name = "readme"
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(line: str) -> str:
        words = line.split(" ")
        line = " ".join([*words[:3], "--name", name, *words[3:]])  # not the lab of whoever works here
        return shell(line)

    def tried(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, shell=True, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def shell(line: str) -> str:
        done = tried(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    try:
        address = re.findall(r"10\.\d+\.\d+\.\d+", run(lines[0]))[-1]
        for line in lines[1:-1]:
            printed = run(line.replace(PLACEHOLDER, address))
            assert printed.strip(), line
            if "ping" in line:
                assert " 0% packet loss" in printed
        on_node = "tulle lab exec --name readme n1 --"
        shell(f"{on_node} sh -c 'tulle config show > {FILLED['FILE']}'")
        for line in table(readme):
            if line in OF_ANOTHER_BACKEND:
                assert "backend is udp" in tried(f"{on_node} {line}").stderr, line
            elif not line.startswith("tulle lab "):
                known = {**FILLED, "NODE": "n9"} if "reserve" in line else FILLED  # for one that is to come
                filled = " ".join(known.get(word, word) for word in line.split())
                assert shell(f"{on_node} {filled} {MORE.get(line, '')}").strip(), line
    finally:
        run(lines[-1])
