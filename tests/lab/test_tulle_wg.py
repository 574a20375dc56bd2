"""`tulle-wg` with the stock tools, and wireguard-go of the distribution beside it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from lab.wgnet import SOCKETS, TULLE_WG, Key, Net, net, wait_for
from tulle.worker.session import SILENT_S
from tulle_wireguard.crypto import public_key

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-tulle-wg")]

HOSTS = ("a", "b", "c")
INNER = {"a": ("10.9.0.1", "fd09::1"), "b": ("10.9.0.2", "fd09::2"), "c": ("10.9.0.3", "fd09::3")}
PORTS = {"a": 51821, "b": 51822, "c": 51823}
NONE = "(none)"
PSK_FILE = "/run/psk"


@pytest.fixture
def wires() -> Iterator[Net]:
    with net() as made:
        yield made


@pytest.fixture
def one(wires: Net) -> Net:
    """A host "a" with the interface wg-a."""
    wires.host("a")
    wires.tulle_wg("a", "wg-a")
    return wires


def nothing_left(wires: Net, name: str) -> bool:
    """No process, no file, no device."""
    return not (
        wires.processes(name)
        or wires.exists(f"{SOCKETS}/{name}.sock")
        or wires.exists("/run/tulle-wg")
        or wires.run("a", "ip", "link", "show", name, check=False).returncode == 0
    )


class Triangle:
    """Two tulle-wg and one wireguard-go, each the others' peer."""

    def __init__(self, wires: Net) -> None:
        self.net = wires
        self.psk = wires.run("", "sh", "-c", f"umask 077; wg genpsk | tee {PSK_FILE}").stdout.strip()
        self.keys = {}
        for host in HOSTS:
            wires.host(host)
            (wires.wireguard_go if host == "c" else wires.tulle_wg)(host, f"wg-{host}")
            self.keys[host] = Key(wires)

    def set_by_words(self, host: str) -> None:
        self.net.give_key(host, f"wg-{host}", self.keys[host].private)
        words = ["listen-port", str(PORTS[host])]
        for other in HOSTS:
            if other != host:
                four, six = INNER[other]
                words += ["peer", self.keys[other].public, "preshared-key", PSK_FILE]
                words += ["endpoint", self.endpoint(host, other), "allowed-ips", f"{four}/32,{six}/128"]
        self.net.wg(host, "set", f"wg-{host}", *words)

    def endpoint(self, host: str, other: str) -> str:
        """Between a and c over IPv6, else over IPv4."""
        four, six = self.net.addresses[other]
        return f"[{six}]:{PORTS[other]}" if {host, other} == {"a", "c"} else f"{four}:{PORTS[other]}"

    def configuration(self, host: str, others: tuple[str, ...] = HOSTS) -> str:
        lines = ["[Interface]", f"PrivateKey = {self.keys[host].private}", f"ListenPort = {PORTS[host]}"]
        for other in others:
            if other != host:
                four, six = INNER[other]
                lines += ["[Peer]", f"PublicKey = {self.keys[other].public}", f"PresharedKey = {self.psk}"]
                lines += [f"Endpoint = {self.endpoint(host, other)}", f"AllowedIPs = {four}/32, {six}/128"]
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def triangle() -> Iterator[Triangle]:
    with net() as wires:
        made = Triangle(wires)
        for host in HOSTS:
            wires.wg(host, "syncconf", f"wg-{host}", "/dev/stdin", given=made.configuration(host))
            four, six = INNER[host]
            wires.up(host, f"wg-{host}", f"{four}/24", f"{six}/64")
        yield made


def test_in_a_triangle_set_by_syncconf_everyone_reaches_everyone_in_both_families(triangle: Triangle) -> None:
    for host in HOSTS:
        others = [address for other in HOSTS if other != host for address in INNER[other]]
        assert triangle.net.ping(host, *others, count=3) == dict.fromkeys(others, 3)


