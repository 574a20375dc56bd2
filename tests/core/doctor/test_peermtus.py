"""MTUs of the nodes of a cluster, compared by their member records."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest

from tulle.contracts.backend import Peer
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import KeyValue, LeaseId, Revision
from tulle.doctor.peermtus import NAMED, judge, told

MakeContext = Callable[..., DoctorContext]
PREFIX = "/coreos.com/network"


def member(name: str, **fields: object) -> tuple[str, KeyValue]:
    key = f"{PREFIX}/members/{name}"
    value = json.dumps({"ID": "a", "BootID": "b"} | fields).encode()
    return key, KeyValue(key, value, Revision(1), Revision(1), 1, LeaseId(1))


def peer(number: int) -> Peer:
    subnet = ip_network(f"10.42.{number}.0/24")
    return Peer(f"10.42.{number}.0-24", f"n{number}", (subnet,), (ip_address(f"192.0.2.{number}"),), "")


def test_peers_tell_their_mtu_and_others_records_do_not_count(make_context: MakeContext) -> None:
    records = dict([member("n2", MTU=1472), member("n3"), member("n4", MTU="x"), member("n9", MTU=900)])
    records[f"{PREFIX}/members/n5"] = KeyValue("k", b"junk", Revision(1), Revision(1), 1, LeaseId(1))
    peers = tuple(peer(number) for number in range(2, 7))
    assert told(make_context(peers=peers, records=records)) == {"n2": 1472}


def test_the_same_mtu_everywhere_is_ok_and_nothing_told_is_nothing_said(context: DoctorContext) -> None:
    assert [one.severity for one in judge(context, 1472, {"n2": 1472, "n3": 1472}, 28)] == ["ok"]
    assert judge(context, 1472, {}, 28) == []
    assert judge(context, None, {"n2": 1472}, 28) == []


@pytest.mark.parametrize(("own", "theirs"), [(1472, 8972), (8972, 1472)])
def test_a_difference_names_the_node_both_numbers_and_who_drops(
    context: DoctorContext, own: int, theirs: int
) -> None:
    (found,) = judge(context, own, {"n2": theirs}, 28)
    assert (found.severity, found.subject) == ("warning", "n2")
    assert found.what == f"pods there have MTU {theirs}, pods of this node {own}"
    ends = "from n2 to this node" if own < theirs else "from this node to n2"
    assert f"packets of more than 1472 bytes {ends}" in found.why
    assert found.mend.startswith(f"ip link set dev eth0 mtu {theirs + 28}  # on this node")


def test_who_differs_from_all_others_is_to_be_mended_there(context: DoctorContext) -> None:
    (found,) = judge(context, 1472, {"n2": 1372, "n3": 1472}, 28)
    assert found.mend.startswith("ip link set dev eth0 mtu 1500  # on n2, ")
    (found,) = judge(context, 1372, {"n2": 1472, "n3": 1472}, 28)
    assert found.mend.startswith("ip link set dev eth0 mtu 1500  # on this node, ")
    assert found.subject == "n2, n3"


def test_each_other_mtu_is_one_finding_and_many_nodes_are_counted(context: DoctorContext) -> None:
    peers = {f"n{number:02}": 1472 for number in range(10, 30)} | {"n31": 1300}
    small, many = judge(context, 1400, peers, 28)
    assert small.subject == "n31"
    assert many.subject.endswith(f"n17 and {20 - NAMED} more")
