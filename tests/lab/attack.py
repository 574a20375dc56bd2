"""A hostile host on the underlay: `attack.py '{"seconds": 2, ...}'` sends to a tunnel's port as fast as it can, and
prints how many datagrams of each kind the kernel took. Standard library only.

`to`, `port`: the attacked node's. `peer`: the underlay address of a node that it knows, whose name is misused;
`strangers`: addresses of nobody. `pods`: inner addresses: `mine` of a pod there, `peers` of a pod of that peer,
`others` of a pod of a third node.

stranger     a packet as it should be, from an address and a port that nobody knows, another one each time
empty        no payload at all, from a stranger
source       in the peer's name, from a third node's pod, or from the attacked node's own
loop         in the peer's name, for the peer's own pod: who forwards it sends it round and round
truncated    in the peer's name, cut short
oversized    in the peer's name, with bytes after its end
noise        in the peer's name, no packet
inner-part   in the peer's name, a middle fragment of a third node's packet
jumbo        in the peer's name, 60,000 bytes in outer fragments, from a third node's pod
pieces       in the peer's name, first fragments whose rest never comes: these are no datagrams
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from ipaddress import ip_address

MTU = 1500
UDP, FRAGMENT = 17, 44  # IANA "protocol-numbers"
MORE = 0x2000  # of IPv4: RFC 791 section 3.1
IPV6_HDRINCL = 36  # linux/in6.h
JUMBO_BYTES = 60_000
VARIANTS = 64
"""Packets of a kind that are made before the start: making them takes longer than sending."""
ROUNDS_BETWEEN = 20
"""Looks at the clock are this many rounds of all kinds apart."""
NEW_EACH_TIME = {"stranger", "empty"}
"""From a port that was not used before: who remembers strangers shall have many to remember."""
RARE = {"jumbo": 8, "pieces": 4}
"""Kinds that come in one of so many rounds, since a jumbo is some forty packets; and of how many variants."""


def ip_packet(source: str, target: str, protocol: int, body: bytes, number: int = 0, part: int = 0) -> bytes:
    """`part`: offset and more-fragments flag as IPv4 has them; IPv6 says them in a header of its own."""
    first, second = ip_address(source).packed, ip_address(target).packed
    if len(first) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number & 0xFFFF, part, 64, protocol, 0)
        total = sum(struct.unpack("!10H", head + first + second))
        return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + first + second + body
    if part:
        word = (part & 0x1FFF) << 3 | bool(part & MORE)
        protocol, body = FRAGMENT, struct.pack("!BBHI", protocol, 0, word, number) + body
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + first + second + body


def udp(source: str, target: str, ports: tuple[int, int], payload: bytes) -> bytes:
    """Header and payload, with a right checksum (IPv6 takes no other: RFC 8200 section 8.1)."""
    ends = ip_address(source).packed + ip_address(target).packed
    length = 8 + len(payload)
    blank = struct.pack("!4H", *ports, length, 0) + payload
    words = ends + struct.pack("!HH", UDP, length) + blank + b"\0" * (length % 2)
    total = int.from_bytes(words) % 0xFFFF
    return blank[:6] + struct.pack("!H", 0xFFFF - total or 0xFFFF) + payload


def outer(source: str, target: str, ports: tuple[int, int], payload: bytes, number: int) -> list[bytes]:
    """A datagram as the packets that it takes."""
    body = udp(source, target, ports, payload)
    room = (MTU - 48) // 8 * 8
    if len(body) <= room:
        return [ip_packet(source, target, UDP, body, number)]
    cuts = range(0, len(body), room)
    parts = [(at >> 3) | (MORE if at + room < len(body) else 0) for at in cuts]
    return [
        ip_packet(source, target, UDP, body[at : at + room], number, part)
        for at, part in zip(cuts, parts, strict=True)
    ]


def from_port(packet: bytes, port: int) -> bytes:
    """The same datagram from another source port, its checksum mended as RFC 1624 says (equation 3)."""
    start = 20 if packet[0] >> 4 == 4 else 40
    old, check = struct.unpack_from("!H4xH", packet, start)
    total = (0xFFFF - check) + (0xFFFF - old) + port
    total = (total & 0xFFFF) + (total >> 16)
    check = 0xFFFF - ((total & 0xFFFF) + (total >> 16)) or 0xFFFF
    changed = bytearray(packet)
    struct.pack_into("!H", changed, start, port)
    struct.pack_into("!H", changed, start + 6, check)
    return bytes(changed)


class Attack:
    """What is sent, ready made: by kind, each datagram as its packets."""

    def __init__(
        self, to: str, port: int, peer: str, strangers: list[str], pods: dict[str, str], seed: int
    ) -> None:
        self._rng = random.Random(seed)
        self._to, self._port = to, port
        self._number = self._rng.randrange(1 << 16)
        mine, peers, others = pods["mine"], pods["peers"], pods["others"]
        good = self._inner(peers, mine)
        noise = [self._rng.randbytes(self._rng.randrange(1, 1200)) for _ in range(9)]
        short = [good[: self._rng.randrange(1, len(good))] for _ in range(9)]
        jumbo = [self._inner(others, mine, JUMBO_BYTES)]
        self.kinds: dict[str, list[list[bytes]]] = {
            "stranger": self._many(strangers, [good]),
            "empty": self._many(strangers, [b""]),
            "source": self._many([peer], [self._inner(others, mine), self._inner(mine, mine)]),
            "loop": self._many([peer], [self._inner(peers, peers), self._inner(peers, others)]),
            "truncated": self._many([peer], short),
            "oversized": self._many([peer], [good + b"\0", good + good]),
            "noise": self._many([peer], noise),
            "inner-part": self._many([peer], [ip_packet(others, mine, UDP, bytes(64), 7, MORE | 20)]),
            "jumbo": self._many([peer], jumbo, RARE["jumbo"]),
            "pieces": [packets[:1] for packets in self._many([peer], jumbo, RARE["pieces"])],
        }

    def _inner(self, source: str, target: str, size: int = 64) -> bytes:
        return ip_packet(source, target, UDP, udp(source, target, (9, 9), bytes(size)))

    def _many(self, sources: list[str], payloads: list[bytes], count: int = VARIANTS) -> list[list[bytes]]:
        """From another port each."""
        made = []
        for index in range(count):
            self._number += 1
            ports = (self._rng.randrange(1024, 65536), self._port)
            source, payload = sources[index % len(sources)], payloads[index % len(payloads)]
            made.append(outer(source, self._to, ports, payload, self._number))
        return made


def fire(attack: Attack, family: int, to: str, seconds: float) -> Counter[str]:
    """Datagrams that the kernel took, by kind."""
    sent: Counter[str] = Counter()
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        turns = [itertools.cycle([(kind, one) for one in some]) for kind, some in attack.kinds.items()]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number in range(ROUNDS_BETWEEN):
                for turn in turns:
                    kind, packets = next(turn)
                    if kind in RARE and number % RARE[kind]:
                        continue
                    if kind in NEW_EACH_TIME:
                        packets = [from_port(packets[0], 1024 + sent[kind] % 64_000)]
                    for packet in packets:
                        opened.sendto(packet, (to, 0))
                    sent[kind] += 1
    return sent


def main(order: dict[str, object]) -> None:
    to, seconds = str(order["to"]), float(str(order.pop("seconds")))
    attack = Attack(**order)  # type: ignore[arg-type]
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    print(json.dumps(fire(attack, family, to, seconds)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