def test_what_wg_dumps_is_what_was_set_and_what_has_passed(triangle: Triangle) -> None:
    wires = triangle.net
    for other in ("b", "c"):
        assert wires.ping("a", INNER[other][0], count=2) == {INNER[other][0]: 2}
    device, peers = wires.dump("a", "wg-a")
    keys = triangle.keys
    assert device == [keys["a"].private, keys["a"].public, str(PORTS["a"]), "off"]
    assert set(peers) == {keys["b"].public, keys["c"].public}
    now = int(wires.run("", "date", "+%s").stdout)
    for other in ("b", "c"):
        psk, endpoint, allowed, handshake, received, sent, keepalive = peers[keys[other].public]
        assert (psk, keepalive) == (triangle.psk, "off")
        assert endpoint == triangle.endpoint("a", other)
        assert allowed == ",".join(f"{one}/{32 if '.' in one else 128}" for one in INNER[other])
        assert now - 120 < int(handshake) <= now
        # Two pings of 64 bytes, padded: 16 + 96 + 16 each; and one message of each handshake.
        assert int(received) >= 2 * 128 + 92
        assert int(sent) >= 2 * 128 + 92
    assert wires.dump("a", "wg-a")[1][keys["c"].public][3] == peers[keys["c"].public][3]


def test_what_wg_dumps_of_all_interfaces_has_each_of_them(triangle: Triangle) -> None:
    lines = [line.split("\t") for line in triangle.net.wg("a", "show", "all", "dump").stdout.splitlines()]
    devices = {line[0]: line[2] for line in lines if len(line) == 5}
    assert devices == {f"wg-{host}": triangle.keys[host].public for host in HOSTS}
    assert sorted(line[0] for line in lines if len(line) == 9) == sorted([f"wg-{host}" for host in HOSTS] * 2)


def test_what_showconf_writes_is_taken_by_syncconf_and_changes_nothing(triangle: Triangle) -> None:
    wires = triangle.net
    before = wires.wg("b", "showconf", "wg-b").stdout
    wires.wg("b", "syncconf", "wg-b", "/dev/stdin", given=before)
    assert wires.wg("b", "showconf", "wg-b").stdout == before
    assert sorted(before.split()) == sorted(triangle.configuration("b").split())


def test_a_triangle_set_by_wg_set_carries_packets_and_a_removed_peer_is_out(wires: Net) -> None:
    triangle = Triangle(wires)
    for host in HOSTS:
        triangle.set_by_words(host)
        wires.up(host, f"wg-{host}", f"{INNER[host][0]}/24", f"{INNER[host][1]}/64")
    others = [*INNER["b"], *INNER["c"]]
    assert wires.ping("a", *others, count=2) == dict.fromkeys(others, 2)
    given = triangle.configuration("a", others=("a", "c"))
    wires.wg("a", "syncconf", "wg-a", "/dev/stdin", given=given)
    assert wires.ping("a", *others, wait_s=1) == dict.fromkeys(INNER["b"], 0) | dict.fromkeys(INNER["c"], 1)
    wires.wg("a", "set", "wg-a", "peer", triangle.keys["c"].public, "remove")
    assert wires.dump("a", "wg-a")[1] == {}
    wires.wg("a", "setconf", "wg-a", "/dev/stdin", given=triangle.configuration("a"))
    assert wires.ping("a", *others, wait_s=5) == dict.fromkeys(others, 1)


def test_without_a_private_key_nothing_passes_and_with_one_it_does(one: Net) -> None:
    one.host("c")
    one.wireguard_go("c", "wg-c")
    keys = {host: Key(one) for host in ("a", "c")}
    for host, other in (("a", "c"), ("c", "a")):
        four = one.addresses[other][0]
        words = ["peer", keys[other].public, "endpoint", f"{four}:{PORTS[other]}", "allowed-ips", "0.0.0.0/0"]
        one.wg(host, "set", f"wg-{host}", "listen-port", str(PORTS[host]), *words)
        one.up(host, f"wg-{host}", f"{INNER[host][0]}/24")
    one.give_key("c", "wg-c", keys["c"].private)
    there = INNER["c"][0]
    assert one.ping("a", there, wait_s=1) == {there: 0}
    device, peers = one.dump("a", "wg-a")
    assert device[:2] == [NONE, NONE]
    assert list(peers) == [keys["c"].public]
    one.give_key("a", "wg-a", keys["a"].private)
    assert one.ping("a", there, count=2) == {there: 2}


def test_another_private_key_is_used_at_once_and_the_old_sessions_are_not(one: Net) -> None:
    one.host("c")
    one.wireguard_go("c", "wg-c")
    keys = {host: Key(one) for host in ("a", "c")}
    for host, other in (("a", "c"), ("c", "a")):
        one.give_key(host, f"wg-{host}", keys[host].private)
        words = ["peer", keys[other].public, "endpoint", f"{one.addresses[other][0]}:{PORTS[other]}"]
        one.wg(host, "set", f"wg-{host}", "listen-port", str(PORTS[host]), *words, "allowed-ips", "0.0.0.0/0")
        one.up(host, f"wg-{host}", f"{INNER[host][0]}/24")
    there = INNER["c"][0]
    assert one.ping("a", there) == {there: 1}
    fresh = Key(one)
    one.give_key("a", "wg-a", fresh.private)
    assert one.ping("a", there, wait_s=1) == {there: 0}
    one.wg("c", "set", "wg-c", "peer", keys["a"].public, "remove")
    one.wg("c", "set", "wg-c", "peer", fresh.public, "allowed-ips", "0.0.0.0/0")
    assert one.reaches("a", there) < 10


