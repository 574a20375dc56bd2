"""From a lease to what the kernel is told, whatever stands in the lease."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.backend import Peer, Underlay
from tulle_vxlan.peers import (
    Reach,
    SharedMacs,
    derived_mac,
    device_name,
    reach,
    told_mac,
    without_shared_macs,
)

DEVICES = {4: "flannel.1", 6: "flannel-v6.1"}
PEER = Peer(
    key="10.42.2.0-24&fd42:0:0:2::-64",
    node="n2",
    prefixes=(ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64")),
    endpoints=(ip_address("192.0.2.2"), ip_address("192.0.2.22"), ip_address("2001:db8::2")),
    backend="vxlan",
    data={"VNI": 1, "VtepMAC": "02:00:00:00:00:02"},
    data_v6={"VNI": 1, "VtepMAC": "02:00:00:00:06:02"},
)


def problem_of(**change: Any) -> str:
    (found,) = reach(msgspec.structs.replace(PEER, **change), DEVICES, 1).problems
    assert found.subject == "n2"
    return found.code


def test_each_family_has_its_device_its_mac_and_its_first_endpoint() -> None:
    found = reach(PEER, DEVICES, 1)
    assert [one.text for one in found.routes] == [
        "10.42.2.0/24 via 10.42.2.0 dev flannel.1 onlink",
        "fd42:0:0:2::/64 via fd42:0:0:2:: dev flannel-v6.1 metric 1024 onlink",
    ]
    assert [one.text for one in found.neighbours] == [
        "neighbour 10.42.2.0 dev flannel.1 lladdr 02:00:00:00:00:02",
        "neighbour fd42:0:0:2:: dev flannel-v6.1 lladdr 02:00:00:00:06:02",
    ]
    assert [one.text for one in found.fdb] == [
        "fdb 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2",
        "fdb 02:00:00:00:06:02 dev flannel-v6.1 dst 2001:db8::2",
    ]
    assert found.problems == ()


def test_a_family_that_we_do_not_have_is_left_out() -> None:
    found = reach(PEER, {4: "flannel.1"}, 1)
    assert (len(found.routes), found.problems) == (1, ())


def test_what_is_wrong_in_one_family_leaves_the_other_working() -> None:
    found = reach(msgspec.structs.replace(PEER, data_v6={}), DEVICES, 1)
    assert [one.link for one in found.routes] == ["flannel.1"]
    assert [one.code for one in found.problems] == ["peer-no-mac"]


def test_a_peer_that_cannot_be_reached_is_a_problem_with_its_reason() -> None:
    assert problem_of(backend="host-gw") == "peer-backend-differs"
    assert problem_of(backend="") == "peer-backend-differs"
    assert problem_of(endpoints=()) == "peer-no-endpoint"
    assert problem_of(data={"VNI": 2, "VtepMAC": "02:00:00:00:00:02"}) == "peer-vni-differs"
    assert problem_of(data={"VNI": 1}) == "peer-no-mac"


@pytest.mark.parametrize(
    "mac",
    [
        *(
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:02:03",
            "0200.0000.0002",
            "02-00-00-00-00-02",
            "zz:00:00:00:00:02",
        ),
        *(
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02:00:00:00:00:02\n",
            None,
            7,
            ["x"],
        ),
    ],
)
def test_a_mac_that_no_single_device_can_have_is_none(mac: object) -> None:
    assert told_mac({"VtepMAC": mac}) is None


def test_a_mac_in_capitals_is_the_same_mac() -> None:
    assert told_mac({"VtepMAC": "AA:BB:CC:DD:EE:0F"}) == "aa:bb:cc:dd:ee:0f"


@given(st.text(), st.integers(1, 9_999_999), st.sampled_from([4, 6]))
def test_a_derived_mac_is_a_unicast_one_of_local_make(node: str, vni: int, family: Any) -> None:
    mac = derived_mac(node, vni, family)
    assert told_mac({"VtepMAC": mac}) == mac
    assert int(mac[:2], 16) & 0x03 == 0x02
    assert mac == derived_mac(node, vni, family) != derived_mac(node + "x", vni, family)


def test_of_two_nodes_with_one_mac_the_first_key_stays_and_ours_is_nobody_elses() -> None:
    twin = msgspec.structs.replace(
        PEER, key="10.42.3.0-24", node="n3", prefixes=(ip_network("10.42.3.0/24"),)
    )
    both = [(one, reach(one, DEVICES, 1)) for one in (twin, PEER)]
    kept, problems = without_shared_macs(both, [])
    assert kept == [both[1][1]]
    assert [(one.code, one.subject) for one in problems] == [("peer-mac-shared", "n3")]
    assert "n2" in problems[0].message
    kept, problems = without_shared_macs(both, ["02:00:00:00:00:02"])
    assert kept == []
    assert len(problems) == 2
    assert "this node" in problems[0].message


def test_a_name_that_linux_would_not_take_is_refused() -> None:
    assert device_name(9_999_999, 4) == "flannel.9999999"
    assert device_name(9999, 6) == "flannel-v6.9999"
    with pytest.raises(ValueError, match="with IPv6 give a VNI of 1 to 9999"):
        device_name(10_000, 6)


HERE = Underlay("eth0", 2, 1500, {4: ip_address("192.0.2.1")}, {}, "", (ip_network("192.0.2.0/24"),))


def test_a_direct_peer_has_a_plain_route_and_keeps_what_the_tunnel_needs() -> None:
    found, through = reach(PEER, DEVICES, 1, HERE), reach(PEER, DEVICES, 1)
    assert [one.text for one in found.routes] == [
        "10.42.2.0/24 via 192.0.2.2 dev eth0",
        "fd42:0:0:2::/64 via fd42:0:0:2:: dev flannel-v6.1 metric 1024 onlink",
    ]
    assert (found.neighbours, found.fdb) == (through.neighbours, through.fdb)
    assert (found.direct, through.direct) == (True, False)


def holder(*macs: str) -> Reach:
    return Reach(macs=frozenset(macs))


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=6), st.data())
def test_a_mac_of_two_is_noticed_as_they_come_and_go(holders: list[set[str]], data: st.DataObject) -> None:
    shared, here = SharedMacs(["a"]), [holder(*one) for one in holders]
    found = shared.change([], here)
    while True:
        macs = ["a", *(mac for one in here for mac in one.macs)]
        assert found is (len(set(macs)) < len(macs))
        if not here:
            break
        gone = here.pop(data.draw(st.integers(0, len(here) - 1)))
        found = shared.change([gone], [])
