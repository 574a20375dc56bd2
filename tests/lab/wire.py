"""Single packets by hand, inside a lab: `wire.py '{"do": ..., ...}'`. Standard library only.

capture  what passes `link` (none: all links of the place) until standard input ends, with `skip_s` of patience after
         it; says "ready" first. `within`: only packets to one of these networks; `outer`: only to this UDP port.
         A line a packet: {"link", "packet" (hex, from the IP header on), "sent" (whether this host sent it)}.
raw      send a whole IP packet (hex `packet`) as it is, which needs a header of its own
udp      send `payload` (hex) as UDP datagrams to `to` (address, port) from port `source`; `fragment`: without DF
receive  one datagram at `port`, as hex, or null after `wait_s`; says "ready" first
probe    send a UDP datagram of `size` bytes of payload with DF to `to`, and wait for the ICMP error that comes back:
         {"type", "code", "from", "mtu"}, or null after `wait_s`
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

# linux/in.h, linux/in6.h, linux/if_ether.h, linux/errqueue.h, linux/if_packet.h
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_DONT, PMTUDISC_PROBE = 0, 3
IP_RECVERR, IPV6_RECVERR = 11, 25
IPV6_HDRINCL = 36
ETH_P_ALL = 0x0003
ETHERTYPES = (0x0800, 0x86DD)
PACKET_OUTGOING = 4
EXTENDED_ERROR = struct.Struct("=IBBBxII")
UDP = 17
DRAIN_S = 0.3
"""What is on its way when the capture is to end is still taken."""


def capture(link: str = "", within: tuple[str, ...] = (), outer: int = 0) -> None:
    networks = [ip_network(one) for one in within]
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        if link:
            opened.bind((link, ETH_P_ALL))
        say("ready")
        end = None
        while end is None or time.monotonic() < end:
            ready, _, _ = select.select([opened] + ([sys.stdin] if end is None else []), [], [], 0.05)
            if sys.stdin in ready:
                end = time.monotonic() + DRAIN_S
            if opened not in ready:
                continue
            packet, (name, ethertype, kind, *_) = opened.recvfrom(65535)
            if ethertype in ETHERTYPES and wanted(packet, networks, outer):
                say({"link": name, "packet": packet.hex(), "sent": kind == PACKET_OUTGOING})


def wanted(packet: bytes, networks: list[Any], outer: int) -> bool:
    four = packet[0] >> 4 == 4
    destination = ip_address(packet[16:20] if four else packet[24:40])
    if networks and not any(destination in network for network in networks):
        return False
    if not outer:
        return True
    protocol, start = (packet[9], (packet[0] & 15) * 4) if four else (packet[6], 40)
    return protocol == UDP and int.from_bytes(packet[start + 2 : start + 4], "big") == outer


def raw(packet: str) -> None:
    data = bytes.fromhex(packet)
    four = data[0] >> 4 == 4
    family = socket.AF_INET if four else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
        if four:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        opened.sendto(data, (str(ip_address(data[16:20] if four else data[24:40])), 0))
    say("sent")


def udp(to: tuple[str, int], payload: str, source: int = 0, count: int = 1, fragment: bool = False) -> None:
    with udp_socket(to[0]) as opened:
        if fragment:
            set_discovery(opened, to[0], PMTUDISC_DONT)
        opened.bind(("::" if ":" in to[0] else "0.0.0.0", source))
        for _ in range(count):
            opened.sendto(bytes.fromhex(payload), tuple(to))
    say("sent")


def probe(to: tuple[str, int], size: int, wait_s: float = 5.0) -> None:
    six = ":" in to[0]
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    with udp_socket(to[0]) as opened:
        # PROBE sets DF and leaves out what the kernel has learned, so that each probe is told anew.
        set_discovery(opened, to[0], PMTUDISC_PROBE)
        opened.setsockopt(level, IPV6_RECVERR if six else IP_RECVERR, 1)
        opened.connect(tuple(to))
        opened.send(bytes(size))
        poller = select.poll()
        poller.register(opened, 0)  # POLLERR alone
        if not poller.poll(wait_s * 1000):
            return say(None)
        _, ancillary, _, _ = opened.recvmsg(65535, 512, socket.MSG_ERRQUEUE)
    for _, _, data in ancillary:
        _, _, kind, code, mtu, _ = EXTENDED_ERROR.unpack_from(data)
        offender = data[EXTENDED_ERROR.size :]
        sender = offender[8:24] if six else offender[4:8]
        return say({"type": kind, "code": code, "from": str(ip_address(sender)), "mtu": mtu})
    raise ValueError("an error without its description")


def receive(port: int, wait_s: float) -> None:
    """Both families on one socket."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(("::", port))
        say("ready")
        readable, _, _ = select.select([opened], [], [], wait_s)
        say(opened.recv(65535).hex() if readable else None)


def set_discovery(opened: socket.socket, address: str, how: int) -> None:
    if ":" in address:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)


def udp_socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def say(line: Any) -> None:
    print(json.dumps(line), flush=True)


VERBS: dict[str, Callable[..., None]] = {
    "capture": capture,
    "raw": raw,
    "udp": udp,
    "receive": receive,
    "probe": probe,
}

if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    VERBS[order.pop("do")](**order)
