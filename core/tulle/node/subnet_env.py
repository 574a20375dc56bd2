"""subnet.env: what CNI plugins and Docker's start scripts read of this node's network, as flannel writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tulle.net.prefix import Prefix, first_host, parse_covering_prefix

NAMES = {4: ("FLANNEL_NETWORK", "FLANNEL_SUBNET"), 6: ("FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET")}


def render(networks: Sequence[Prefix], subnets: Sequence[Prefix], mtu: int, *, ip_masq: bool) -> str:
    """The file's text. A subnet is written as its first host address with the length ("10.5.52.1/24")."""
    lines = []
    for network, subnet in zip(networks, subnets, strict=True):
        network_name, subnet_name = NAMES[network.version]
        lines += [f"{network_name}={network}", f"{subnet_name}={first_host(subnet)}"]
    lines += [f"FLANNEL_MTU={mtu}", f"FLANNEL_IPMASQ={'true' if ip_masq else 'false'}"]
    return "\n".join(lines) + "\n"


def previous_subnets(path: Path) -> tuple[Prefix, ...]:
    """The subnets in the file of an earlier run, IPv4 first; empty where there is none or it says nothing usable."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ()
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    found = []
    for family, (_, subnet_name) in NAMES.items():
        with contextlib.suppress(ValueError):
            subnet = parse_covering_prefix(values.get(subnet_name, "").strip().strip('"'))
            if subnet.version == family:
                found.append(subnet)
    return tuple(found)
