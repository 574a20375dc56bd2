"""The units, checked by systemd's own tool where it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tulle.config.core_options import CONFIG_FILE, CORE_OPTIONS
from tulle.node.daemon import SAY_S
from tulle_wireguard import uapi_socket

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"


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


@pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="systemd-sysusers (package systemd) is not installed"
)
def test_the_forwarders_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "tulle.sysusers")],
        check=True,
        capture_output=True,
        timeout=30,
    )
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert [(user[0], user[5], user[6]) for user in users] == [("tulle", "/nonexistent", "/usr/sbin/nologin")]


def test_the_directories_are_those_that_tulled_uses_by_default() -> None:
    made = [
        line.split()[:3] for line in (UNITS / "tulle.tmpfiles").read_text().splitlines() if line[0] == "d"
    ]
    by_flag = {option.name: option.default for option in CORE_OPTIONS}
    subnet_directory = str(Path(by_flag["subnet-file"]).parent)
    wg_directory = str(uapi_socket.DIRECTORY).removeprefix("/var")  # which is a link to /run (FHS 3.15)
    assert made == [
        ["d", by_flag["run-dir"], "0755"],
        ["d", subnet_directory, "0755"],
        ["d", wg_directory, "0755"],
        ["d", by_flag["state-dir"], "0700"],
    ]
    unit = dict(line.split("=", 1) for line in lines_of_the_unit() if "=" in line)
    runtime = [f"/run/{name}" for name in unit["RuntimeDirectory"].split()]
    assert runtime == [by_flag["run-dir"], subnet_directory, wg_directory]
    assert f"/var/lib/{unit['StateDirectory']}" == by_flag["state-dir"]
    assert f"/etc/{unit['ConfigurationDirectory']}" == str(Path(CONFIG_FILE).parent)


def lines_of_the_unit() -> list[str]:
    return [line for line in (UNITS / "tulled.service").read_text().splitlines() if not line.startswith("#")]


def test_reload_is_a_signal_to_tulled_alone() -> None:
    """KillMode=process is about the end; a SIGHUP to all would end the forwarder."""
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines_of_the_unit()
    assert "NotifyAccess=main" in lines_of_the_unit()


def test_the_watchdog_leaves_time_for_several_signs_of_life() -> None:
    (period,) = [line.partition("=")[2] for line in lines_of_the_unit() if line.startswith("WatchdogSec=")]
    assert int(period) >= 5 * SAY_S


def test_the_guide_names_the_capabilities_of_the_unit() -> None:
    (bound,) = [line for line in lines_of_the_unit() if line.startswith("CapabilityBoundingSet=")]
    rights = (ROOT / "docs/operators.md").read_text().partition("## Rights")[2].partition("\n## ")[0]
    assert set(re.findall(r"CAP_[A-Z_]+", bound)) == set(re.findall(r"CAP_[A-Z_]+", rights))


def test_a_wrong_configuration_is_not_tried_again_and_the_forwarder_outlives_tulled() -> None:
    text = (UNITS / "tulled.service").read_text()
    assert "RestartPreventExitStatus=2\n" in text
    assert "KillMode=process\n" in text
    assert "Type=notify\n" in text
