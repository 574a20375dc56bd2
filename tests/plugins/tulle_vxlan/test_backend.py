"""The vxlan backend keeps the contract of backends; what is flannel's about it; what it says when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Backend, Family, Owned, Peer, Problem, Report
from tulle.contracts.kernel import (
    LinkFacts,
    VxlanFacts,
    WantedAddress,
    WantedFdb,
    WantedNeighbour,
    WantedRoute,
)
from tulle.testing.backend_contract import BackendContract, RecordingContext
from tulle_vxlan.backend import VxlanBackend
from tulle_vxlan.kernelmode import checksum_wanted
from tulle_vxlan.options import VxlanOptions
from tulle_vxlan.peers import derived_mac

MAC = "5e:00:00:00:00:01"


def vtep(number: int) -> dict[str, Any]:
    return {"VNI": 1, "VtepMAC": f"02:00:00:00:00:{number:02x}"}


def device(name: str = "flannel.1", mac: str = MAC, vxlan: bool = True) -> LinkFacts:
    facts = VxlanFacts(1, 8472, 2, ip_address("192.0.2.1"), False, False, 0, False)
    return LinkFacts(name, 7, 1450, True, mac, "", facts if vxlan else None)


class TestVxlanBackend(BackendContract):
    def make_backend(self) -> Backend:
        return VxlanBackend(VxlanOptions())

    def make_peer(self, number: int, families: Sequence[Family], advertised: Advertisement) -> Peer:
        data = {"data": vtep(number)} if 4 in families else {}
        data_v6 = {"data_v6": vtep(number)} if 6 in families else {}
        bare = Advertisement(advertised.type)
        return msgspec.structs.replace(super().make_peer(number, families, bare), **data, **data_v6)

    async def served(self, ctx: RecordingContext) -> set[str]:
        """Those that all three entries lead to."""
        wanted = ctx.fake_kernel.wanted
        assert wanted is not None
        macs = {(one.link, one.address): one.mac for one in wanted.neighbours}
        known = {(one.link, one.mac) for one in wanted.fdb}
        found: dict[str, list[str]] = {}
        for route in wanted.routes:
            assert route.link is not None
            assert route.gateway is not None
            assert (route.link, macs[route.link, route.gateway]) in known
            found.setdefault(macs[route.link, route.gateway], []).append(
                str(route.destination).replace("/", "-")
            )
        assert len(wanted.routes) == len(wanted.neighbours) == len(wanted.fdb)
        return {"&".join(sorted(one, key=lambda text: ":" in text)) for one in found.values()}

    def test_a_peer_becomes_a_route_a_neighbour_and_an_fdb_entry_a_family(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, (4, 6))
            await backend.reconcile(peers[:1])
            wanted = ctx.fake_kernel.wanted
            assert wanted is not None
            assert not wanted.partial
            near4, near6 = ip_address("10.42.2.0"), ip_address("fd42:0:0:2::")
            pods4, pods6 = ip_network("10.42.2.0/24"), ip_network("fd42:0:0:2::/64")
            assert set(wanted.routes) == {
                WantedRoute(pods4, "flannel.1", "unicast", 0, gateway=near4, onlink=True),
                WantedRoute(pods6, "flannel-v6.1", "unicast", 0, gateway=near6, onlink=True),
            }
            mac = "02:00:00:00:00:02"
            assert set(wanted.neighbours) == {
                WantedNeighbour("flannel.1", near4, mac),
                WantedNeighbour("flannel-v6.1", near6, mac),
            }
            assert set(wanted.fdb) == {
                WantedFdb("flannel.1", mac, ip_address("192.0.2.2")),
                WantedFdb("flannel-v6.1", mac, ip_address("2001:db8::2")),
            }
            assert set(wanted.addresses) == {
                WantedAddress("flannel.1", ip_interface("10.42.1.0/32")),
                WantedAddress("flannel-v6.1", ip_interface("fd42:0:0:1::/128")),
            }
            assert set(backend.owned().links) == {"flannel.1", "flannel-v6.1"}
            assert set(backend.owned().routes) == {pods4, pods6}

        asyncio.run(run())

    def test_before_the_first_peers_those_of_an_earlier_run_stay(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            assert ctx.fake_kernel.wanted is not None
            assert ctx.fake_kernel.wanted.partial
            await backend.reconcile(peers)
            await backend.start(ctx)  # the underlay has moved
            assert not ctx.fake_kernel.wanted.partial
            assert len(await self.served(ctx)) == 3

        asyncio.run(run())

    @pytest.mark.parametrize(("families", "mtus"), [((4,), [1450]), ((6,), [1430]), ((4, 6), [1450, 1430])])
    def test_the_mtu_is_flannels_and_stays_so_when_it_is_asked_again(
        self, tmp_path: Path, families: tuple[Family, ...], mtus: list[int]
    ) -> None:
        """flannel subtracts the overhead again when its device is made again."""

        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, families)
            for _ in range(2):
                assert ctx.fake_kernel.wanted is not None
                assert [one.mtu for one in ctx.fake_kernel.wanted.links] == mtus
                assert backend.mtu() == min(mtus)
                await backend.start(ctx)

        asyncio.run(run())

    def test_the_options_reach_the_device(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = RecordingContext(tmp_path)
            options = VxlanOptions(vni=7, port=4789, mtu=1400, gbp=True, learning=True, tx_checksum="off")
            backend = VxlanBackend(options)
            await backend.advertise(ctx)
            await backend.start(ctx)
            assert ctx.fake_kernel.wanted is not None
            (link,) = ctx.fake_kernel.wanted.links
            assert (link.name, link.mtu, link.tx_checksum) == ("flannel.7", 1350, False)
            assert link.vxlan is not None
            assert (link.vxlan.vni, link.vxlan.port, link.vxlan.link) == (7, 4789, "eth0")
            assert (link.vxlan.gbp, link.vxlan.learning) == (True, True)
            assert link.vxlan.local == ip_address("192.0.2.1")
            status = backend.status()
            assert (status["device"], status["port"], status["tx_checksum"]) == ("flannel.7", 4789, "off")

        asyncio.run(run())

    def advertised(self, ctx: RecordingContext) -> Advertisement:
        return asyncio.run(self.make_backend().advertise(ctx))

    def test_the_mac_is_the_devices_else_the_leases_else_from_the_name(self, tmp_path: Path) -> None:
        ctx = RecordingContext(tmp_path, (4, 6))
        from_name = {"VNI": 1, "VtepMAC": derived_mac("n1", 1, 4)}
        assert self.advertised(ctx).data == from_name
        ctx.recalled = Advertisement("vxlan", vtep(9), vtep(8))
        assert self.advertised(ctx) == Advertisement("vxlan", vtep(9), vtep(8))
        ctx.fake_kernel.links["flannel.1"] = device(mac=MAC)
        assert self.advertised(ctx) == Advertisement("vxlan", {"VNI": 1, "VtepMAC": MAC}, vtep(8))

    @pytest.mark.parametrize(
        "recalled",
        [
            Advertisement("wireguard", {"VtepMAC": MAC}),
            Advertisement("vxlan", {"VtepMAC": 7}),
            Advertisement("vxlan", {"VtepMAC": "ff:ff:ff:ff:ff:ff"}),
        ],
    )
    def test_a_lease_that_has_no_mac_of_ours_is_not_believed(
        self, tmp_path: Path, recalled: Advertisement
    ) -> None:
        ctx = RecordingContext(tmp_path)
        ctx.recalled = recalled
        assert self.advertised(ctx).data["VtepMAC"] == derived_mac("n1", 1, 4)

    def test_a_link_of_that_name_that_is_no_vxlan_device_gives_no_mac(self, tmp_path: Path) -> None:
        ctx = RecordingContext(tmp_path)
        ctx.fake_kernel.links["flannel.1"] = device(vxlan=False)
        assert self.advertised(ctx).data["VtepMAC"] == derived_mac("n1", 1, 4)

    def test_what_the_kernel_refuses_of_the_device_is_tried_again(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx, backend = RecordingContext(tmp_path), self.make_backend()
            await backend.advertise(ctx)
            elsewhere = Problem("kernel-refused", "10.42.9.0/24", "a route of somebody else")
            ctx.fake_kernel.answer = Report(
                problems=(elsewhere, Problem("foreign-link", "flannel.1", "another has it"))
            )
            with pytest.raises(OSError, match=r"^another has it$"):
                await backend.start(ctx)
            ctx.fake_kernel.answer = Report(problems=(elsewhere,))
            await backend.start(ctx)

        asyncio.run(run())

    def test_a_family_that_the_underlay_lacks_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        ctx = RecordingContext(tmp_path, (4, 6))
        ctx.underlay = msgspec.structs.replace(ctx.underlay, addresses={4: ip_address("192.0.2.1")})
        with pytest.raises(ValueError, match="eth0: it has no IPv6 address"):
            asyncio.run(self.make_backend().start(ctx))

    @pytest.mark.parametrize(("families", "mtu"), [((4,), 625), ((6,), 1349)])
    def test_an_underlay_that_leaves_no_room_is_said_in_numbers(
        self, tmp_path: Path, families: tuple[Family, ...], mtu: int
    ) -> None:
        ctx = RecordingContext(tmp_path, families)
        with pytest.raises(ValueError, match=f"eth0: an MTU of {mtu} leaves .* are needed; raise the MTU"):
            asyncio.run(VxlanBackend(VxlanOptions(mtu=mtu)).start(ctx))
        asyncio.run(VxlanBackend(VxlanOptions(mtu=mtu + 1)).start(ctx))

    def test_stopping_for_good_wants_nothing_any_more(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            await backend.reconcile(peers)
            await backend.stop(False)
            assert len(await self.served(ctx)) == 3
            await backend.stop(True)
            assert await self.served(ctx) == set()
            assert ctx.fake_kernel.wanted is not None
            assert ctx.fake_kernel.wanted.links == ()
            assert backend.owned() == Owned()

        asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "kernel", "wanted"),
    [
        ("auto", "5.6.19-generic", False),
        ("auto", "4.18.0", False),
        ("auto", "5.7.0", None),
        ("auto", "6.1.0-18-amd64", None),
        ("auto", "unheard of", None),
        ("on", "4.18.0", True),
        ("off", "6.1.0", False),
    ],
)
def test_checksums_are_computed_here_only_where_the_kernel_spoils_them(
    asked: str, kernel: str, wanted: bool | None
) -> None:
    assert checksum_wanted(asked, kernel) is wanted
