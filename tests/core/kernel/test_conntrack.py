"""Tracked connections of the test's own namespace."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.kernel.conntrack import NETLINK_NETFILTER, addresses, concerns, delete, forget, list_all
from tulle.kernel.rtsocket import RouteSocket

TRACKING = "table inet t { chain out { type filter hook output priority 0; ct state new accept; }; }"
PORT = 9


def connect(*targets: str) -> None:
    """A datagram to each address of lo: tracked from then on."""
    subprocess.run(["nft", "-f", "-"], input=TRACKING, text=True, check=True)
    for target in targets:
        subprocess.run(
            ["ip", "address", "add", target, "dev", "lo", *(["nodad"] if ":" in target else [])], check=True
        )
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as opened:
            opened.sendto(b"x", (target.partition("/")[0], PORT))


async def tracked() -> set[str]:
    """Addresses of all entries."""
    kernel = RouteSocket(NETLINK_NETFILTER)
    try:
        bodies = [body for family in (4, 6) for body in await kernel.dump(list_all(family))]  # type: ignore[arg-type]
    finally:
        kernel.close()
    return {str(one) for body in bodies for one in addresses(body)}


def test_entries_with_an_end_in_the_prefix_go_and_others_stay(netns: Any) -> None:
    netns.call(connect, "10.9.1.1/32", "10.9.2.1/32", "fd09:1::1/128", "fd09:2::1/128")
    assert netns.run(tracked()) == {"10.9.1.1", "10.9.2.1", "fd09:1::1", "fd09:2::1"}
    count = netns.run(forget([ip_network("10.9.1.0/24"), ip_network("fd09:1::/64")]))
    assert count == 2
    assert netns.run(tracked()) == {"10.9.2.1", "fd09:2::1"}


def test_where_there_is_none_nothing_happens(netns: Any) -> None:
    netns.call(connect, "10.9.2.1/32")
    assert netns.run(forget([ip_network("10.9.1.0/24")])) == 0
    assert netns.run(forget([])) == 0
    assert netns.run(tracked()) == {"10.9.2.1"}


@given(st.binary(max_size=80))
def test_no_entry_whatever_it_holds_is_an_exception(body: bytes) -> None:
    packed = body.ljust(4, b"\0")
    delete(packed)
    assert concerns(packed, [ip_network("0.0.0.0/0"), ip_network("::/0")]) in (True, False)


def test_an_end_after_nat_counts_too() -> None:
    reply = bytes.fromhex("1c000280180001800800010008080808080002000a090101")
    assert concerns(bytes(4) + reply, [ip_network("10.9.1.0/24")])
    assert not concerns(bytes(4) + reply, [ip_network("10.9.2.0/24")])


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 32))
def test_an_entry_concerns_a_prefix_as_ipaddress_says(
    source: IPv4Address, prefix: IPv4Address, length: int
) -> None:
    network = ip_network((prefix, length), strict=False)
    reply = bytes.fromhex("1400028010000180") + bytes.fromhex("08000100") + source.packed
    assert concerns(bytes(4) + reply, [network]) == (source in network)


@pytest.mark.parametrize("body", [b"\2\0\0\0"])
def test_the_order_to_delete_names_the_family_of_the_entry(body: bytes) -> None:
    assert delete(body).body[:1] == body[:1]
