"""Hosts on one wire, each in a network namespace, for WireGuard programs and their stock tools; no tulled, no cluster.

All of it lies in a process, mount and network namespace of its own, with a /run of its own: when the process that holds
it ends, everything in it ends. Every host sees the same /run, so each interface needs another name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tulle.net.checksum import checksum, pseudo_header_sum
from tulle.testing.faults.line import Weather
from tulle.testing.faults.wire import wire

SOCKETS = "/run/wireguard"
TULLE_WG = (sys.executable, "-m", "tulle_wireguard.standalone")
WIRE = Path(__file__).with_name("wire.py")
TRAFFIC = (sys.executable, "-m", "tulle.lab.traffic")
INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('up', flush=True); signal.pause()"
"""Process 1: whoever is left over and ends is forgotten."""
REPLAY = """
import json, socket, sys, time
order = json.load(sys.stdin)
raw = (socket.SOCK_RAW, socket.IPPROTO_RAW)
with socket.socket(socket.AF_INET, *(raw if order["raw"] else (socket.SOCK_DGRAM,))) as out:
    for number, one in enumerate(order["data"]):
        out.sendto(bytes.fromhex(one), tuple(order["to"]))
        if number % 20 == 19:
            time.sleep(0.005)
"""
LIST_PROCESSES = (
    r"""cd /proc; for one in [0-9]*; do printf "%s\t" $one; tr "\0" "\t" <$one/cmdline; echo; done"""
)
NEEDED = {
    "wg": "wireguard-tools",
    "wg-quick": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "ip": "iproute2",
}
LONG_S = 20.0
STREAM_S = 900.0
"""A gigabyte at 10 Mb/s."""
OUTER, OUTER_6 = ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")

Done = subprocess.CompletedProcess[str]


class Key:
    """A key pair, as `wg` writes it."""

    def __init__(self, net: Net) -> None:
        self.private = net.run("", "wg", "genkey").stdout.strip()
        self.public = net.run("", "wg", "pubkey", given=self.private).stdout.strip()


class _Places:
    """A net as the tools of `tulle.testing.faults` want it."""

    def __init__(self, wires: Net) -> None:
        self._net = wires

    def run(
        self,
        place: str,
        argv: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = LONG_S,
        check: bool = True,
    ) -> Done:
        return self._net.run(place, *argv, given=input, check=check, within_s=timeout)

    def popen(self, place: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(self._net.command(place, argv), **options)


class Net:
    """See the module. A host's name is "" for the place where the wire is."""

    def __init__(self) -> None:
        command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        self._enter = ["--net", "--mount", "--pid"]
        if os.getuid() != 0:
            command += ["--user", "--map-root-user"]
            self._enter += ["--user", "--preserve-credentials"]
        self._holder = subprocess.Popen(
            [*command, sys.executable, "-c", INIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            _, words = self._holder.communicate()
            pytest.skip(f"no namespaces here: {words.strip()}")
        self._inside = _only_child(self._holder.pid)
        self._started: list[subprocess.Popen[str]] = []
        self._addresses = 0
        self.addresses: dict[str, tuple[str, str]] = {}
        """Of each host on the wire: IPv4, IPv6."""
        self.run("", "mount", "-t", "tmpfs", "tmpfs", "/run")
        self.run("", "mount", "-t", "proc", "proc", "/proc")
        self.run("", "ip", "link", "add", "wire", "type", "bridge")
        self.run("", "ip", "link", "set", "wire", "up")

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()
        for one in self._started:
            one.communicate()

    # --- programs -------------------------------------------------------------------------------------------------

    def command(self, host: str, words: Sequence[str]) -> list[str]:
        """A command line for outside."""
        enter = ["nsenter", "--target", str(self._inside), *self._enter, "--"]
        return [*enter, *(["ip", "netns", "exec", host] if host else []), *words]

    def run(
        self,
        host: str,
        *words: str,
        given: str | None = None,
        check: bool = True,
        within_s: float = 60,
        **environment: str,
    ) -> Done:
        """Run a program there to its end."""
        done = subprocess.run(
            self.command(host, words),
            input=given,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env={**os.environ, **environment},
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def start(
        self, host: str, *words: str, stdin: int = subprocess.DEVNULL, **environment: str
    ) -> subprocess.Popen[str]:
        """Start one there. It ends with the net."""
        started = subprocess.Popen(
            self.command(host, words),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        self._started.append(started)
        return started

    def processes(self, word: str) -> list[int]:
        """Those that have this argument (an interface's name), by their numbers in there."""
        found = self.run("", "sh", "-c", LIST_PROCESSES).stdout
        lines = [line.split("\t") for line in found.splitlines()]
        return [int(pid) for pid, *arguments in lines if word in arguments]

    # --- hosts ------------------------------------------------------------------------------------------------------

    def host(self, name: str, mtu: int = 1500) -> None:
        """Another host on the wire."""
        self._addresses += 1
        four, six = str(OUTER[self._addresses]), str(OUTER_6[self._addresses])
        self.addresses[name] = (four, six)
        self.run("", "ip", "netns", "add", name)
        self.run(
            "",
            "ip",
            "link",
            "add",
            f"w-{name}",
            "mtu",
            str(mtu),
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            name,
        )
        self.run("", "ip", "link", "set", f"w-{name}", "mtu", str(mtu), "master", "wire", "up")
        self.run(name, "ip", "link", "set", "lo", "up")
        # No link-local address, which would come a second or two later.
        self.run(name, "ip", "link", "set", "eth0", "mtu", str(mtu), "addrgenmode", "none", "up")
        self.run(name, "ip", "address", "add", f"{four}/24", "dev", "eth0")
        self.run(name, "ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")

    def move(self, name: str) -> None:
        """The host has other addresses from now on."""
        self._addresses += 1
        four, six = str(OUTER[self._addresses]), str(OUTER_6[self._addresses])
        self.addresses[name] = (four, six)
        self.run(name, "ip", "address", "flush", "dev", "eth0", "scope", "global")
        self.run(name, "ip", "address", "add", f"{four}/24", "dev", "eth0")
        self.run(name, "ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")

    def routing(self, host: str) -> list[str]:
        """All its routes and rules."""
        tables = [
            self.run(host, "ip", family, *words).stdout
            for family in ("-4", "-6")
            for words in (("route", "show", "table", "all"), ("rule", "show"))
        ]
        return sorted(line for one in tables for line in one.splitlines())

    # --- interfaces -------------------------------------------------------------------------------------------------

    def tulle_wg(self, host: str, name: str, **environment: str) -> None:
        """Started; it goes into the background by itself."""
        self.run(host, *TULLE_WG, name, **environment)

    def wireguard_go(self, host: str, name: str) -> None:
        self.run(host, "wireguard-go", name)
        wait_for(lambda: self.exists(f"{SOCKETS}/{name}.sock"))

    def up(self, host: str, name: str, *addresses: str, mtu: int = 1420) -> None:
        """The interface has these addresses ("10.9.0.1/24") and carries packets."""
        for one in addresses:
            more = ["nodad"] if ":" in one else []
            self.run(host, "ip", "address", "add", one, "dev", name, *more)
        self.run(host, "ip", "link", "set", name, "mtu", str(mtu), "up")

    def exists(self, path: str) -> bool:
        return self.run("", "test", "-e", path, check=False).returncode == 0

    def wg(self, host: str, *words: str, given: str | None = None, check: bool = True) -> Done:
        return self.run(host, "wg", *words, given=given, check=check)

    def give_key(self, host: str, name: str, key: str) -> None:
        self.wg(host, "set", name, "private-key", "/dev/stdin", given=key)

    def dump(self, host: str, name: str) -> tuple[list[str], dict[str, list[str]]]:
        """`wg show NAME dump`: the device's fields, and the peers' by public key."""
        first, *rest = (line.split("\t") for line in self.wg(host, "show", name, "dump").stdout.splitlines())
        return first, {line[0]: line[1:] for line in rest}

    # --- traffic ----------------------------------------------------------------------------------------------------

    def ping(
        self, host: str, *addresses: str, count: int = 1, size: int = 56, wait_s: float = 5.0
    ) -> dict[str, int]:
        """How many of the requests to each address were answered."""
        words = [*addresses, "--count", str(count), "--size", str(size), "--wait", str(wait_s)]
        found: dict[str, int] = json.loads(self.run(host, *TRAFFIC, "ping", *words).stdout)
        return found

    def reaches(self, host: str, address: str, within_s: float = LONG_S) -> float:
        """Ping until an answer comes. Returns after how many seconds."""
        begun = time.monotonic()
        while not self.ping(host, address, wait_s=0.5)[address]:
            assert time.monotonic() - begun < within_s, f"{host} does not reach {address} in {within_s} s"
        return time.monotonic() - begun

    @contextlib.contextmanager
    def capture(self, host: str, port: int) -> Iterator[list[bytes]]:
        """What comes to this UDP port on the wire, from its IP header on: in the list when the block has ended."""
        order = json.dumps({"do": "capture", "link": "eth0", "outer": port})
        process = self.start(host, sys.executable, str(WIRE), order, stdin=subprocess.PIPE)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == "ready"
        found: list[bytes] = []
        yield found
        lines = [json.loads(line) for line in process.communicate(timeout=LONG_S)[0].splitlines()]
        found += [_whole(bytes.fromhex(one["packet"])) for one in lines if not one["sent"]]

    def wire(self, host: str, **order: Any) -> Any:
        """Run `wire.py` there to its end; returns its last line."""
        done = self.run(host, sys.executable, str(WIRE), json.dumps(order))
        return json.loads(done.stdout.splitlines()[-1])

    def replay(self, host: str, data: Sequence[bytes], to: tuple[str, int], *, raw: bool = False) -> None:
        """Send all of it again from there, some thousand a second, over IPv4: datagrams, or whole packets (`raw`)."""
        order = {"data": [one.hex() for one in data], "to": to, "raw": raw}
        self.run(host, sys.executable, "-c", REPLAY, given=json.dumps(order))

    @contextlib.contextmanager
    def weather(self, host: str, weather: Weather, seed: int = 0) -> Iterator[None]:
        """Between this host and the others, both ways."""
        with wire(_Places(self), f"w-{host}", weather, seed, switch=""):
            yield

    def floods(self, *ways: tuple[str, str, str], count: int, rate: float, size: int) -> list[dict[str, Any]]:
        """Numbered datagrams, (sender, receiver, the receiver's address) each, all at once: what became of them."""
        amount, pace = ("--count", str(count)), ("--rate", str(rate), "--size", str(size))
        listening = [
            self.start(receiver, *TRAFFIC, "flood-receive", address, *amount) for _, receiver, address in ways
        ]
        senders = []
        for (sender, _, address), one in zip(ways, listening, strict=True):
            assert one.stdout is not None
            port = str(json.loads(one.stdout.readline())["listening"])
            senders.append(self.start(sender, *TRAFFIC, "flood-send", address, port, *amount, *pace))
        for one in senders:
            sent = json.loads(one.communicate(timeout=LONG_S + count / rate)[0])
            assert (sent["sent"], sent["refused"]) == (count, 0)
        return [json.loads(one.communicate(timeout=LONG_S)[0].splitlines()[-1]) for one in listening]

    def udp(self, host: str) -> dict[str, int]:
        """The host's counters of UDP over IPv4: InDatagrams are those that a program has read."""
        lines = self.run(host, "cat", "/proc/net/snmp").stdout.splitlines()
        names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
        return dict(zip(names, map(int, values), strict=True))

    def arrived(self, host: str, name: str) -> int:
        """Packets that came out of the interface."""
        (link,) = json.loads(self.run(host, "ip", "-json", "-s", "link", "show", name).stdout)
        return int(link["stats64"]["rx"]["packets"])

    def stream(self, sender: str, receiver: str, address: str, size: int) -> dict[str, Any]:
        """One TCP stream of so many bytes to the receiver's address, hashed at both ends."""
        listening = self.start(receiver, *TRAFFIC, "stream-receive", address)
        assert listening.stdout is not None
        port = json.loads(listening.stdout.readline())["listening"]
        words = ["stream-send", address, str(port), "--bytes", str(size)]
        found: dict[str, Any] = json.loads(self.run(sender, *TRAFFIC, *words, within_s=STREAM_S).stdout)
        return found


def _whole(packet: bytes) -> bytes:
    """A captured UDP packet with its checksum (RFC 768, RFC 8200 section 8.1): what passes a virtual link has half of
    one, and sent again it would be refused."""
    addresses, start = (packet[12:20], 20) if packet[0] >> 4 == 4 else (packet[8:40], 40)
    half, place = len(addresses) // 2, slice(start + 6, start + 8)
    bare = packet[: place.start] + bytes(2) + packet[place.stop :]
    pseudo = pseudo_header_sum(addresses[:half], addresses[half:], socket.IPPROTO_UDP, len(packet) - start)
    found = checksum(bare[start:], pseudo) or 0xFFFF
    return bare[: place.start] + found.to_bytes(2) + bare[place.stop :]


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait_for(done: Callable[[], object], within_s: float = LONG_S) -> None:
    end = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.05)


@contextlib.contextmanager
def net() -> Iterator[Net]:
    """Skips where this machine has not what it takes."""
    lacking = sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})
    if lacking:
        pytest.skip(f"these packages are not installed: {', '.join(lacking)}; run make setup-dev")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun cannot be opened here")
    made = Net()
    try:
        yield made
    finally:
        made.close()
