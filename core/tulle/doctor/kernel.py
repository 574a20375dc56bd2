"""What the data path needs of this kernel: TUN, the families in use, and UDP in batches."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tulle.contracts.backend import Family
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.doctor import reading
from tulle.forward.udp_batch import SegmentSender
from tulle.net.trains import UDP_GRO

TUN = Path("/dev/net/tun")


async def check(ctx: DoctorContext) -> list[Finding]:
    return [
        judge_tun(open_error(TUN)),
        judge_ipv6(
            ctx.families, reading.sysctl("net/ipv6/conf/all/disable_ipv6"), ctx.link, _link_ipv6(ctx.link)
        ),
        judge_batches(SegmentSender(Counter()).self_test(), gro_error()),
    ]


def open_error(path: Path) -> OSError | None:
    """Why a device file cannot be opened. Opening /dev/net/tun makes no device yet."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error
    return None


def gro_error() -> OSError | None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError as error:
        return error
    return None


def _link_ipv6(link: str) -> str | None:
    return reading.sysctl(f"net/ipv6/conf/{link}/disable_ipv6") if link else None


def judge_tun(error: OSError | None) -> Finding:
    """Pure."""
    if error is None:
        return Finding(severity="ok", subject=str(TUN), what="can be opened")
    missing = isinstance(error, FileNotFoundError) or not isinstance(error, PermissionError)
    mend = "modprobe tun" if missing else "sudo tulle doctor  # and give the container /dev/net/tun"
    return Finding(
        severity="error",
        subject=str(TUN),
        what=f"cannot be opened: {error.strerror}",
        why="backends that carry packets in user space (udp, encrypted ones) have no tunnel",
        mend=mend,
    )


def judge_ipv6(
    families: Collection[Family], everywhere: str | None, link: str, on_link: str | None
) -> Finding:
    """Pure. `everywhere` and `on_link`: the two sysctls disable_ipv6, None where the kernel has none."""
    if 6 not in families:
        return Finding(severity="ok", subject="IPv6", what="the cluster does not use it")
    why = "the cluster has IPv6 pods: their packets are not carried by this node"
    if everywhere is None:
        mend = "cat /proc/cmdline  # take ipv6.disable=1 out of the boot loader's settings and reboot"
        return Finding(
            severity="error", subject="IPv6", what="this kernel runs without IPv6", why=why, mend=mend
        )
    for name, value in (("all", everywhere), (link, on_link)):
        if value == "1":
            key = f"net.ipv6.conf.{name}.disable_ipv6"
            return Finding(severity="error", subject=key, what="is 1", why=why, mend=f"sysctl -w {key}=0")
    return Finding(severity="ok", subject="IPv6", what="is there")


def judge_batches(segments: Collection[str], gro: OSError | None) -> Finding:
    """Pure. `segments`: what the sender's self-test had to turn off."""
    missing = [*segments, *([] if gro is None else [f"UDP_GRO is refused ({gro.strerror})"])]
    if not missing:
        return Finding(severity="ok", subject="UDP_SEGMENT, UDP_GRO", what="work")
    return Finding(
        severity="warning",
        subject="UDP_SEGMENT, UDP_GRO",
        what="; ".join(missing),
        why="packets pass, one by one: at a half to a tenth of the speed",
        mend="uname -r  # take a Linux of 5.12 or newer; 7.0 to 7.1.4 send damaged batches",
    )
