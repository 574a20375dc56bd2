"""subnet.env as flannel, or a disk that failed, may have left it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tulle.lab.plan import parse_subnet_env
from tulle.net.prefix import Prefix
from tulle.node.subnet_env import previous_subnets, render

SEEDS = [
    b"FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n",
    b'FLANNEL_SUBNET="10.5.52.1/24"\nFLANNEL_IPV6_SUBNET=fd00:5:34::1/64\nFLANNEL_MTU=1472',
    b"FLANNEL_SUBNET=fd00::1/64\nFLANNEL_IPV6_SUBNET=10.5.52.1/24\n=\n\0",
    b"FLANNEL_SUBNET=10.5.52.1/99\rFLANNEL_MTU=x",
]


def target(data: bytes) -> None:
    path = _file(data)
    found = previous_subnets(path)
    assert [one.version for one in found] in ([], [4], [6], [4, 6])
    if found:
        _file(render(_networks(found), found, 1472, ip_masq=True).encode())
        assert previous_subnets(path) == found
    try:
        net = parse_subnet_env(data.decode(errors="replace"))
    except ValueError:
        return
    assert 1 <= len(net.gateways) <= 2


def _networks(subnets: tuple[Prefix, ...]) -> list[Prefix]:
    return [one.supernet(new_prefix=max(0, one.prefixlen - 8)) for one in subnets]


@cache
def _memory() -> int:
    return os.memfd_create("subnet.env")


def _file(content: bytes) -> Path:
    """A file in memory that holds that."""
    os.ftruncate(_memory(), 0)
    os.pwrite(_memory(), content, 0)
    return Path(f"/proc/self/fd/{_memory()}")
