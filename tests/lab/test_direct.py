"""DirectRouting: two nodes on one link and a third behind a router. What passes on the wire is what is meant for each
pair, and switching it on and off, node after node, loses no packet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest

from tulle.lab import Lab, LabError
from tulle.lab.plan import CLUSTER

pytestmark = [pytest.mark.lab]

TULLE = (sys.executable, "-m", "tulle.cli.main")
FAR = {4: ("198.51.100.3/24", "198.51.100.254"), 6: ("2001:db8:1::3/64", "2001:db8:1::fe")}
"""n3's new address (RFC 5737, RFC 3849), and the switch's in that network: the router."""
HEADER = {4: 20, 6: 40}
"""Bytes of an outer IP header: udp takes IPv6 packets over IPv4 too."""
WITHIN_S = 20.0
PACKETS, RATE = 5_000, 1_600.0


class Setup(NamedTuple):
    backend: str
    options: tuple[tuple[str, Any], ...]
    port: int

    def __str__(self) -> str:
        return "-".join([self.backend, *(str(value) for _, value in self.options)])


SETUPS = (
    Setup("vxlan", (), 8472),
    Setup("vxlan", (("Mode", "userspace"),), 8472),
    Setup("udp", (), 8285),
)
LONG = {SETUPS[1]}
"""For `make soak`: it does as udp does, on another wire."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            one,
            id=str(one),
            marks=[
                pytest.mark.xdist_group(f"lab-direct-{one}"),
                *([pytest.mark.soak] if one in LONG else []),
            ],
        )
        for one in SETUPS
    ],
)
def setup(request: pytest.FixtureRequest) -> Setup:
    found: Setup = request.param
    return found


@pytest.fixture(scope="module")
def lab(setup: Setup, make_lab: Callable[..., Lab], eventually: Callable[..., Any]) -> Lab:
    made = make_lab(
        nodes=3,
        pods=1,
        family="dual",
        backend=setup.backend,
        backend_options={**dict(setup.options), "DirectRouting": True},
        engine="python",
    )
    if FAR[4][0].partition("/")[0] not in made.run("n3", ["ip", "address"]).stdout:
        behind_a_router(made)
    eventually(lambda: talk(made), WITHIN_S)
    return made


def behind_a_router(lab: Lab) -> None:
    for family, sysctl in ((4, "ipv4/ip_forward"), (6, "ipv6/conf/all/forwarding")):
        address, router = FAR[family]
        length = address.partition("/")[2]
        old = f"{lab.address('n3', family)}/{24 if family == 4 else 64}"
        lab.run("switch", ["ip", "address", "add", f"{router}/{length}", "dev", "switch"])
        lab.write_file("switch", f"/proc/sys/net/{sysctl}", "1\n")
        steps = (
            f"ip address add {address} dev eth0 {'nodad' if family == 6 else ''}",
            f"ip address del {old} dev eth0",
            f"ip -{family} route replace default via {router}",
        )
        lab.run("n3", ["sh", "-c", " && ".join(steps)])
        for node in ("n1", "n2"):
            lab.run(
                node,
                ["ip", f"-{family}", "route", "replace", "default", "via", lab.address("switch", family)],
            )
    for name in ("all", "switch"):
        lab.write_file("switch", f"/proc/sys/net/ipv4/conf/{name}/send_redirects", "0\n")


def talk(lab: Lab) -> bool:
    return all(answers == 1 for family in (4, 6) for answers in lab.ping_all(family=family).values())


@pytest.fixture
def node(lab: Lab, hands: Callable[[Lab], Any]) -> Any:
    lab.wait_ready()
    return hands(lab)


def ends(packet: bytes) -> tuple[Any, Any]:
    start, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    source, target = packet[start : start + size], packet[start + size : start + 2 * size]
    return ip_address(source), ip_address(target)


