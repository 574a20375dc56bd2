"""A network namespace for the thread that runs the test, and two nodes' worth of addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.component import ComponentContext
from tulle.lab import namespaces as ns

NETWORKS = (ip_network("10.42.0.0/16"), ip_network("fd42::/48"))
SUBNETS = (ip_network("10.42.1.0/24"), ip_network("fd42:0:0:1::/64"))
FLAGS: dict[str, Any] = {
    "ip-masq": True,
    "ip-masq-fully-random-disable": False,
    "iptables-resync": 5,
    "iptables-forward-rules": True,
    "ip-blackhole-route": False,
}

Shell = Callable[[str], str]


@pytest.fixture
def own_network() -> Iterator[None]:
    """This thread is in a fresh network namespace; so are the processes and threads that it starts."""
    for program in ("nft", "iptables-nft", "iptables-legacy"):
        if shutil.which(program) is None:
            pytest.fail(f"these tests need {program}: apt install nftables iptables")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ns.unshare(ns.CLONE_NEWNET)
    except PermissionError:
        os.close(home)
        pytest.skip("needs root: a thread cannot make a network namespace otherwise")
    yield
    ns.setns(home, ns.CLONE_NEWNET)
    os.close(home)


@pytest.fixture
def shell(own_network: None) -> Shell:
    """Runs a line of a shell in that namespace; returns what it printed."""

    def run(line: str) -> str:
        done = subprocess.run(["sh", "-ec", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def rules_of(shell: Shell) -> Callable[[], list[str]]:
    """Every rule of every tool, as a person would list it, without numbers of packets and empty tables."""
    programs = [f"ip{six}tables-{kind}-save" for six in ("", "6") for kind in ("nft", "legacy")]
    listing = "; ".join([*(f"{one} | sed 's/^/{one} /'" for one in programs), "nft -s list ruleset"])

    def rules() -> list[str]:
        lines = shell(listing).splitlines()
        return [one for one in lines if " -A " in one or ("\t\t" in one and "\ttype " not in one)]

    return rules


MakeContext = Callable[..., ComponentContext]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """`make_context({"ip-masq": False}, enable_nftables=True)`: differences of flags, then of the rest."""

    def make(flags: dict[str, Any] | None = None, **rest: Any) -> ComponentContext:
        given = {"networks": NETWORKS, "prefixes": SUBNETS} | rest
        return ComponentContext(
            node="n1", state_dir=tmp_path, run_dir=tmp_path, options={**FLAGS, **(flags or {})}, **given
        )

    return make
