"""What a stock peer is given: a file that wg-quick takes, with each node as it is reached."""

from __future__ import annotations

from configparser import ConfigParser
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tulle.lease.model import Lease
from tulle_wireguard.keytext import key_text
from tulle_wireguard.options import WireguardOptions
from tulle_wireguard.place import Place
from tulle_wireguard.quick import NodePeer, attached_to, node_peers, quick_text
from tulle_wireguard.stock import made

KEYS = [key_text(bytes([number]) * 32) for number in range(1, 9)]
FOUR, SIX = ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64")


def lease(data: Any, data_v6: Any, **more: Any) -> Lease:
    public = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}
    return Lease("x", (FOUR, SIX), public, "wireguard", data, data_v6, **more)


def peers(options: WireguardOptions, data: Any, data_v6: Any) -> list[NodePeer]:
    return list(node_peers("n2", lease(data, data_v6), options))


def test_a_node_with_two_devices_is_two_peers() -> None:
    one, other = peers(WireguardOptions(), {"PublicKey": KEYS[0], "Port": 7}, {"PublicKey": KEYS[1]})
    assert one == NodePeer(
        node="n2", public=KEYS[0], endpoint=Place(ip_address("192.0.2.2"), 7), prefixes=(FOUR,)
    )
    assert other == NodePeer(
        node="n2", public=KEYS[1], endpoint=Place(ip_address("2001:db8::2"), 51821), prefixes=(SIX,)
    )


@pytest.mark.parametrize(
    ("mode", "address"), [("auto", "192.0.2.2"), ("ipv4", "192.0.2.2"), ("ipv6", "2001:db8::2")]
)
def test_a_node_with_one_device_is_one_peer(mode: str, address: str) -> None:
    data = {"PublicKey": KEYS[0]}
    (one,) = peers(WireguardOptions(mode=mode), data, data)
    assert one == NodePeer(
        node="n2", public=KEYS[0], endpoint=Place(ip_address(address), 51820), prefixes=(FOUR, SIX)
    )


@pytest.mark.parametrize("data", [None, "text", {}, {"PublicKey": 7}])
def test_a_lease_that_says_too_little_is_no_peer(data: Any) -> None:
    assert peers(WireguardOptions(), data, data) == []
    assert list(node_peers("n2", Lease("x", (FOUR,), {}, "vxlan"), WireguardOptions())) == []


NODES = [
    NodePeer(
        node=f"n{number}", public=KEYS[number], endpoint=Place(ip_address("192.0.2.9"), 1), prefixes=(net,)
    )
    for number, net in ((1, ip_network("10.42.1.0/24")), (2, FOUR))
]
NETWORKS = [ip_network("10.42.0.0/16")]


def test_attached_to_all_it_reaches_each_nodes_pods_by_that_node() -> None:
    assert attached_to(made("x", KEYS[5], ["10.99.0.7"]), NODES, NETWORKS) == NODES


def test_attached_to_some_it_reaches_all_pods_by_the_first() -> None:
    found = attached_to(made("x", KEYS[5], ["10.99.0.7"], via=["n2", "n1", "n8"]), NODES, NETWORKS)
    assert [(one.node, one.prefixes) for one in found] == [
        ("n2", (NETWORKS[0],)),
        ("n1", NODES[0].prefixes),
    ]


@pytest.mark.parametrize("via", [[], ["n2"]])
@pytest.mark.parametrize(
    ("allowed", "known"),
    [
        (["10.99.0.7"], [KEYS[0]]),
        (["fd99::7"], [KEYS[1]]),
        (["10.99.0.7", "fd99::7"], [KEYS[0], KEYS[1]]),
    ],
)
def test_of_two_devices_it_is_given_those_that_have_it_as_a_peer(
    via: list[str], allowed: list[str], known: list[str]
) -> None:
    devices = peers(WireguardOptions(), {"PublicKey": KEYS[0]}, {"PublicKey": KEYS[1]})
    networks = [ip_network("10.42.0.0/16"), ip_network("fd42::/48")]
    found = attached_to(made("x", KEYS[5], allowed, via=via), devices, networks)
    assert [one.public for one in found] == known


def test_the_file_is_what_wg_quick_reads() -> None:
    peer = made("laptop", KEYS[5], ["10.99.0.7/32", "192.168.7.0/24"], psk=KEYS[6])
    text = quick_text(peer, NODES[:1], WireguardOptions())
    parser = ConfigParser(delimiters="=")
    parser.read_string(text)
    assert dict(parser["Interface"]) == {
        "privatekey": f"<the private key that belongs to {KEYS[5]}>",
        "address": "10.99.0.7/32",
        "mtu": "1420",
    }
    assert dict(parser["Peer"]) == {
        "publickey": KEYS[1],
        "presharedkey": KEYS[6],
        "allowedips": "10.42.1.0/24",
        "endpoint": "192.0.2.9:1",
        "persistentkeepalive": "25",
    }


def test_who_can_be_reached_listens_and_keeps_nothing_alive() -> None:
    peer = made("router", KEYS[5], ["192.168.7.0/24"], endpoint="198.51.100.7:4000")
    text = quick_text(peer, NODES, WireguardOptions(mtu=9000))
    assert "ListenPort = 4000\n" in text
    assert "MTU = 8920\n" in text
    assert "PersistentKeepalive" not in text
    assert text.count("[Peer]") == 2
    assert "# Address = <one out of its AllowedIPs>" in text
