"""Our bytes beside those that iproute2 6.1 sent for the same, and dumps of a real kernel (captured on Linux 6.18)."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.kernel import WantedFdb, WantedNeighbour, WantedRoute
from tulle.kernel import rtwire
from tulle.kernel.rtwire import HEADER, NDMSG, RTMSG, Message, Reader, answers, attributes
from tulle.kernel.state import cover

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="the captured bytes are a little-endian machine's"
)

LINKS = {7: "flannel.1", 8: "flannel-v6.1"}
ROUTE4 = WantedRoute(
    ip_network("10.42.2.0/24"), "flannel.1", "unicast", 0, gateway=ip_address("10.42.2.0"), onlink=True
)
ROUTE6 = WantedRoute(
    ip_network("fd42:0:0:2::/64"),
    "flannel-v6.1",
    "unicast",
    0,
    gateway=ip_address("fd42:0:0:2::"),
    onlink=True,
)
COVER6 = cover(ip_network("fd42::/48"))
NEIGHBOUR = WantedNeighbour("flannel.1", ip_address("10.42.2.0"), "02:00:00:00:00:02")
NEIGHBOUR6 = WantedNeighbour("flannel-v6.1", ip_address("fd42:0:0:2::"), "02:00:00:00:00:03")
FDB = WantedFdb("flannel.1", "02:00:00:00:00:02", ip_address("192.0.2.2"))
FDB6 = WantedFdb("flannel-v6.1", "02:00:00:00:00:03", ip_address("2001:db8::2"), 4789, 9)

IP_ROUTE_ADD = (  # ip route add 10.42.2.0/24 via 10.42.2.0 dev flannel.1 onlink proto 116
    "34000000180005063e4e046b0000000002180000fe74000104000000080001000a2a0200080005000a2a02000800040007000000"
)
IP_ROUTE_ADD_6 = (  # ip route add fd42:0:0:2::/64 via fd42:0:0:2:: dev flannel-v6.1 onlink proto 116
    "4c000000180005063e4e046b000000000a400000fe7400010400000014000100fd420000000000020000000000000000"
    "14000500fd4200000000000200000000000000000800040008000000"
)
IP_ROUTE_ADD_UNREACHABLE = (  # ip route add unreachable fd42::/48 metric 1000000 proto 116
    "38000000180005063e4e046b000000000a300000fe7400070000000014000100fd420000000000000000000000000000"
    "0800060040420f00"
)
IP_NEIGH_REPLACE = (  # ip neigh replace 10.42.2.0 dev flannel.1 lladdr 02:00:00:00:00:02 nud permanent
    "300000001c0005053f4e046b00000000020000000700000080000000080001000a2a02000a0002000200000000020000"
)
BRIDGE_FDB_REPLACE = (  # bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self permanent
    "300000001c0005053f4e046b000000000700000007000000c00002000a000200020000000002000008000100c0000202"
)
BRIDGE_FDB_REPLACE_6 = (  # ... 02:00:00:00:00:03 dev flannel-v6.1 dst 2001:db8::2 port 4789 vni 9 self permanent
    "4c0000001c0005053f4e046b000000000700000008000000c00002000a00020002000000000300001400010020010db8"
    "0000000000000000000000020600060012b500000800070009000000"
)
BRIDGE_FDB_DEL = (  # bridge fdb del 02:00:00:00:00:02 dev flannel.1 dst 192.0.2.2 self permanent
    "300000001d0005003f4e046b000000000700000007000000c00002000a000200020000000002000008000100c0000202"
)
NLM_F_ACK = 0x4
NUD_NOARP = 0x40
"""iproute2 adds it to FDB entries; the kernel does not care."""


def parts(message: bytes, fixed: int, spare: tuple[int, ...] = ()) -> tuple[object, ...]:
    """What a message says, whatever the order of its attributes; a metric of 0 is as good as none."""
    size, kind, flags, _, _ = HEADER.unpack_from(message)
    assert size == len(message)
    found = attributes(message, HEADER.size + fixed)
    if found.get(rtwire.RTA_PRIORITY) == bytes(4):
        del found[rtwire.RTA_PRIORITY]
    for one in spare:
        found.pop(one, None)
    return kind, flags & ~NLM_F_ACK, message[HEADER.size : HEADER.size + fixed], found


@pytest.mark.parametrize(
    ("ours", "captured"),
    [
        (rtwire.add_route(ROUTE4, 7), IP_ROUTE_ADD),
        (rtwire.add_route(COVER6, 0), IP_ROUTE_ADD_UNREACHABLE),
    ],
)
def test_a_route_is_added_as_iproute2_adds_it(ours: Message, captured: str) -> None:
    assert parts(ours.packed(1), RTMSG.size) == parts(bytes.fromhex(captured), RTMSG.size)


def test_an_ipv6_route_differs_only_in_saying_the_metric_that_the_kernel_gives_it() -> None:
    ours = rtwire.add_route(ROUTE6, 8).packed(1)
    assert attributes(ours, HEADER.size + RTMSG.size)[rtwire.RTA_PRIORITY] == (1024).to_bytes(4, "little")
    spare = (rtwire.RTA_PRIORITY,)
    assert parts(ours, RTMSG.size, spare) == parts(bytes.fromhex(IP_ROUTE_ADD_6), RTMSG.size, spare)


def test_a_route_is_removed_with_all_that_names_it_and_no_link() -> None:
    kind, flags, _, found = parts(rtwire.remove_route(ROUTE4).packed(1), RTMSG.size)
    assert (kind, flags) == (rtwire.RTM_DELROUTE, rtwire.NLM_F_REQUEST)
    assert found == {rtwire.RTA_DST: b"\x0a\x2a\x02\0", rtwire.RTA_GATEWAY: b"\x0a\x2a\x02\0"}


def test_a_neighbour_is_set_as_iproute2_sets_it() -> None:
    ours = rtwire.set_neighbour(NEIGHBOUR, 7).packed(1)
    assert parts(ours, NDMSG.size) == parts(bytes.fromhex(IP_NEIGH_REPLACE), NDMSG.size)


@pytest.mark.parametrize(
    ("ours", "captured"),
    [
        (rtwire.set_fdb(FDB, 7), BRIDGE_FDB_REPLACE),
        (rtwire.set_fdb(FDB6, 8), BRIDGE_FDB_REPLACE_6),
        (rtwire.remove_fdb(FDB, 7), BRIDGE_FDB_DEL),
    ],
)
def test_an_fdb_entry_is_set_and_removed_as_iproute2_does(ours: Message, captured: str) -> None:
    theirs = bytearray.fromhex(captured)
    theirs[HEADER.size + 8] &= ~NUD_NOARP  # ndm_state
    assert parts(ours.packed(1), NDMSG.size) == parts(bytes(theirs), NDMSG.size)


def test_a_message_carries_its_number_and_length() -> None:
    packed = rtwire.dump_fdb(7).packed(77, NLM_F_ACK)
    (answer,) = answers(packed)
    assert (answer.sequence, answer.type, answer.flags) == (77, rtwire.RTM_GETNEIGH, 0x305)


# --- dumps ----------------------------------------------------------------------------------------------------------

KERNEL_ROUTES_4 = (
    "3c000000180022003e4e046b9911000002180000fe7400010400000008000f00fe000000080001000a2a0200080005000a2a0200"
    "0800040007000000"
)
KERNEL_ROUTES_6 = (
    "88000000180022003e4e046b9f1100000a400000fe7400010400000008000f00fe00000014000100fd42000000000002"
    "0000000000000000080006000004000014000500fd420000000000020000000000000000080004000800000024000c00"
    + "00"
    * 32
    + "050014000000000074000000180022003e4e046b9f1100000a300000fe7400070000000008000f00fe00000014000100"
    "fd4200000000000000000000000000000800060040420f00080004000100000024000c00"
    + "00" * 32
    + "0500140000000000"
)
KERNEL_NEIGHBOURS_6 = [
    "0a000000080000004000000514000100ff0200000000000000000000000000160a000200333300000016000008000400"
    "000000001400030076170000060000000600000000000000",
    "0a000000080000008000000114000100fd4200000000000200000000000000000a000200020000000003000008000400"
    "000000001400030006000000060000000600000000000000",
]
KERNEL_FDB = [
    "0700000007000000c00002010a000200020000000002000008000100c00002021400030000000000060000000600000000000000"
]
KERNEL_FDB_6 = [
    "0700000008000000c00002010a00020002000000000300001400010020010db80000000000000000000000020600060012b50000"
    "08000700090000001400030000000000060000000600000000000000"
]


@pytest.fixture
def reader() -> Reader:
    return Reader(lambda index: LINKS.get(index, "lo"))


def bodies(dump: str) -> list[bytes]:
    return [one.body for one in answers(bytes.fromhex(dump))]


def test_routes_are_read_as_they_were_wanted(reader: Reader) -> None:
    assert reader.routes(4, bodies(KERNEL_ROUTES_4)) == [ROUTE4]
    assert reader.routes(6, bodies(KERNEL_ROUTES_6)) == [ROUTE6, COVER6]
    assert reader.routes(6, bodies(KERNEL_ROUTES_4)) == []


def test_the_permanent_neighbours_are_read_and_no_others(reader: Reader) -> None:
    assert reader.neighbours("flannel-v6.1", [bytes.fromhex(one) for one in KERNEL_NEIGHBOURS_6]) == [
        NEIGHBOUR6
    ]


def test_fdb_entries_are_read_with_port_and_vni_where_they_differ(reader: Reader) -> None:
    assert reader.fdb("flannel.1", [bytes.fromhex(one) for one in KERNEL_FDB]) == [FDB]
    assert reader.fdb("flannel-v6.1", [bytes.fromhex(one) for one in KERNEL_FDB_6]) == [FDB6]


def test_what_was_read_before_is_the_same_object(reader: Reader) -> None:
    first = reader.routes(6, bodies(KERNEL_ROUTES_6))
    reader.routes(4, [])
    assert all(a is b for a, b in zip(first, reader.routes(6, bodies(KERNEL_ROUTES_6)), strict=True))


def test_a_link_of_another_name_under_the_same_number_is_another_route() -> None:
    names = dict(LINKS)
    reader = Reader(lambda index: names[index])
    reader.routes(4, bodies(KERNEL_ROUTES_4))
    names[7] = "other"
    assert [one.link for one in reader.routes(4, bodies(KERNEL_ROUTES_4))] == ["other"]


def test_entries_that_are_gone_are_forgotten_in_the_end(reader: Reader) -> None:
    body = bytes.fromhex(KERNEL_FDB[0])
    first = reader.fdb("flannel.1", [body])
    for number in range(1100):
        reader.fdb(f"link{number}", [body])
    reader.forget(1)
    (again,) = reader.fdb("flannel.1", [body])
    assert again == first[0]
    assert again is not first[0]


@given(st.binary(max_size=200))
def test_any_bytes_are_data(data: bytes) -> None:
    for answer in answers(data):
        attributes(answer.body, 0)
        assert isinstance(answer.code, int)


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:00:01"])
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no MAC address"):
        rtwire.mac_bytes(text)
