"""Links, addresses and routes of nodes and pods."""

from __future__ import annotations

import json
import shutil
import sys
from ipaddress import ip_address
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = pytest.mark.lab

LINKS = """
import json
from pyroute2 import IPRoute
with IPRoute() as links:
    names = {link["index"]: link.get("ifname") for link in links.get_links()}
    print(json.dumps({
        "links": {link.get("ifname"): {
            "mtu": link.get("mtu"), "up": bool(link["flags"] & 1), "master": names.get(link.get("master"))
        } for link in links.get_links()},
        "addresses": [[names[a["index"]], a.get("address"), a["prefixlen"], a.get("flags")] for a in links.get_addr()],
        "defaults": [r.get("gateway") for r in links.get_routes(dst_len=0, table=254) if r.get("gateway")],
    }))
"""
IFA_F_TENTATIVE = 0x40


def links_of(lab: Lab, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.run(place, [sys.executable, "-c", LINKS]).stdout)
    return found


def addresses(found: dict[str, Any], link: str) -> set[str]:
    return {
        f"{address}/{length}"
        for name, address, length, _ in found["addresses"]
        if name == link and not ip_address(address).is_link_local
    }


def test_a_node_has_its_uplink_with_a_default_route_and_a_bridge_for_its_pods(bare: Lab) -> None:
    found = links_of(bare, "n2")
    assert addresses(found, "eth0") == {"192.0.2.2/24", "2001:db8::2/64"}
    assert addresses(found, "cni0") == set(bare.nets["n2"].gateways)
    assert sorted(found["defaults"]) == ["192.0.2.254", "2001:db8::fe"]
    assert {name for name, link in found["links"].items() if link["master"] == "cni0"} == {"to-p1", "to-p2"}
    assert all(link["up"] for name, link in found["links"].items() if name in ("lo", "eth0", "cni0", "to-p1"))


def test_a_pod_has_the_next_addresses_and_the_bridge_as_its_gateway(bare: Lab) -> None:
    found = links_of(bare, "n1/p2")
    assert addresses(found, "eth0") == {"10.42.1.3/24", "fd42:0:0:1::3/64"}
    assert sorted(found["defaults"]) == ["10.42.1.1", "fd42:0:0:1::1"]
    assert found["links"]["lo"]["up"]


def test_no_address_waits_for_duplicate_address_detection(bare: Lab) -> None:
    for place in ("switch", "n1", "n1/p1"):
        tentative = [one for one in links_of(bare, place)["addresses"] if one[3] and one[3] & IFA_F_TENTATIVE]
        assert tentative == []


@pytest.mark.parametrize("family", [4, 6])
def test_the_underlay_and_each_nodes_pods_reach_each_other(bare: Lab, family: int) -> None:
    assert bare.ping("n1", "n2", 3, family=family) == 3
    assert bare.ping("n2", "switch", 3, family=family) == 3
    assert bare.ping("n1/p1", "n1/p2", 3, family=family) == 3
    assert bare.ping("n1", "n1/p2", 3, family=family) == 3


@pytest.mark.skipif(shutil.which("ping") is None, reason="ping (iputils) is not installed")
@pytest.mark.parametrize("family", [4, 6])
def test_the_systems_own_ping_agrees(bare: Lab, family: int) -> None:
    done = bare.run("n1/p1", ["ping", "-c", "2", "-i", "0.1", "-w", "5", bare.address("n1/p2", family)])
    assert " 0% packet loss" in done.stdout


def test_pods_of_different_nodes_do_not_reach_each_other_by_the_labs_doing(bare: Lab) -> None:
    answers = bare.ping_all(1)
    assert {pair for pair, count in answers.items() if count} == {
        (f"{node}/{one}", f"{node}/{other}")
        for node in ("n1", "n2")
        for one, other in (("p1", "p2"), ("p2", "p1"))
    }


def test_forwarding_is_left_to_tulled(bare: Lab) -> None:
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        assert bare.read_file("n1", f"/proc/sys/net/{setting}") == "0\n"


def test_pods_have_the_mtu_that_subnet_env_gives() -> None:
    with Lab(nodes=1, pods=1, backend="none", underlay_mtu=1400) as lab:
        assert links_of(lab, "n1/p1")["links"]["eth0"]["mtu"] == 1400
        node = links_of(lab, "n1")["links"]
        assert {node[name]["mtu"] for name in ("eth0", "cni0", "to-p1")} == {1400}


def test_a_node_lists_its_own_links_in_sys(bare: Lab) -> None:
    listed = set(bare.run("n1", ["ls", "/sys/class/net"]).stdout.split())
    assert {"eth0", "cni0", "to-p1", "to-p2"} <= listed


def test_a_node_can_make_a_tun(bare: Lab) -> None:
    script = (
        "import fcntl, os, struct\n"
        "fd = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(fd, 0x400454CA, struct.pack('16sH22x', b'try0', 0x5101))\n"
        "print(os.path.exists('/proc/sys/net/ipv4/conf/try0'))\n"
    )
    assert bare.run("n1", [sys.executable, "-c", script]).stdout == "True\n"
    assert "try0" not in links_of(bare, "n1")["links"]