def test_a_port_in_use_is_told_and_nothing_of_the_request_is_done(one: Net) -> None:
    one.tulle_wg("a", "wg-x")
    taken = one.wg("a", "show", "wg-x", "listen-port").stdout.strip()
    before = one.wg("a", "showconf", "wg-a").stdout
    refused = one.wg(
        "a", "set", "wg-a", "fwmark", "7", "listen-port", taken, "peer", Key(one).public, check=False
    )
    assert refused.returncode != 0
    assert "Address already in use" in refused.stderr
    assert one.wg("a", "showconf", "wg-a").stdout == before


def test_a_firewall_mark_is_on_what_is_sent(one: Net) -> None:
    """A rule throws marked packets away before they leave."""
    one.host("c")
    one.wireguard_go("c", "wg-c")
    keys = {host: Key(one) for host in ("a", "c")}
    for host, other in (("a", "c"), ("c", "a")):
        one.give_key(host, f"wg-{host}", keys[host].private)
        words = ["peer", keys[other].public, "endpoint", f"{one.addresses[other][0]}:{PORTS[other]}"]
        one.wg(host, "set", f"wg-{host}", "listen-port", str(PORTS[host]), *words, "allowed-ips", "0.0.0.0/0")
        one.up(host, f"wg-{host}", f"{INNER[host][0]}/24")
    there = INNER["c"][0]
    assert one.ping("a", there) == {there: 1}
    one.run("a", "ip", "rule", "add", "fwmark", "0x51", "blackhole")
    assert one.ping("a", there) == {there: 1}
    one.wg("a", "set", "wg-a", "fwmark", "0x51")
    assert one.dump("a", "wg-a")[0][3] == "0x51"
    assert one.ping("a", there, wait_s=1) == {there: 0}
    one.wg("a", "set", "wg-a", "fwmark", "off")
    assert one.reaches("a", there) < 10


# --- wg-quick -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(wires: Net) -> Callable[..., None]:
    """Runs wg-quick where the kernel has no WireGuard of its own, whatever this machine's has."""
    refusal = 'case "$*" in *"type wireguard") echo "Unknown device type" >&2; exit 2;; esac'
    script = f'#!/bin/sh\n{refusal}\nexec {{ip}} "$@"\n'
    wires.run("", "mkdir", "-p", "/run/bin")
    real = wires.run("", "sh", "-c", "command -v ip").stdout.strip()
    program = " ".join(TULLE_WG)
    for name, text in {"ip": script.format(ip=real), "tulle-wg": f'#!/bin/sh\nexec {program} "$@"\n'}.items():
        wires.run("", "sh", "-c", f"cat > /run/bin/{name}; chmod 755 /run/bin/{name}", given=text)

    def run(host: str, word: str, path: str) -> None:
        change = f"PATH=/run/bin:$PATH WG_QUICK_USERSPACE_IMPLEMENTATION=tulle-wg exec wg-quick {word} {path}"
        wires.run(host, "sh", "-c", change)

    return run


