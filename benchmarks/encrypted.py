"""What does encryption cost, and how does the python engine stand beside wireguard-go?

What changes from turn to turn is the way between two nodes: a wireguard-go on each, set up with `wg`, and tulle's
wireguard backend. Beside that, in memory: how many handshakes a core completes, and how much of the processor time of a
packet is its cipher's.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks.figures import Aim, Effort, Figure, Result, Turns
from benchmarks.processes import family_cpu_s, forwarders_cpu_s
from benchmarks.twonodes import CPU, RTT, SMALL, TCP_1, TCP_4, Way, take_turns
from tulle.lab import Lab
from tulle_wireguard.device import Device
from tulle_wireguard.endpoint import Endpoint

QUESTION = "What does encryption cost, and how does the python engine stand beside wireguard-go?"

GO, TULLE = "wireguard-go", "wireguard, python engine"
MTU = 1420
GO_LINK, GO_PORT = "bench-wg", 51900
HANDSHAKES, CIPHER = "handshakes", "cipher's share of the CPU"
TCP_RATIO_AIM, SMALL_RATIO_AIM = 1.2, 1.0
READY_S = 10.0
PACKET_BYTES = 1420


def measure(effort: Effort) -> Result:
    turns = Turns()
    with Lab(nodes=2, pods=1, backend="wireguard", engine="python") as lab, wireguard_go(lab) as processes:
        ways = (
            Way(GO, "device", MTU, GO_LINK, lambda: sum(map(family_cpu_s, processes))),
            Way(TULLE, "tulle", MTU, "tulle-wg", lambda: forwarders_cpu_s(lab)),
        )
        counts = take_turns(lab, ways, effort, turns)
    for _ in range(effort.turns):
        turns.add(HANDSHAKES, TULLE, handshakes_per_s(effort.of(500, 20)))
    per_gb = cipher_s_per_gb(effort.of(20_000, 500))
    for spent in turns.values[CPU][TULLE]:
        turns.add(CIPHER, TULLE, 100 * per_gb / spent)
    figures = [
        compared(turns, TCP_1, "Gb/s", TCP_RATIO_AIM),
        turns.figure(TCP_4, "Gb/s", "higher", baseline=GO),
        compared(turns, SMALL, "1000/s received", SMALL_RATIO_AIM),
        turns.figure(RTT, "us", "lower", baseline=GO),
        turns.figure(CPU, "s/GB, both nodes", "lower", baseline=GO),
        turns.figure(HANDSHAKES, "1/s on one core, both sides' work", "higher"),
        turns.figure(CIPHER, "%", "lower"),
    ]
    note = "all senders, receivers and tunnels share this machine's cores"
    return Result(figures, counts, [note])


def compared(turns: Turns, name: str, unit: str, ratio: float) -> Figure:
    """A figure whose aim is a ratio to wireguard-go."""
    plain = turns.figure(name, unit, "higher", baseline=GO)
    return turns.figure(name, unit, "higher", baseline=GO, aims=[Aim(TULLE, ratio * plain.median(GO))])


@contextmanager
def wireguard_go(lab: Lab) -> Iterator[list[int]]:
    """One on each node, each the other's peer; their process ids."""
    keys = {node: keypair() for node in lab.plan.node_names}
    with ExitStack() as stack:
        processes = []
        for near, far in (("n1", "n2"), ("n2", "n1")):
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = lab.popen(near, ["wireguard-go", "-f", GO_LINK], **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process.pid)
            wait_for(lab, near)
            words = ["private-key", "/dev/stdin", "listen-port", str(GO_PORT), "peer", keys[far][1]]
            words += ["allowed-ips", "0.0.0.0/0", "endpoint", f"{lab.address(far)}:{GO_PORT}"]
            lab.run(near, ["wg", "set", GO_LINK, *words], input=keys[near][0])
        yield processes


def wait_for(lab: Lab, node: str) -> None:
    """Until wireguard-go answers `wg`. Raises LabError where it does not in time."""
    deadline = time.monotonic() + READY_S
    while lab.run(node, ["wg", "show", GO_LINK], check=time.monotonic() > deadline).returncode != 0:
        time.sleep(0.05)


def keypair() -> tuple[str, str]:
    """Private and public, in base64."""
    private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
    public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True)
    return private, public.stdout.strip()


def handshakes_per_s(count: int) -> float:
    """Two devices in memory, again and again with new ones: initiation, response, first packet."""
    start = time.perf_counter()
    for _ in range(count):
        one, two = device(), device()
        place = Endpoint(bytes([192, 0, 2, 1]), 51820)
        peer = one.add_peer(two.public, 0.0, endpoints=[place])
        two.add_peer(one.public, 0.0)
        initiation = one.send_to(peer, [b"x" * 20], 0.0).sends[0].datagrams[0]
        response = two.datagram_received(b"".join(initiation), place, 0.0).sends[0].datagrams[0]
        if not one.datagram_received(b"".join(response), place, 0.0).sends:
            raise RuntimeError("two devices in memory did not come to a session")
    return count / (time.perf_counter() - start)


def device() -> Device:
    return Device(os.urandom(32), os.urandom, time.time_ns, 0.0)


def cipher_s_per_gb(count: int) -> float:
    """Seconds to seal and to open 1 GB in packets of PACKET_BYTES, calls of the library alone."""
    cipher, nonce, plain = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(PACKET_BYTES)
    sealed = cipher.encrypt(nonce, plain, None)
    start = time.perf_counter()
    for _ in range(count):
        cipher.encrypt(nonce, plain, None)
        cipher.decrypt(nonce, sealed, None)
    return (time.perf_counter() - start) / (count * PACKET_BYTES) * 1e9
