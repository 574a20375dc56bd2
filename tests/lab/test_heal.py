"""What somebody else changes on a node is put right within two seconds, without a restart, and said in the status.

Each fault is done from outside while the node runs. Two seconds are judged by reading the recorded figure; a test
waits longer, since the machine may be busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tulle.kernel.state import RTPROT_TULLE
from tulle.lab import Lab
from tulle.lab.plan import CLUSTER, RUN_DIR, SUBNET_FILE

pytestmark = [pytest.mark.lab]

WITHIN_S = 20.0
"""Ten times the figure."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, pods=1, family="dual")


@pytest.fixture
def heals(
    lab: Lab, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> Callable[..., None]:
    """`heals(command, mended="text")`: run the command on n1; then pods reach each other and the status says so."""

    def check(*commands: str, mended: str) -> None:
        lab.wait_ready()
        known = lab.status("n1")["mended"]
        began = time.monotonic()
        for command in commands:
            lab.run("n1", ["sh", "-c", command])

        def said() -> bool:
            new = [one for one in lab.status("n1")["mended"] if one not in known]
            return any(mended in one["line"] for one in new)

        eventually(said, WITHIN_S)
        eventually(lambda: lab.ping("n1/p1", "n2/p1") == lab.ping("n1/p1", "n2/p1", family=6) == 1, WITHIN_S)
        say("healed-after-s", round(time.monotonic() - began, 2))
        lab.wait_ready()
        assert lab.status("n1")["problems"] == []

    return check


def device_address(lab: Lab) -> str:
    shown = lab.run("n1", ["ip", "-4", "-brief", "address", "show", "tulle0"]).stdout
    return str(shown.split()[2])


def test_the_device_set_down(heals: Callable[..., None]) -> None:
    heals("ip link set tulle0 down", mended="tulle0: link was down, set up")


def test_the_device_deleted(heals: Callable[..., None]) -> None:
    heals("ip link del tulle0", mended="tulle0: opened again")


def test_its_address_removed(lab: Lab, heals: Callable[..., None]) -> None:
    address = device_address(lab)
    heals(f"ip address del {address} dev tulle0", mended=f"address {address} was missing")


def test_its_route_removed(heals: Callable[..., None]) -> None:
    heals(f"ip route del {CLUSTER[4]} dev tulle0", mended=f"route {CLUSTER[4]}")


def test_its_mtu_changed(heals: Callable[..., None]) -> None:
    heals("ip link set tulle0 mtu 1300", mended="tulle0: mtu was 1300")


def test_the_nodes_address_removed_and_put_back(lab: Lab, heals: Callable[..., None]) -> None:
    address = f"{lab.address('n1')}/24"
    heals(
        f"ip address del {address} dev eth0",
        "sleep 0.3",
        f"ip address add {address} dev eth0",
        mended="eth0",
    )


def test_the_nodes_interface_down_and_up(lab: Lab, heals: Callable[..., None]) -> None:
    address = f"{lab.address('n1', 6)}/64"
    heals(
        "ip link set eth0 down",
        "sleep 0.3",
        "ip link set eth0 up",
        # The kernel takes IPv6 addresses away from an interface that goes down; whoever set them sets them again.
        f"ip address add {address} dev eth0 nodad",
        mended="eth0",
    )


@pytest.mark.parametrize("damage", [f"rm {SUBNET_FILE}", f"echo FLANNEL_MTU=1 > {SUBNET_FILE}"])
def test_subnet_env_deleted_or_damaged(lab: Lab, heals: Callable[..., None], damage: str) -> None:
    before = lab.run("n1", ["cat", SUBNET_FILE]).stdout
    heals(damage, mended=SUBNET_FILE)
    assert lab.run("n1", ["cat", SUBNET_FILE]).stdout == before


def test_the_run_directory_emptied(lab: Lab, heals: Callable[..., None], hands: Callable[[Lab], Any]) -> None:
    names = sorted(lab.run("n1", ["ls", RUN_DIR]).stdout.split())
    with lab.flood("n2/p1", "n1/p1", count=5000, rate=1000) as flood:
        lab.run("n1", ["sh", "-c", f"rm -r {RUN_DIR}/*"])
        deadline = time.monotonic() + WITHIN_S
        while sorted(lab.run("n1", ["ls", RUN_DIR]).stdout.split()) != names:
            assert time.monotonic() < deadline, "the files did not come back"
            time.sleep(0.1)
        assert flood.finish().lost == 0
    lab.wait_ready()
    assert any(RUN_DIR in one["line"] for one in lab.status("n1")["mended"])
    # What the files are for works again: the command finds tulled, and the next tulled adopts the forwarder.
    assert "ready" in hands(lab).tulle("n1", "status").stdout
    forwarder = lab.forwarder_pid("n1")
    lab.kill_tulled("n1")
    lab.start_tulled("n1")
    lab.wait_ready()
    assert lab.forwarder_pid("n1") == forwarder


def test_another_programs_route_in_the_way_is_named_and_left_alone(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    """What is not ours is not removed; the node says what is in the way, and takes its place back when that goes."""
    lab.wait_ready()
    node = hands(lab)
    lab.run("n1", ["ip", "route", "replace", CLUSTER[4], "via", "192.0.2.254"])

    def named() -> bool:
        return "foreign-route" in {one["code"] for one in lab.status("n1")["problems"]}

    eventually(named, WITHIN_S)
    assert next(one["link"] for one in node.routes("n1") if one["destination"] == CLUSTER[4]) == "eth0"
    lab.run("n1", ["ip", "route", "del", CLUSTER[4], "via", "192.0.2.254"])
    eventually(lambda: not named(), WITHIN_S)
    assert CLUSTER[4] in {one["destination"] for one in node.routes("n1", RTPROT_TULLE)}
    eventually(lambda: lab.ping("n1/p1", "n2/p1") == 1, WITHIN_S)


def test_another_process_on_our_port_is_named_and_waited_for(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any]
) -> None:
    lab.wait_ready()
    hands(lab).tulle("n1", "down")
    squatter = lab.popen("n1", ["python3", "-c", SQUAT], stdout=-1, text=True)
    try:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "bound\n"
        lab.start_tulled("n1")
        eventually(lambda: "backend-start-failed" in lab.logs("n1"), WITHIN_S)
        status = lab.status("n1")
        assert "port 8285/udp (IPv4) is in use by" in " ".join(status["not_ready_because"])
        time.sleep(2.5)  # it is tried every 2 s, and said once
        assert lab.logs("n1").count("backend-start-failed") == 1
    finally:
        squatter.kill()
        squatter.communicate()
    lab.wait_ready()
    eventually(lambda: lab.ping("n1/p1", "n2/p1") == 1, WITHIN_S)


SQUAT = """
import socket, time
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("0.0.0.0", 8285))
print("bound", flush=True)
time.sleep(60)
"""
