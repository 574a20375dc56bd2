"""The units, checked by systemd's own tool where it is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze (package systemd) is not installed"
)
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # The program and its manual are not installed where the tests run.
    text = (UNITS / "tulled.service").read_text().replace("/usr/bin/tulled", "/bin/true")
    unit = tmp_path / "tulled.service"
    unit.write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_a_wrong_configuration_is_not_tried_again_and_the_forwarder_outlives_tulled() -> None:
    text = (UNITS / "tulled.service").read_text()
    assert "RestartPreventExitStatus=2\n" in text
    assert "KillMode=process\n" in text
    assert "Type=notify\n" in text
