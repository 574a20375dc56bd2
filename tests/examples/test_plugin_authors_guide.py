"""docs/plugin-authors.md does what it says: its blocks are the example's files, and its commands work on them, in
order, in a folder that is empty at first."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.xdist_group("examples"), pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "plugin-authors.md"
EXAMPLE = ROOT / "examples" / "tulle-tagged"
BLOCK = re.compile(r"(?:^`(?P<name>[\w./-]+)`:\n\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
ANYTHING = "…"
STEP_S = 120


@dataclass(frozen=True)
class Block:
    """A fenced block: a file where it has a name, else commands ("sh") or what they print ("text")."""

    kind: str
    text: str
    name: str = ""


def blocks() -> list[Block]:
    return [
        Block(found["kind"], found["text"], found["name"] or "")
        for found in BLOCK.finditer(GUIDE.read_text())
    ]


def is_shown(expected: str, output: str) -> bool:
    """Whether the expected lines stand in the output, in that order; "…" is anything, blanks are as good as one."""
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for line in expected.splitlines():
        pieces = [re.escape(" ".join(piece.split())) for piece in line.split(ANYTHING)]
        wanted = re.compile(r"\s*.*\s*".join(pieces))
        if not any(wanted.fullmatch(one) for one in lines):
            return False
    return True


def example_files() -> dict[str, str]:
    folders = (EXAMPLE.iterdir(), (EXAMPLE / "src" / "tulle_tagged").iterdir(), (EXAMPLE / "tests").iterdir())
    files = [path for folder in folders for path in folder if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(EXAMPLE)): path.read_text() for path in files}


def test_the_guide_shows_every_file_of_the_example_as_it_is() -> None:
    shown = {block.name: block.text for block in blocks() if block.name}
    assert shown.keys() == example_files().keys()
    for name, text in example_files().items():
        assert shown[name] == text, f"docs/plugin-authors.md shows another {name}"


def test_every_block_is_a_file_or_commands_or_what_they_print() -> None:
    kinds = {block.kind for block in blocks() if not block.name}
    assert kinds == {"sh", "sh skip", "text"}


@pytest.mark.parametrize(
    ("expected", "output", "shown"),
    [
        ("a … z\n", "first\na  b   z\n", True),
        ("a\nb\n", "b\na\n", False),
        ("…passed…\n", "3 passed in 1 s\n", True),
        ("… passed…\n", "3 failed\n", False),
    ],
)
def test_output_is_compared_line_by_line_with_gaps(expected: str, output: str, shown: bool) -> None:
    assert is_shown(expected, output) is shown


class Reader:
    """Does what the guide says, block by block."""

    def __init__(self, folder: Path, run_program: Any) -> None:
        self.home = folder
        self.package = folder / "tulle-tagged"
        self.labs = folder / "labs"
        """Where `tulle lab` notes which labs there are, so that those of this machine are not seen."""
        self.labs.mkdir()
        self.said = ""
        self._run = run_program

    def follow(self, block: Block) -> None:
        if block.name:
            (self.package / block.name).write_text(block.text)
        elif block.kind == "sh":
            self.said = self.shell(block.text)
        elif block.kind == "text":
            assert is_shown(block.text, self.said), f"expected\n{block.text}\nbut it said\n{self.said}"

    def shell(self, commands: str) -> str:
        """In the package's folder, and its environment, once they are there."""
        made = self.package.exists()
        script = "exec 2>&1\n" + (". .venv/bin/activate\n" if made else "") + commands
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        extra = {"TULLE": str(ROOT), "XDG_RUNTIME_DIR": str(self.labs), "PATH": path}
        where = self.package if made else self.home
        said: str = self._run(["bash", "-euc", script], cwd=where, extra=extra, timeout=STEP_S).stdout
        return said

    def close(self) -> None:
        """End a lab that a failed step has left."""
        if any(self.labs.iterdir()):
            self.shell("tulle lab down --name tagged")


@pytest.mark.lab
def test_its_commands_lead_from_an_empty_folder_to_a_working_backend(
    tmp_path: Path, dependencies: Path, run_program: Any, environment_at: Any
) -> None:
    reader = Reader(tmp_path, run_program)
    try:
        for block in blocks():
            made = reader.package.exists()
            reader.follow(block)
            if not made and reader.package.exists():  # what pip would fetch from an index
                environment_at(reader.package / ".venv").link(dependencies)
        assert not any(reader.labs.iterdir()), "a lab is left"
    finally:
        reader.close()
