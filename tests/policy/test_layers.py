"""Who may import whom: `.importlinter`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LINTER = Path(sys.executable).with_name("lint-imports")


def test_the_layers_hold(checkout: Path) -> None:
    done = subprocess.run(
        [LINTER, "--no-cache"], cwd=checkout, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kept, 0 broken" in done.stdout


def test_a_broken_layer_is_noticed(checkout: Path, tmp_path: Path) -> None:
    """The rules are not so wide that they hold for anything: turned upside down they break."""
    rules = (checkout / ".importlinter").read_text()
    start = rules.index("layers =\n") + len("layers =\n")
    end = rules.index("\n\n", start)
    upside_down = "\n".join(reversed(rules[start:end].splitlines()))
    broken = tmp_path / "importlinter"
    broken.write_text(rules[:start] + upside_down + rules[end:])
    done = subprocess.run(
        [LINTER, "--no-cache", "--config", broken],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "3 kept, 1 broken" in done.stdout
