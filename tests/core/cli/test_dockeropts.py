"""`tulle docker-opts`: the file as a shell and systemd read it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tulle.cli.dockeropts import docker_options, docker_opts, parsed, render

FOUR = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.7.1/24\n"
SIX = "FLANNEL_IPV6_NETWORK=fd42::/48\nFLANNEL_IPV6_SUBNET=fd42:0:0:7::1/64\n"
REST = "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"


def run(folder: Path, text: str, *words: str) -> Result:
    (folder / "subnet.env").write_text(text)
    return CliRunner().invoke(
        docker_opts, ["-f", str(folder / "subnet.env"), "-d", str(folder / "docker.env"), *words]
    )


def written(folder: Path, text: str, *words: str) -> dict[str, str]:
    """The file's variables, as a shell has them."""
    done = run(folder, text, *words)
    assert (done.exit_code, done.output) == (0, f"wrote {folder / 'docker.env'}\n")
    shell = subprocess.run(
        ["env", "-i", "sh", "-ac", '. "$0"; env', str(folder / "docker.env")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    return {name: value for name, value in found.items() if name.startswith("DOCKER")}


def test_both_forms_are_written_as_flannels_helper_writes_them(tmp_path: Path) -> None:
    assert written(tmp_path, FOUR + REST) == {
        "DOCKER_OPT_BIP": "--bip=10.42.7.1/24",
        "DOCKER_OPT_IPMASQ": "--ip-masq=false",
        "DOCKER_OPT_MTU": "--mtu=1472",
        "DOCKER_OPTS": " --bip=10.42.7.1/24 --ip-masq=false --mtu=1472",
    }


def test_docker_masquerades_where_tulled_does_not(tmp_path: Path) -> None:
    assert written(tmp_path, FOUR + "FLANNEL_IPMASQ=false\n")["DOCKER_OPT_IPMASQ"] == "--ip-masq=true"


def test_one_form_alone_another_name_and_no_masquerading(tmp_path: Path) -> None:
    assert written(tmp_path, FOUR + REST, "-c", "-k", "DOCKER_NETWORK_OPTIONS=", "-m") == {
        "DOCKER_NETWORK_OPTIONS": " --bip=10.42.7.1/24 --mtu=1472"
    }
    assert set(written(tmp_path, FOUR + REST, "-i")) == {
        "DOCKER_OPT_BIP",
        "DOCKER_OPT_IPMASQ",
        "DOCKER_OPT_MTU",
    }
    assert "DOCKER_OPTS" in written(tmp_path, FOUR + REST, "-i", "-c")


def test_a_subnet_of_ipv6_is_dockers_fixed_range(tmp_path: Path) -> None:
    assert written(tmp_path, FOUR + SIX + REST)["DOCKER_OPTS"] == (
        " --bip=10.42.7.1/24 --ipv6 --fixed-cidr-v6=fd42:0:0:7::/64 --ip-masq=false --mtu=1472"
    )
    assert "DOCKER_OPT_BIP" not in written(tmp_path, SIX + REST)


def test_a_dash_prints_the_file(tmp_path: Path) -> None:
    (tmp_path / "subnet.env").write_text(FOUR + REST)
    done = CliRunner().invoke(docker_opts, ["-f", str(tmp_path / "subnet.env"), "-d", "-"])
    assert done.output.splitlines()[0] == 'DOCKER_OPT_BIP="--bip=10.42.7.1/24"'
    assert list(tmp_path.iterdir()) == [tmp_path / "subnet.env"]


def test_the_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    (tmp_path / "subnet.env").write_text(FOUR + REST)
    done = CliRunner().invoke(docker_opts, ["-f", str(tmp_path / "subnet.env"), "-d", str(folder / "x.env")])
    assert done.exit_code == 0
    assert [one.name for one in folder.iterdir()] == ["x.env"]
    assert (folder / "x.env").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET"),
        ("FLANNEL_SUBNET=$(reboot)\n", "FLANNEL_SUBNET is '$(reboot)', which is no subnet"),
        (FOUR + "FLANNEL_MTU=1472; reboot\n", "FLANNEL_MTU is '1472; reboot'"),
        (FOUR + "FLANNEL_IPV6_SUBNET=fd42::1\n", "FLANNEL_IPV6_SUBNET is 'fd42::1'"),
    ],
)
def test_a_file_that_is_not_whole_is_said_and_nothing_is_written(
    tmp_path: Path, text: str, said: str
) -> None:
    done = run(tmp_path, text)
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "docker.env").exists()


def test_a_file_that_is_not_there_names_who_writes_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(docker_opts, ["-f", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "tulled writes it" in done.output


@pytest.mark.parametrize("key", ["", "DOCKER OPTS", "1", "X;reboot", "Ä"])
def test_a_name_that_no_variable_can_have_is_refused(tmp_path: Path, key: str) -> None:
    assert run(tmp_path, FOUR + REST, "-k", key).exit_code == 2


@given(st.text())
def test_whatever_the_file_holds_what_is_written_is_one_word_a_variable(text: str) -> None:
    try:
        options = docker_options(parsed(text), ip_masq=True)
    except ValueError:
        return
    for line in render(options, "DOCKER_OPTS", individual=True, combined=True).splitlines():
        assert len(shlex.split(line)) == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, FOUR + REST, "-d", "/proc/no/such.env")
    assert done.exit_code == 1
    assert "/proc/no/such.env cannot be written" in done.output
