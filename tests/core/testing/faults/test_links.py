"""Faults of links, in a lab of two nodes without pods: what is measured is the wire between the nodes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tulle.lab import Lab
from tulle.lab.plan import NO_BACKEND
from tulle.lab.registry import Registry
from tulle.testing.faults.line import Weather
from tulle.testing.faults.links import address_changed, link_down, loss, mtu_shrunk, rate
from tulle.testing.faults.proxy import StoreProxy
from tulle.testing.faults.wire import wire

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    registry = Registry(tmp_path_factory.mktemp("labs") / "registry")
    with Lab(nodes=2, pods=0, backend=NO_BACKEND, family="dual", registry=registry) as made:
        yield made


def reaches(lab: Lab, target: str, *options: str) -> bool:
    """Whether n1 gets one answer from there."""
    return lab.run("n1", ["ping", "-c1", "-W0.4", *options, target], check=False).returncode == 0


def routes(lab: Lab) -> list[str]:
    return [lab.run("n1", ["ip", family, "route"]).stdout for family in ("-4", "-6")]


def eventually_reaches(lab: Lab, target: str) -> bool:
    """Behind a link that came up, IPv6 may need a moment."""
    return any(reaches(lab, target) for _ in range(5))


def test_a_link_that_is_down_carries_nothing_and_has_its_routes_back_afterwards(lab: Lab) -> None:
    before = routes(lab)
    with link_down(lab, "n1"):
        assert not reaches(lab, lab.address("n2"))
    assert eventually_reaches(lab, lab.address("n2"))
    assert "default via 192.0.2.254 dev eth0" in routes(lab)[0]
    assert [sorted(text.splitlines()) for text in routes(lab)] == [
        sorted(text.splitlines()) for text in before
    ]
    assert eventually_reaches(lab, lab.address("switch"))


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [(4, "192.0.2.1/24", "192.0.2.101/24"), (6, "2001:db8::1/64", "2001:db8::101/64")],
)
def test_a_changed_address_is_the_nodes_only_one_and_changes_back(
    lab: Lab, family: int, old: str, new: str
) -> None:
    def n2_reaches(address: str) -> bool:
        ping = ["ping", "-c1", "-W0.4", address.split("/")[0]]
        return any(lab.run("n2", ping, check=False).returncode == 0 for _ in range(2))

    def has(address: str) -> bool:
        return f" {address} " in lab.run("n1", ["ip", "addr", "show", "dev", "eth0"]).stdout

    with address_changed(lab, "n1", old, new):
        assert n2_reaches(new)
        assert not has(old)
        assert "default via" in routes(lab)[family == 6]
    assert n2_reaches(old)
    assert not has(new)
    assert "default via" in routes(lab)[family == 6]


def test_a_smaller_mtu_is_told_at_the_senders_link_and_swallows_on_the_way(lab: Lab) -> None:
    large = ["ping", "-c1", "-W0.4", "-M", "do", "-s", "1400", lab.address("n2")]
    with mtu_shrunk(lab, "n1", 1300):
        assert "message too long, mtu=1300" in lab.run("n1", large, check=False).stderr
    with mtu_shrunk(lab, "switch", 1300, link="to-n2"):
        said = lab.run("n1", large, check=False)
        assert said.returncode == 1
        assert "too long" not in said.stdout + said.stderr
        assert reaches(lab, lab.address("n2"))
    assert lab.run("n1", large).returncode == 0


def answers(lab: Lab, count: int, *options: str) -> list[tuple[int, float]]:
    """(number, milliseconds) of the answers to so many echo requests, in the order of their arrival."""
    ping = ["ping", "-n", "-q" if count == 0 else "-n", "-c", str(count), *options, lab.address("n2")]
    found = []
    for line in lab.run("n1", ping, check=False).stdout.splitlines():
        if "icmp_seq=" in line and "time=" in line:
            words = dict(word.split("=") for word in line.split() if "=" in word)
            found.append((int(words["icmp_seq"]), float(words["time"])))
    return found


def test_loss_is_the_share_that_was_asked_for_and_ends_with_the_block(lab: Lab) -> None:
    with loss(lab, "n2", 0.3):
        assert 0.5 < len(answers(lab, 300, "-i", "0.002", "-W", "0.3")) / 300 < 0.9
    with loss(lab, "n2", 1.0):
        assert not reaches(lab, lab.address("n2"))
    assert len(answers(lab, 100, "-i", "0.002")) == 100


def test_a_rate_is_held(lab: Lab) -> None:
    with rate(lab, "n1", 200_000):
        # 20 echo requests of 1,000 bytes at once are 160 kbit; the bucket holds 128 kbit and refills in between.
        slow = [milliseconds for _, milliseconds in answers(lab, 40, "-s", "1000", "-i", "0.002")]
    assert max(slow) > 20
    quick = [milliseconds for _, milliseconds in answers(lab, 40, "-s", "1000", "-i", "0.002")]
    assert len(quick) == 40
    assert max(quick) < 20


def test_a_wire_delays_and_reorders_and_is_gone_afterwards(lab: Lab) -> None:
    answers(lab, 1)  # neighbours are known
    with wire(lab, "to-n1", Weather(delay_s=0.02), seed=1):
        delayed = answers(lab, 20, "-i", "0.01")
        assert len(delayed) == 20
        assert 40 <= statistics.median(milliseconds for _, milliseconds in delayed) < 60
        assert delayed == sorted(delayed)
    with wire(lab, "to-n1", Weather(reorder=0.3, behind_s=0.02, duplicate=0.2, loss=0.1), seed=1):
        mixed = [number for number, _ in answers(lab, 100, "-i", "0.002", "-W", "0.3")]
        assert mixed != sorted(mixed)
        assert len(mixed) > len(set(mixed))
        assert 60 < len(set(mixed)) < 100
    assert len(answers(lab, 20, "-i", "0.002")) == 20
    left = json.loads(lab.run("switch", ["ip", "-json", "link"]).stdout)
    assert [link["ifname"] for link in left if link["ifname"].startswith(("w-", "x-"))] == []


def test_a_wire_carries_a_stream_with_its_offloads(lab: Lab) -> None:
    total = 8 << 20
    receive = (
        "import socket, hashlib\n"
        "server = socket.create_server(('192.0.2.2', 5001))\n"
        "print('listens', flush=True)\n"
        "one, _ = server.accept(); one.settimeout(20); seen, held = hashlib.sha256(), 0\n"
        "while piece := one.recv(1 << 16): seen.update(piece); held += len(piece)\n"
        "print(held, seen.hexdigest())\n"
    )
    send = (
        "import socket, hashlib, random\n"
        f"data = random.Random(1).randbytes({total})\n"
        "with socket.create_connection(('192.0.2.2', 5001), 20) as one: one.sendall(data)\n"
        f"print(len(data), hashlib.sha256(data).hexdigest())\n"
    )
    with wire(lab, "to-n1", Weather(delay_s=0.001), seed=1):
        receiver = lab.popen("n2", [sys.executable, "-c", receive], stdout=subprocess.PIPE, text=True)
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "listens\n"
            sent = lab.run("n1", [sys.executable, "-c", send], timeout=40).stdout
            assert receiver.communicate(timeout=20)[0] == sent
        finally:
            receiver.kill()
            receiver.communicate()


ECHO = "import socket; s = socket.create_server(('192.0.2.254', 5002)); print('listens', flush=True)\n" + (
    "while True:\n one, _ = s.accept()\n try:\n  while piece := one.recv(99): one.sendall(piece)\n"
    " except OSError: pass\n"
)
ASK = """
import socket, time
try:
    with socket.create_connection(('192.0.2.254', 5003), 1) as one:
        start = time.monotonic(); one.settimeout(0.5); one.sendall(b'x'); one.recv(1); print(time.monotonic() - start)
except OSError as error:
    print(type(error).__name__)
"""


def test_a_store_proxy_in_the_lab_delays_freezes_and_refuses(lab: Lab) -> None:
    def asked() -> str:
        return lab.run("n1", [sys.executable, "-c", ASK]).stdout.strip()

    server = lab.popen("switch", [sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        with StoreProxy(lab, "switch", listen="192.0.2.254:5003", server="192.0.2.254:5002") as proxy:
            assert float(asked()) < 0.1
            proxy.delay(0.1)
            assert 0.2 <= float(asked()) < 0.45
            proxy.delay(0)
            proxy.freeze()
            assert asked() == "TimeoutError"
            proxy.refuse()
            assert asked() == "ConnectionRefusedError"
            proxy.thaw()
            proxy.accept()
            assert float(asked()) < 0.1
        assert asked() == "ConnectionRefusedError"
    finally:
        server.kill()
        server.communicate()
