"""Records of stock peers: what is read, what is refused and why, and which node has which."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import DataPeer, Endpoint, Peer
from tulle_wireguard.place import Place
from tulle_wireguard.stock import (
    Attached,
    StockPeer,
    attach,
    decode,
    encode,
    is_name,
    made,
    stock_data_peer,
)
from tulle_wireguard.tunnels import Tunnel


def key(name: str) -> str:
    return b64encode(sha256(name.encode()).digest()).decode()


def record(name: str = "laptop", **more: Any) -> bytes:
    return json.dumps({"PublicKey": key(name), "AllowedIPs": ["10.99.0.7/32"], **more}).encode()


def peer(number: int) -> Peer:
    return Peer(
        f"10.42.{number}.0-24",
        f"n{number}",
        (ip_network(f"10.42.{number}.0/24"),),
        (ip_address(f"192.0.2.{number}"),),
        "wireguard",
    )


def attached(records: dict[str, bytes], node: str = "n1") -> Attached:
    return attach(
        records,
        node=node,
        peers=[peer(2), peer(3)],
        own=[ip_network("10.42.1.0/24")],
        own_keys=[key("n1")],
        underlay=[ip_address("192.0.2.1")],
    )


def test_a_record_is_read_whole_and_written_the_same() -> None:
    found = decode(
        "laptop",
        record(
            AllowedIPs=["10.99.0.7", "fd99::7/128", "10.99.0.7/32"],
            Endpoint="[2001:db8::7]:51820",
            PresharedKey=key("psk"),
            PersistentKeepalive=25,
            Via=["n1"],
            Comment="kept by nobody",
        ),
    )
    assert found == StockPeer(
        name="laptop",
        public=key("laptop"),
        allowed=(ip_network("10.99.0.7/32"), ip_network("fd99::7/128")),
        endpoint=Place(ip_address("2001:db8::7"), 51820),
        psk=key("psk"),
        keepalive_s=25,
        via=("n1",),
    )
    assert decode("laptop", encode(found)) == found
    assert decode("laptop", encode(decode("laptop", record()))) == decode("laptop", record())
    assert key("psk") not in repr(found)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"PublicKey": "x"}, "PublicKey: it is not 32 bytes in base64"),
        ({"PublicKey": b64encode(bytes(32)).decode()}, "PublicKey: it is all zeros"),
        ({"PresharedKey": "hunter2"}, "PresharedKey: it is not"),
        ({"AllowedIPs": []}, "AllowedIPs: 0 of them; give 1 to 256"),
        ({"AllowedIPs": ["10.0.0.0/33"]}, "AllowedIPs: '10.0.0.0/33' is no network"),
        ({"AllowedIPs": ["0.0.0.0/0"]}, "is everything, also what carries the tunnel"),
        ({"AllowedIPs": ["::/0"]}, "is everything"),
        ({"Endpoint": "laptop.example:51820"}, "give one such as 192.0.2.1:51820"),
        ({"Endpoint": "192.0.2.1"}, "is not of the form address:port"),
        ({"Endpoint": "2001:db8::1:51820"}, "is not of the form address:port"),
        ({"Endpoint": "192.0.2.1:0"}, "ports go from 1 to 65535"),
        ({"PersistentKeepalive": 65536}, "PersistentKeepalive: 65536"),
        ({"PersistentKeepalive": "25"}, "it is not JSON of the form"),
        ({"Via": "n1"}, "it is not JSON of the form"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")) as raised:
        decode("laptop", record(**more))
    assert "hunter2" not in str(raised.value)


def test_names_fit_into_keys_and_on_a_line() -> None:
    assert [is_name(one) for one in ("laptop-7", "a/b", "", "x" * 64, "a b", "a\n", "Büro")] == [
        *(True, False, False, False, False, False, True)
    ]


@given(st.text(max_size=70), st.binary(max_size=300))
def test_whatever_lies_in_the_store_is_read_or_refused(name: str, value: bytes) -> None:
    found = attached({name: value})
    assert found.here == ()
    assert [one.code for one in found.problems] == ["stock-peer-unreadable"]


def test_without_via_every_node_has_it_and_nobody_forwards() -> None:
    for node in ("n1", "n2"):
        found = attached({"laptop": record()}, node)
        assert [one.name for one in found.here] == ["laptop"]
        assert (found.behind, found.forwards, found.problems) == ({}, False, ())


def test_with_via_that_node_has_it_and_the_others_find_it_behind() -> None:
    records = {"laptop": record(Via=["n9", "n2", "n3"])}
    elsewhere = attached(records, "n1")
    assert (elsewhere.here, elsewhere.forwards, elsewhere.problems) == ((), False, ())
    assert elsewhere.behind == {"10.42.2.0-24": (ip_network("10.99.0.7/32"),)}
    here = attached(records, "n3")
    assert [one.name for one in here.here] == ["laptop"]
    assert here.forwards


def test_a_via_that_no_lease_has_is_a_problem() -> None:
    found = attached({"laptop": record(Via=["n9"])})
    (problem,) = found.problems
    assert list(found.prefixes()) == [ip_network("10.99.0.7/32")]  # into the tunnel, and not out in clear
    assert (problem.code, problem.subject) == ("stock-peer-nowhere", "laptop")
    assert "attached to n9" in problem.message


@pytest.mark.parametrize(
    ("allowed", "said"),
    [
        ("10.42.1.7/32", "overlaps the subnet 10.42.1.0/24 of this node"),
        ("10.42.3.0/25", "overlaps the subnet 10.42.3.0/24 of n3"),
        ("10.0.0.0/8", "overlaps the subnet 10.42"),
        ("192.0.2.0/24", "holds 192.0.2.1, which carries the tunnel itself"),
        ("192.0.2.3/32", "holds 192.0.2.3, which carries the tunnel itself"),
        ("198.51.100.0/24", "holds 198.51.100.9, which carries the tunnel itself"),
    ],
)
def test_what_nodes_have_no_peer_gets_and_the_rest_it_does(allowed: str, said: str) -> None:
    value = record(AllowedIPs=[allowed, "10.99.0.7/32"], Endpoint="198.51.100.9:1")
    found = attached({"laptop": value})
    assert [one.allowed for one in found.here] == [(ip_network("10.99.0.7/32"),)]
    (problem,) = found.problems
    assert (problem.code, problem.subject) == ("stock-peer-overlaps", "laptop")
    assert said in problem.message


def test_of_two_that_want_the_same_the_first_by_name_gets_it() -> None:
    found = attached({"b": record("b"), "a": record("a", AllowedIPs=["10.99.0.7/32", "10.99.0.0/24"])})
    assert [(one.name, len(one.allowed)) for one in found.here] == [("a", 2), ("b", 0)]
    (problem,) = found.problems
    assert problem.subject == "b"
    assert "belongs to the peer a" in problem.message


def test_a_key_is_one_peers() -> None:
    found = attached({"a": record("x"), "b": record("x", AllowedIPs=["10.99.0.8/32"]), "me": record("n1")})
    assert [one.name for one in found.here] == ["a"]
    assert ["it has the key of a" in found.problems[0].message, "this node" in found.problems[1].message] == [
        *(True, True)
    ]


def test_a_tunnel_carries_its_families_and_speaks_to_endpoints_of_its_own() -> None:
    one = made("x", key("x"), ["10.99.0.7/32", "fd99::7/128"], endpoint="192.0.2.9:7", keepalive_s=5)
    four, six = Tunnel(inner=(4,), outer=(4,), port=1), Tunnel(inner=(6,), outer=(6,), port=2)
    settings = {"PublicKey": key("x"), "PersistentKeepalive": 5}
    assert stock_data_peer(one, four) == DataPeer(
        "wireguard/peers/x", ("10.99.0.7/32",), (Endpoint("192.0.2.9", 7),), settings
    )
    assert stock_data_peer(one, six) == DataPeer("wireguard/peers/x", ("fd99::7/128",), (), settings)
    assert stock_data_peer(made("y", key("y"), ["fd99::8"]), four) is None
