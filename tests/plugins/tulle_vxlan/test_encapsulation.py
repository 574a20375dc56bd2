"""VXLAN in user space keeps the contract of encapsulations, and is what a kernel's VXLAN device sends and takes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tulle.contracts.encapsulation import Buffer, Encapsulation, PathId, Paths, PeerId, Remote
from tulle.net.checksum import fold, pseudo_header_sum
from tulle.net.packet import UDP
from tulle.testing.encapsulation_contract import EncapsulationContract, inner
from tulle.testing.packets import packet
from tulle_vxlan.encapsulation import VxlanWire
from tulle_vxlan.frames import HEADER_BYTES, PADDED_BYTES, header

MACS = {
    node: {"4": f"02:00:00:00:04:{n:02x}", "6": f"02:00:00:00:06:{n:02x}"} for n, node in enumerate("abc")
}
FOUR, SIX = PathId(4), PathId(6)
PEER = PeerId(2)
MTU = 1450


class TestVxlanWire(EncapsulationContract):
    def make_end(self, paths: Paths, random_bytes: Callable[[int], bytes]) -> Encapsulation:
        return VxlanWire(paths, random_bytes)

    def options_of(self, node: str) -> Mapping[str, Any]:
        return {"vni": 1, "macs": MACS[node], "mtu": MTU}

    def settings_of(self, node: str) -> Mapping[str, Any]:
        return {"macs": MACS[node]}

    def secrets_of(self, node: str) -> Sequence[str]:
        return ()

    def test_a_wrong_datagram_is_counted_under_its_name_and_its_neighbours_are_delivered(self) -> None:
        _, a, b, b_at_a, a_at_b = self.pair()
        ((_, sealed),) = a.sealed(b_at_a, [inner("a", "b", bytes([n])) for n in range(3)])
        wrong = {
            "drop-short": sealed[0][:HEADER_BYTES],
            "drop-flags": b"\x88" + sealed[0][1:],
            "drop-vni": sealed[0][:6] + b"\x02" + sealed[0][7:],
            "drop-vlan": sealed[0][:20] + b"\x81\x00" + sealed[0][22:],
            "drop-not-ip": sealed[0][:20] + b"\x08\x06" + sealed[0][22:],
            "drop-foreign-mac": sealed[0][:8] + b"\xff" * 6 + sealed[0][14:],
        }
        b.hear_at(1, [sealed[0], *wrong.values(), sealed[1], sealed[2]])
        assert b.packets_from(a_at_b) == [inner("a", "b", bytes([n])) for n in range(3)]
        assert b.encapsulation.counters() == dict.fromkeys(wrong, 1)

    def test_padding_of_a_short_frame_is_not_delivered(self) -> None:
        _, a, b, b_at_a, a_at_b = self.pair()
        short = inner("a", "b")
        ((_, (sealed,)),) = a.sealed(b_at_a, [short])
        b.hear_at(1, [sealed + bytes(PADDED_BYTES - len(sealed))])
        assert b.packets_from(a_at_b) == [short]

    def test_what_was_left_to_hardware_is_finished_or_dropped_and_counted(self) -> None:
        _, _, b, _, a_at_b = self.pair()
        start = header(1, raw(MACS["b"]["4"]), raw(MACS["a"]["4"]), 4)
        ends = (bytes((10, 42, 1, 2)), bytes((10, 42, 2, 2)))

        def partial(payload: bytes) -> bytes:
            size = 8 + len(payload)
            pseudo = 0xFFFF - fold(pseudo_header_sum(*ends, UDP, size))
            return inner("a", "b", struct.pack("!HHHH", 1, 2, size, pseudo) + payload)

        long = inner("a", "b", bytes(2 * MTU))
        b.hear_at(1, [start + one for one in (partial(b"short"), partial(bytes(2 * MTU)), long)])
        assert b.encapsulation.counters() == {"finished": 1, "drop-too-long": 1}
        assert len(b.packets_from(a_at_b)) == 2


class TwoFamilies:
    """`Paths` with a peer at an IPv4 and an IPv6 address."""

    def remote(self, path: PathId) -> Remote:
        return Remote(bytes(4) if path == FOUR else bytes(16), 8472)

    def path_to(self, remote: Remote) -> PathId:
        return FOUR if len(remote.address) == 4 else SIX

    def peers_at(self, path: PathId) -> frozenset[PeerId]:
        return frozenset({PEER})


IPV4, IPV6 = packet("10.42.1.2", "10.42.2.2", b"4"), packet("fd42:0:0:1::2", "fd42:0:0:2::2", b"6")


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def made(peer_macs: Mapping[str, str] = MACS["b"], paths: Sequence[PathId] = (FOUR, SIX)) -> VxlanWire:
    wire = VxlanWire(TwoFamilies(), lambda count: b"")
    wire.configure({"vni": 7, "macs": MACS["a"], "mtu": MTU}, 0.0)
    wire.set_peer(PEER, paths, {"macs": peer_macs}, 0.0)
    return wire


def test_each_family_travels_over_its_own_with_its_own_macs() -> None:
    sealed: dict[PathId, list[Buffer]] = {
        path: [b"".join(map(bytes, one)) for one in many]
        for path, many in made().seal(PEER, [IPV6, IPV4, IPV6], 0.0)
    }
    start = {
        path: header(7, raw(MACS["b"][key]), raw(MACS["a"][key]), family)
        for path, key, family in ((FOUR, "4", 4), (SIX, "6", 6))
    }
    assert sealed == {FOUR: [start[FOUR] + IPV4], SIX: [start[SIX] + IPV6] * 2}


@pytest.mark.parametrize(
    ("macs", "paths"), [({"4": MACS["b"]["4"]}, (FOUR, SIX)), (MACS["b"], (FOUR,)), ({}, ()), (MACS["b"], ())]
)
def test_a_family_that_cannot_reach_the_peer_is_dropped_and_counted(
    macs: Mapping[str, str], paths: Sequence[PathId]
) -> None:
    wire = made(macs, paths)
    found = wire.seal(PEER, [IPV6, IPV4], 0.0)
    assert [path for path, _ in found] == ([FOUR] if paths and macs else [])
    assert wire.counters() == {"drop-no-path": 2 - len(found)}


def test_new_settings_of_the_node_hold_for_peers_that_it_knows() -> None:
    wire = made()
    wire.configure({"vni": 9, "macs": MACS["c"], "mtu": MTU}, 1.0)
    ((_, ((start, _),)),) = wire.seal(PEER, [IPV4], 1.0)
    assert start == header(9, raw(MACS["b"]["4"]), raw(MACS["c"]["4"]), 4)
    old = header(7, raw(MACS["a"]["4"]), raw(MACS["b"]["4"]), 4) + IPV4
    assert wire.open(FOUR, [old], 1.0).deliveries == ()
    assert wire.counters() == {"drop-vni": 1}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vni": 1, "macs": {}, "mtu": MTU},
        {"vni": 1, "macs": MACS["a"]},
        {"vni": 1, "macs": {"5": MACS["a"]["4"]}, "mtu": MTU},
        {"vni": 1, "macs": {"4": "ff:ff:ff:ff:ff:ff"}, "mtu": MTU},
    ],
)
def test_options_that_cannot_be_are_refused_and_change_nothing(options: Mapping[str, Any]) -> None:
    wire = made()
    with pytest.raises(ValueError, match=r"macs|vni|mtu"):
        wire.configure(options, 1.0)
    assert wire.seal(PEER, [IPV4], 1.0)


def test_a_peer_whose_settings_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="is no MAC of one device"):
        made({"4": "none"})