@pytest.mark.parametrize("everything", [False, True], ids=["some routes", "all routes"])
def test_wg_quick_brings_an_interface_up_and_down(
    wires: Net, quick: Callable[..., None], everything: bool
) -> None:
    """All routes: with a mark, a table and rules of its own, as wg-quick does it."""
    for host in ("a", "c"):
        wires.host(host)
    keys = {host: Key(wires) for host in ("a", "c")}
    wires.wireguard_go("c", "wg-c")
    wires.give_key("c", "wg-c", keys["c"].private)
    words = [
        "listen-port",
        str(PORTS["c"]),
        "peer",
        keys["a"].public,
        "allowed-ips",
        "10.9.0.1/32,fd09::1/128",
    ]
    wires.wg("c", "set", "wg-c", *words)
    wires.up("c", "wg-c", "10.9.0.3/24", "fd09::3/64", "10.77.0.1/32")
    allowed = "0.0.0.0/0, ::/0" if everything else "10.9.0.3/32, fd09::3/128, 10.77.0.0/16"
    text = (
        f"[Interface]\nPrivateKey = {keys['a'].private}\nAddress = 10.9.0.1/32, fd09::1/128\nMTU = 1400\n"
        f"[Peer]\nPublicKey = {keys['c'].public}\nEndpoint = {wires.addresses['c'][0]}:{PORTS['c']}\n"
        f"AllowedIPs = {allowed}\nPersistentKeepalive = 25\n"
    )
    path = "/run/wg-a.conf"
    wires.run("a", "sh", "-c", f"umask 077; cat > {path}", given=text)
    before = wires.routing("a")
    quick("a", "up", path)
    there = ["10.9.0.3", "fd09::3", "10.77.0.1"]
    assert wires.ping("a", *there, count=2) == dict.fromkeys(there, 2)
    link = json.loads(wires.run("a", "ip", "-json", "link", "show", "wg-a").stdout)[0]
    assert link["mtu"] == 1400
    assert (wires.dump("a", "wg-a")[0][3] != "off") == everything
    quick("a", "down", path)
    wait_for(lambda: nothing_left(wires, "wg-a"))
    assert wires.routing("a") == before


# --- the program ----------------------------------------------------------------------------------------------------


def test_it_ends_and_leaves_nothing_when_its_socket_is_removed(one: Net) -> None:
    assert len(one.processes("wg-a")) == 1
    one.run("a", "rm", f"{SOCKETS}/wg-a.sock")
    wait_for(lambda: nothing_left(one, "wg-a"))


