"""Wakes when somebody changed the nftables ruleset of this network namespace, and tells its generation.

Every transaction (nft, libnftables, iptables-nft) gives the ruleset a new generation, and the kernel tells whoever
listens. The old iptables has no such events.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from tulle.kernel.watch import DEBOUNCE_S, NetlinkWatch

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
NETLINK_NETFILTER = 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NFNLGRP_NFTABLES = 7
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 15, 16
NFTA_GEN_ID = 1

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr."""
NFGENMSG = struct.Struct("=BBH")
"""struct nfgenmsg: family, version, resource (big-endian, and 0 here)."""
GENERATION = struct.Struct(">HHI")
"""struct nlattr and the number; the attribute's own two fields are in the machine's order and not looked at."""

ANSWER_BYTES = 4096


class RulesetWatch(NetlinkWatch):
    """See the module and `watch`."""

    def __init__(self, wake: Callable[[], object], debounce_s: float = DEBOUNCE_S) -> None:
        """Raises OSError where this kernel has no nftables or the right (CAP_NET_ADMIN) is missing."""
        opened = _socket()
        try:
            opened.bind((0, 0))
            opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError:
            opened.close()
            raise
        super().__init__(opened, wake, debounce_s)


def generation() -> int:
    """Of the ruleset as it is now: it differs after any change. Raises OSError where the kernel does not say."""
    with _socket() as opened:
        kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN
        size = HEADER.size + NFGENMSG.size
        opened.send(HEADER.pack(size, kind, NLM_F_REQUEST, 1, 0) + NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))
        return parse_generation(opened.recv(ANSWER_BYTES))


def parse_generation(answer: bytes) -> int:
    """Pure. Raises OSError for an error, or anything else."""
    if len(answer) >= HEADER.size:
        kind = HEADER.unpack_from(answer)[1]
        if kind == NLMSG_ERROR and len(answer) >= HEADER.size + 4:
            code = -struct.unpack_from("=i", answer, HEADER.size)[0]
            raise OSError(code, "the kernel does not tell the ruleset's generation (has it nf_tables?)")
        offset = HEADER.size + NFGENMSG.size
        newgen = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN
        long = len(answer) >= offset + GENERATION.size
        if kind == newgen and long and struct.unpack_from("=HH", answer, offset)[1] == NFTA_GEN_ID:
            return int(GENERATION.unpack_from(answer, offset)[2])
    raise OSError("the kernel's answer about the ruleset's generation makes no sense")


def _socket() -> socket.socket:
    flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_NETLINK, flags, NETLINK_NETFILTER)
