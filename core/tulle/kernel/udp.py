"""The UDP sockets that tulled opens for the forwarder, with every option that needs rights set on them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from functools import cache

from tulle.contracts.backend import Listen
from tulle.kernel.holders import udp_port_holders
from tulle.net.trains import UDP_GRO, UDP_SEGMENT, segment_size

log = logging.getLogger("tulle.kernel")

BUFFER_BYTES = 7 * 1024 * 1024
"""Of each socket and direction: about 5,000 datagrams of 1,400 bytes."""

# asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h: numbers that the socket module lacks in Python 3.11.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_DONT, PMTUDISC_DO = 0, 2
MARK_MASK = 0xFFFFFFFF
"""A mark is 32 bits without a sign; getsockopt gives it with one."""
IP_PKTINFO, IP_RECVERR, IPV6_RECVERR = 8, 11, 25

TEST_SIZES = (1400,) * 5 + (700,)
TEST_S = 0.5


def open_udp(listen: Listen) -> socket.socket:
    """A non-blocking socket bound to the wildcard address of `listen.family`. Raises OSError; for a port that is
    in use the text says by whom."""
    family = socket.AF_INET if listen.family == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if listen.family == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_buffer(opened, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _set_buffer(opened, SO_SNDBUFFORCE, socket.SO_SNDBUF)
        set_options(opened, listen)
        _bind(opened, listen)
    except BaseException:
        opened.close()
        raise
    return opened


def _bind(opened: socket.socket, listen: Listen) -> None:
    try:
        opened.bind(("0.0.0.0" if listen.family == 4 else "::", listen.port))
    except OSError as error:
        raise OSError(error.errno, _explain(error, listen)) from error


def set_options(opened: socket.socket, listen: Listen) -> None:
    """All of `listen` but family and port, on a new socket or one that is in use; whoever shares it has them too. Path
    MTU: `fragment` lets routers and this host cut outer packets, else DF is set and EMSGSIZE tells. Raises OSError
    where the mark is not allowed."""
    discover = PMTUDISC_DONT if listen.fragment else PMTUDISC_DO
    if listen.family == 4:
        level, names = socket.IPPROTO_IP, (IP_PKTINFO, socket.IP_RECVTOS)
        opened.setsockopt(level, IP_MTU_DISCOVER, discover)
        opened.setsockopt(level, IP_RECVERR, 0)
    else:
        level, names = socket.IPPROTO_IPV6, (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVTCLASS)
        opened.setsockopt(level, IPV6_MTU_DISCOVER, discover)
        opened.setsockopt(level, IPV6_RECVERR, 0)
    for name in names:
        opened.setsockopt(level, name, listen.tells)
    if listen.mark != opened.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) & MARK_MASK:
        _set_mark(opened, listen)
    opened.setsockopt(socket.IPPROTO_UDP, UDP_GRO, not gro_is_off())


def _set_mark(opened: socket.socket, listen: Listen) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, listen.mark.to_bytes(4, sys.byteorder))
    except PermissionError as error:
        raise OSError(
            error.errno,
            f"port {listen.port}/udp (IPv{listen.family}): the firewall mark {listen.mark:#x} needs the capability "
            "CAP_NET_ADMIN; give it, or take the mark away",
        ) from error


@cache
def gro_is_off() -> str:
    """Why trains are not received in one piece; "" where they are. Found out once, over loopback: a train is sent to
    ourselves, received, cut and compared. A loopback that carries nothing (it is down) proves nothing."""
    wanted = [os.urandom(size) for size in TEST_SIZES]
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(TEST_S)
            if not _carries(sender, receiver):
                return ""
            receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            with contextlib.suppress(OSError):  # no UDP_SEGMENT: then they come one by one
                sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, TEST_SIZES[0])
            sender.sendto(b"".join(wanted), receiver.getsockname())
            seen = _received(receiver, sum(TEST_SIZES))
    except TimeoutError:
        reason = "the self-test's datagrams did not arrive"
    except OSError as error:
        reason = f"the kernel refuses it ({error.strerror})"
    else:
        if b"".join(seen) == b"".join(wanted) and (seen == wanted or len(seen) == 1):
            return ""
        reason = "the self-test's datagrams arrived changed"
    log.warning("gro-off UDP_GRO is off: %s; packets are received one by one", reason)
    return reason


def _carries(sender: socket.socket, receiver: socket.socket) -> bool:
    """Whether loopback carries a datagram at all."""
    try:
        sender.sendto(b"?", receiver.getsockname())
        return receiver.recv(1) == b"?"
    except OSError:
        return False


def _received(receiver: socket.socket, total: int) -> list[bytes]:
    """Datagrams of `total` bytes, each train cut by the segment size that the kernel tells."""
    seen: list[bytes] = []
    while sum(map(len, seen)) < total:
        train, ancillary, _, _ = receiver.recvmsg(65535, socket.CMSG_SPACE(4))
        size = segment_size(ancillary) or max(1, len(train))
        seen += [train[at : at + size] for at in range(0, len(train), size)]
    return seen


def _set_buffer(opened: socket.socket, force: int, plain: int) -> None:
    """Without CAP_NET_ADMIN in the first user namespace the force is refused (EPERM): then as far as the
    administrator's limit goes (net.core.rmem_max, wmem_max), to which the kernel cuts the plain request."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)


def _explain(error: OSError, listen: Listen) -> str:
    """What to do depends on why; for a port in use, on who has it."""
    where = f"port {listen.port}/udp (IPv{listen.family})"
    match error.errno:
        case errno.EADDRINUSE:
            holders = udp_port_holders(listen.port)
            if not holders:
                return (
                    f"{where} is in use, but by no process that can be seen from here: by the kernel (a vxlan or "
                    f"wireguard device, see ip -d link) or a program in a container; remove it or set Backend.Port"
                )
            names = " and ".join(map(str, holders))
            return f"{where} is in use by {names}: stop it or set Backend.Port"
        case errno.EACCES:
            return (
                f"{where} needs the capability CAP_NET_BIND_SERVICE: give it, or set Backend.Port above 1023"
            )
        case errno.EAFNOSUPPORT | errno.EADDRNOTAVAIL:
            return (
                f"{where} cannot be opened, this kernel has no IPv{listen.family}: enable it or leave it out"
            )
        case _:
            return f"{where} cannot be opened: {os.strerror(error.errno or 0)}"