@pytest.mark.parametrize("family", [4, 6])
def test_neighbours_send_plainly_and_who_is_behind_a_router_gets_the_tunnel(
    lab: Lab, node: Any, setup: Setup, family: int
) -> None:
    cluster = ip_network(CLUSTER[family])
    tunnel = setup.port.to_bytes(2, "big")
    for peer, plain in (("n2", True), ("n3", False)):
        with node.capture("n1", link="eth0") as finish:
            assert lab.ping("n1/p1", f"{peer}/p1", 5, family=family) == 5
            packets = [bytes.fromhex(one["packet"]) for one in finish()]
        clear = [one for one in packets if any(end in cluster for end in ends(one))]
        pod = ip_address(lab.address(f"{peer}/p1", family)).packed
        wrapped = [
            one
            for one in packets
            if one[HEADER[one[0] >> 4] + 2 :][:2] == tunnel and pod in one[HEADER[one[0] >> 4] :]
        ]
        if plain:
            assert len(clear) == 10
            assert wrapped == []
        else:
            assert clear == []
            assert len(wrapped) == 10


def test_status_says_how_many_and_nothing_is_wrong(lab: Lab, node: Any) -> None:
    for name, direct in (("n1", 1), ("n2", 1), ("n3", 0)):
        status = lab.status(name)
        assert (status["backend"]["direct_peers"], status["problems"]) == (direct, [])
    report = json.loads(node.tulle("n1", "doctor", "-o", "json").stdout)
    assert [one for one in report["findings"] if one["severity"] in ("warning", "error")] == []


def test_a_strict_filter_is_a_problem_until_it_is_loose(
    lab: Lab, node: Any, eventually: Callable[..., Any]
) -> None:
    path = "/proc/sys/net/ipv4/conf/eth0/rp_filter"

    def strict() -> list[str]:
        return [one["subject"] for one in lab.status("n1")["problems"] if one["code"] == "rp-filter-strict"]

    try:
        lab.write_file("n1", path, "1\n")
        eventually(lambda: strict() == ["eth0"], WITHIN_S)
        report = json.loads(node.tulle("n1", "doctor", "-o", "json", check=False).stdout)
        assert any("net.ipv4.conf.eth0.rp_filter=2" in one["what"] for one in report["findings"])
    finally:
        lab.write_file("n1", path, "2\n")
    eventually(lambda: strict() == [], WITHIN_S)


@contextmanager
def flooded(lab: Lab, say: Callable[[str, object], None]) -> Iterator[None]:
    """All that is sent while the block lasts arrives, in both directions and both families."""
    ways = (("n1/p1", "n2/p1", 4), ("n2/p1", "n1/p1", 4), ("n2/p1", "n1/p1", 6))
    with ExitStack() as stack:
        floods = [
            stack.enter_context(lab.flood(source, target, count=PACKETS, rate=RATE, family=family))
            for source, target, family in ways
        ]
        yield
        results = [flood.finish() for flood in floods]
    for way, result in zip(ways, results, strict=True):
        say(f"flood {way}", result)
    assert [(one.sent, one.lost) for one in results] == [(PACKETS, 0)] * len(ways)


def test_switching_it_off_and_on_again_node_after_node_loses_nothing(
    lab: Lab, node: Any, setup: Setup, eventually: Callable[..., Any], say: Callable[[str, object], None]
) -> None:
    for direct in (False, True):
        backend = {"Type": setup.backend, **dict(setup.options), "DirectRouting": direct}
        config = json.dumps(lab.plan.network_config() | {"Backend": backend})
        lab.run("switch", [*TULLE, "config", "set", "-", *lab.plan.store_args()], input=config)
        with flooded(lab, say):
            for name in ("n1", "n2"):
                lab.kill_tulled(name)
                lab.start_tulled(name)
                eventually(lambda name=name, wanted=int(direct): is_so(lab, name, wanted), WITHIN_S)
        assert talk(lab)


def is_so(lab: Lab, name: str, direct_peers: int) -> bool:
    with suppress(LabError):
        status = lab.status(name)
        return bool(status["ready"]) and status["backend"]["direct_peers"] == direct_peers
    return False
