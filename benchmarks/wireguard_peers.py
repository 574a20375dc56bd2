"""How long until a WireGuard interface has 200 peers, and sessions with all of them?

A real `tulle-wg`, and wireguard-go where it is installed, in a network namespace of its own. The peers come in one
request on the `wg` socket; each has a socket of its own on loopback, where one process answers for all of them.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

from benchmarks.figures import Aim, Effort, Result, Turns
from benchmarks.processes import resident_mb

QUESTION = "How long until a WireGuard interface has 200 peers, and sessions with all of them?"

PEERS, QUICK_PEERS = 200, 20
OURS, THEIRS = "tulle-wg", "wireguard-go"
SET_UP, HANDSHAKES, MEMORY = "set-up through the wg socket", "sessions with all", "memory a peer"
PROGRAMS = {OURS: (sys.executable, "-m", "tulle_wireguard.standalone"), THEIRS: ("wireguard-go",)}
NAME = "wg-bench"
UAPI = Path(f"/run/wireguard/{NAME}.sock")
LONGEST_S = 60.0
LOOK_S = 0.02
KEEPALIVE_S = 25


def measure(effort: Effort) -> Result:
    count = effort.of(PEERS, QUICK_PEERS)
    subjects = [OURS, *([THEIRS] if shutil.which(THEIRS) else [])]
    turns = Turns()
    counts = {}
    for _ in range(effort.turns):
        for subject in subjects:
            found = in_namespaces(subject, count)
            turns.add(SET_UP, subject, found["set_up_s"])
            turns.add(HANDSHAKES, subject, found["sessions_s"])
            turns.add(MEMORY, subject, found["kib_a_peer"])
            counts[f"{subject}: sessions"] = found["sessions"]
    other = THEIRS if THEIRS in subjects else None
    figures = [
        turns.figure(SET_UP, f"s, {count} peers", "lower", baseline=other, aims=[Aim(OURS, 1.0)]),
        turns.figure(HANDSHAKES, f"s, {count} peers", "lower", baseline=other, aims=[Aim(OURS, 10.0)]),
        turns.figure(MEMORY, "KiB resident, all its processes", "lower", baseline=other),
    ]
    return Result(figures, counts)


def in_namespaces(subject: str, count: int) -> dict[str, Any]:
    """One turn, in a process of its own."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    if os.getuid() != 0:
        command += ["--user", "--map-root-user"]
    command += [sys.executable, "-m", "benchmarks.wireguard_peers", subject, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LONGEST_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{subject}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- inside -------------------------------------------------------------------------------------------------------


def main() -> None:
    from pyroute2 import IPRoute

    from tulle.lab.namespaces import mount

    subject, count = sys.argv[1], int(sys.argv[2])
    mount("tmpfs", "/run", "tmpfs")
    mount("proc", "/proc", "proc")
    with IPRoute() as kernel, interface(subject):
        kernel.link("set", index=1, state="up")
        index = kernel.link_lookup(ifname=NAME)[0]
        kernel.link("set", index=index, state="up")
        print(json.dumps(turn(count)))


@contextmanager
def interface(subject: str) -> Iterator[None]:
    """The program with its interface, until the block ends."""
    with subprocess.Popen(
        [*PROGRAMS[subject], "-f", NAME], stdin=subprocess.DEVNULL, stdout=sys.stderr
    ) as program:
        try:
            wait_for(UAPI.exists)
            yield
        finally:
            program.terminate()


def turn(count: int) -> dict[str, Any]:
    private = os.urandom(32)
    ask(f"set=1\nprivate_key={private.hex()}\nlisten_port=51820\n\n")
    crowd = Crowd(private, count)
    before = memory_kib()
    begun = time.monotonic()
    ask(crowd.request())
    set_up_s = time.monotonic() - begun
    while (sessions := with_session()) < count:
        crowd.answer(LOOK_S)
        if time.monotonic() - begun > LONGEST_S:
            break
    return {
        "set_up_s": set_up_s,
        "sessions_s": time.monotonic() - begun,
        "sessions": sessions,
        "kib_a_peer": max(1.0, (memory_kib() - before) / count),
    }


class Crowd:
    """The peers: devices without a TUN, each with a socket."""

    def __init__(self, private: bytes, count: int) -> None:
        from tulle_wireguard.crypto import public_key
        from tulle_wireguard.device import Device

        ours = public_key(private)
        self._members = {}
        self._poll = select.epoll()
        for _ in range(count):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.bind(("127.0.0.1", 0))
            opened.setblocking(False)
            device = Device(os.urandom(32), os.urandom, time.time_ns, time.monotonic())
            device.add_peer(ours, time.monotonic(), allowed=[IPv4Network("10.0.0.0/8")])
            self._members[opened.fileno()] = (opened, device)
            self._poll.register(opened, select.EPOLLIN)

    def request(self) -> str:
        """For a `set`. They have a keepalive interval, so that sessions begin at once."""
        lines = ["set=1"]
        for number, (opened, device) in enumerate(self._members.values()):
            lines += [
                f"public_key={device.public.hex()}",
                f"endpoint=127.0.0.1:{opened.getsockname()[1]}",
                f"persistent_keepalive_interval={KEEPALIVE_S}",
                "replace_allowed_ips=true",
                f"allowed_ip={IPv4Address((10 << 24) + (number << 8))}/24",
            ]
        return "\n".join(lines) + "\n\n"

    def answer(self, seconds: float) -> None:
        """What comes in this time."""
        from tulle_wireguard.endpoint import Endpoint

        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left):
                opened, device = self._members[number]
                data, (host, port) = opened.recvfrom(65535)
                place = Endpoint(ip_address(host).packed, port)
                for send in device.datagram_received(data, place, time.monotonic()).sends:
                    for pieces in send.datagrams:
                        opened.sendto(b"".join(pieces), (host, port))


def ask(request: str) -> dict[str, list[str]]:
    """On the `wg` socket: the answer's values by key."""
    with socket.socket(socket.AF_UNIX) as uapi:
        uapi.settimeout(LONGEST_S)
        uapi.connect(str(UAPI))
        uapi.sendall(request.encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += uapi.recv(1 << 20)
    found: dict[str, list[str]] = {}
    for line in answer.decode().split():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    if found["errno"] != ["0"]:
        raise RuntimeError(f"the program answers errno {found['errno'][0]}")
    return found


def with_session() -> int:
    return sum(one != "0" for one in ask("get=1\n\n").get("last_handshake_time_sec", []))


def memory_kib() -> float:
    """Of the programs in this process namespace that are not us."""
    others = [
        int(one.name)
        for one in Path("/proc").iterdir()
        if one.name.isdigit() and int(one.name) != os.getpid()
    ]
    return 1024 * sum(resident_mb(pid) for pid in others)


def wait_for(done: Any) -> None:
    end = time.monotonic() + LONGEST_S
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {LONGEST_S:.0f} s")
        time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