def test_it_ends_and_leaves_nothing_when_its_device_is_deleted(one: Net) -> None:
    one.run("a", "ip", "link", "delete", "wg-a")
    wait_for(lambda: nothing_left(one, "wg-a"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_and_leaves_nothing_when_it_is_told_to(one: Net, number: int) -> None:
    (pid,) = one.processes("wg-a")
    one.run("", "kill", f"-{int(number)}", str(pid))
    wait_for(lambda: nothing_left(one, "wg-a"))


@pytest.mark.parametrize("deleted_first", [False, True])
def test_killed_by_force_it_leaves_neither_device_nor_process(one: Net, deleted_first: bool) -> None:
    (pid,) = one.processes("wg-a")
    (forwarder,) = one.processes("/run/tulle-wg/wg-a")
    if deleted_first:
        one.run("", "kill", "-STOP", str(pid))  # it does not see this
        one.run("a", "ip", "link", "delete", "wg-a")
    one.run("", "kill", "-9", str(pid))
    wait_for(lambda: not one.exists(f"/proc/{forwarder}"))
    assert not one.processes("wg-a")
    assert not one.processes("/run/tulle-wg/wg-a")
    assert one.run("a", "ip", "link", "show", "wg-a", check=False).returncode != 0


def test_killed_by_force_in_the_foreground_it_leaves_neither_device_nor_process(wires: Net) -> None:
    wires.host("a")
    started = wires.start("a", *TULLE_WG, "--foreground", "wg-a")
    wait_for(lambda: wires.exists(f"{SOCKETS}/wg-a.sock"))
    (forwarder,) = wires.processes("/run/tulle-wg/wg-a")
    for pid in wires.processes("wg-a"):
        wires.run("", "kill", "-9", str(pid))
    started.communicate(timeout=20)
    wait_for(lambda: not wires.exists(f"/proc/{forwarder}"))
    assert wires.run("a", "ip", "link", "show", "wg-a", check=False).returncode != 0


def test_killed_by_force_it_is_started_again_under_the_same_name(one: Net) -> None:
    (pid,) = one.processes("wg-a")
    one.run("", "kill", "-9", str(pid))
    wait_for(lambda: not one.processes("wg-a"))
    one.tulle_wg("a", "wg-a")
    key = Key(one)
    one.give_key("a", "wg-a", key.private)
    assert one.dump("a", "wg-a")[0][1] == key.public
    assert len(one.processes("/run/tulle-wg/wg-a")) == 1


def test_a_forwarder_that_dies_is_replaced_and_has_all_that_was_set(one: Net) -> None:
    key, peer = Key(one), Key(one)
    one.give_key("a", "wg-a", key.private)
    one.wg("a", "set", "wg-a", "peer", peer.public, "endpoint", "192.0.2.9:9", "persistent-keepalive", "1")
    (before,) = one.processes("/run/tulle-wg/wg-a")
    one.run("", "kill", "-9", str(before))
    wait_for(lambda: one.processes("/run/tulle-wg/wg-a") not in ([], [before]))
    # The new one begins to ask the peer for a handshake by itself.
    wait_for(lambda: int(one.dump("a", "wg-a")[1][peer.public][5]) >= 148)


@pytest.mark.soak
def test_a_forwarder_that_hangs_is_replaced(one: Net) -> None:
    (before,) = one.processes("/run/tulle-wg/wg-a")
    one.run("", "kill", "-STOP", str(before))
    begun = time.monotonic()
    assert one.wg("a", "show", "wg-a").returncode == 0  # without figures, and soon
    assert time.monotonic() - begun < SILENT_S
    wait_for(lambda: one.processes("/run/tulle-wg/wg-a") not in ([], [before]), 3 * SILENT_S)


def test_its_forwarder_has_no_rights(one: Net) -> None:
    (pid,) = one.processes("/run/tulle-wg/wg-a")
    status = dict(
        line.split(":", 1)
        for line in one.run("", "cat", f"/proc/{pid}/status").stdout.splitlines()
        if ":" in line
    )
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert "0" not in status["Uid"].split()


def test_a_second_one_of_the_same_name_is_told_who_has_it(one: Net) -> None:
    (pid,) = one.processes("wg-a")
    done = one.run("a", *TULLE_WG, "wg-a", check=False)
    assert done.returncode == 1
    assert f"another tulle-wg (pid {pid}) serves it" in done.stderr
    assert one.wg("a", "show", "wg-a").returncode == 0


def test_a_device_of_that_name_that_is_anothers_is_left_alone(wires: Net) -> None:
    wires.host("a")
    wires.run("a", "ip", "link", "add", "wg-a", "type", "bridge")
    done = wires.run("a", *TULLE_WG, "wg-a", check=False)
    assert done.returncode == 1
    assert "there is already a device wg-a" in done.stderr
    assert wires.run("a", "ip", "-d", "link", "show", "wg-a").stdout.count("bridge ") == 1
    assert not wires.exists("/run/tulle-wg")


@pytest.mark.parametrize("name", ["a/b", "sixteen-letters-", "", "a b", ".."])
def test_a_name_that_cannot_be_is_refused(wires: Net, name: str) -> None:
    done = wires.run("", *TULLE_WG, name, check=False)
    assert done.returncode == 2
    assert "is no name for an interface: give 1 to 15" in done.stderr


def test_in_the_foreground_it_logs_what_it_is_asked_to(wires: Net) -> None:
    wires.host("a")
    started = wires.start("a", *TULLE_WG, "--foreground", "wg-a", LOG_LEVEL="info")
    wait_for(lambda: wires.exists(f"{SOCKETS}/wg-a.sock"))
    wires.run("a", "rm", f"{SOCKETS}/wg-a.sock")
    said, _ = started.communicate(timeout=20)
    assert started.returncode == 0
    assert "device-started wg-a" in said
    assert "device-ended wg-a" in said


# --- many peers -----------------------------------------------------------------------------------------------------


def test_two_hundred_peers_are_set_at_once_and_each_by_itself(
    one: Net, record_property: Callable[..., None]
) -> None:
    one.give_key("a", "wg-a", Key(one).private)
    text = "".join(
        f"[Peer]\nPublicKey = {public}\nAllowedIPs = 10.{number}.0.0/16\nEndpoint = 192.0.2.9:{1000 + number}\n"
        for number, public in enumerate(publics())
    )
    one.wg("a", "addconf", "wg-a", "/dev/stdin", given=text)
    _, peers = one.dump("a", "wg-a")
    assert {public: line[1:3] for public, line in peers.items()} == {
        public: [f"192.0.2.9:{1000 + number}", f"10.{number}.0.0/16"]
        for number, public in enumerate(publics())
    }
    one.wg("a", "syncconf", "wg-a", "/dev/stdin", given="[Interface]\n")
    assert one.dump("a", "wg-a")[1] == {}
    lines = "; ".join(
        f"wg set wg-a peer {public} allowed-ips 10.{number}.0.0/16" for number, public in enumerate(publics())
    )
    one.run("a", "sh", "-ec", lines)
    assert len(one.dump("a", "wg-a")[1]) == 200


def publics() -> list[str]:
    from tulle_wireguard.keytext import key_text

    return [key_text(public_key(bytes([number]) * 32)) for number in range(1, 201)]
