"""The backend in user space: the contract once more, what the forwarder is told, and which mode runs when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Backend, Endpoint, Family, Listen, Peer, Problem, Report
from tulle.contracts.kernel import LinkFacts, VxlanFacts, Wanted, WantedLink, WantedRoute
from tulle.testing.backend_contract import BackendContract, RecordingContext, RecordingKernel
from tulle_vxlan.backend import VxlanBackend
from tulle_vxlan.options import VxlanOptions
from tulle_vxlan.peers import derived_mac

MAC = {4: "02:00:00:00:04:02", 6: "02:00:00:00:06:02"}
LACKS = Report(problems=(Problem("device-impossible", "flannel.1", "the kernel has no VXLAN"),))
BUSY = Report(problems=(Problem("kernel-refused", "flannel.1", "a program holds its UDP port"),))


def vtep(number: int, family: int) -> dict[str, Any]:
    return {"VNI": 1, "VtepMAC": f"02:00:00:00:0{family}:{number:02x}"}


def device(name: str, alias: str = "tulle") -> LinkFacts:
    facts = VxlanFacts(1, 8472, 2, ip_address("192.0.2.1"), False, False, 0, False)
    return LinkFacts(name, 7, 1450, False, "5e:00:00:00:00:01", alias, facts)


class Asked(RecordingKernel):
    """Remembers all that was wanted, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Wanted] = []

    async def want(self, wanted: Wanted) -> Report:
        self.all.append(wanted)
        return await super().want(wanted)


class TestUserMode(BackendContract):
    options = VxlanOptions(mode="userspace")

    def make_backend(self) -> Backend:
        return VxlanBackend(self.options)

    def make_peer(self, number: int, families: Sequence[Family], advertised: Advertisement) -> Peer:
        made = super().make_peer(number, families, Advertisement(advertised.type))
        data = {"data": vtep(number, 4)} if 4 in families else {}
        data_v6 = {"data_v6": vtep(number, 6)} if 6 in families else {}
        return msgspec.structs.replace(made, **data, **data_v6)

    def test_the_forwarder_is_told_of_sockets_macs_and_peers(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, (4, 6))
            await backend.reconcile(peers)
            assert ctx.plane.listen == (Listen(4, 8472, True), Listen(6, 8472, True))
            assert ctx.plane.encapsulation is not None
            assert ctx.plane.encapsulation.name == "vxlan"
            assert ctx.plane.encapsulation.options == {
                "vni": 1,
                "macs": {"4": derived_mac("n1", 1, 4), "6": derived_mac("n1", 1, 6)},
                "mtu": 1430,
            }
            told = ctx.plane.peers[peers[0].key]
            assert told.prefixes == ("10.42.2.0/24", "fd42:0:0:2::/64")
            assert told.endpoints == (Endpoint("192.0.2.2", 8472), Endpoint("2001:db8::2", 8472))
            assert told.settings == {"macs": {"4": MAC[4], "6": MAC[6]}}
            assert ctx.plane.source_check == "strict"
            assert ctx.fake_kernel.wanted == Wanted()

        asyncio.run(run())

    def test_before_the_first_peers_nothing_of_an_earlier_run_is_removed(self, tmp_path: Path) -> None:
        """The routes into the TUN among it: packets go on while tulled is started again."""

        async def run() -> None:
            _, ctx, _ = await self.started(tmp_path)
            assert ctx.fake_kernel.wanted is None or ctx.fake_kernel.wanted.partial

        asyncio.run(run())

    @pytest.mark.parametrize(("families", "mtu"), [((4,), 1450), ((6,), 1430), ((4, 6), 1430)])
    def test_the_one_device_has_the_smaller_mtu(
        self, tmp_path: Path, families: tuple[Family, ...], mtu: int
    ) -> None:
        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, families)
            assert ctx.plane.device is not None
            assert backend.mtu() == ctx.plane.device.mtu == mtu
            assert backend.status()["mode"] == "userspace"

        asyncio.run(run())

    def test_a_family_without_a_mac_is_left_out_and_the_other_served(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, (4, 6))
            half = msgspec.structs.replace(peers[0], data_v6={})
            report = await backend.reconcile([half])
            assert [one.code for one in report.problems] == ["peer-no-mac"]
            assert ctx.plane.peers[half.key].prefixes == ("10.42.2.0/24",)

        asyncio.run(run())

    def test_the_kernels_devices_of_before_are_marked_and_removed_first(self, tmp_path: Path) -> None:
        """Also flannel's, which nobody has marked: their port is needed."""

        async def run() -> None:
            ctx = RecordingContext(tmp_path)
            ctx.kernel = ctx.fake_kernel = asked = Asked()
            ctx.fake_kernel.links["flannel.1"] = device("flannel.1", alias="")
            backend = self.make_backend()
            advertised = await backend.advertise(ctx)
            assert advertised.data["VtepMAC"] == "5e:00:00:00:00:01"
            await backend.start(ctx)
            assert asked.all == [Wanted((WantedLink("flannel.1", 1450, None),), partial=True), Wanted()]

        asyncio.run(run())


class TestUserModeDirect(TestUserMode):
    """With DirectRouting the forwarder knows all peers just the same."""

    options = VxlanOptions(mode="userspace", direct_routing=True)

    def test_the_forwarder_is_told_of_sockets_macs_and_peers(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            assert ctx.fake_kernel.wanted == Wanted(partial=True)
            far = msgspec.structs.replace(peers[1], endpoints=(ip_address("203.0.113.9"),))
            await backend.reconcile([peers[0], far])
            route = WantedRoute(
                ip_network("10.42.2.0/24"), "eth0", "unicast", 0, gateway=ip_address("192.0.2.2")
            )
            assert ctx.fake_kernel.wanted == Wanted(routes=(route,))
            assert set(ctx.plane.peers) == {peers[0].key, far.key}
            assert ip_network("10.42.2.0/24") in backend.owned().routes
            assert backend.status()["direct_peers"] == 1
            await backend.stop(True)
            assert ctx.fake_kernel.wanted == Wanted()

        asyncio.run(run())

    def test_the_kernels_devices_of_before_are_marked_and_removed_first(self, tmp_path: Path) -> None:
        async def run() -> None:
            ctx = RecordingContext(tmp_path)
            ctx.fake_kernel.links["flannel.1"] = device("flannel.1")
            await self.make_backend().start(ctx)
            assert ctx.fake_kernel.wanted == Wanted()

        asyncio.run(run())


def started(tmp_path: Path, options: VxlanOptions, answer: Report) -> tuple[VxlanBackend, RecordingContext]:
    backend, ctx = VxlanBackend(options), RecordingContext(tmp_path)
    ctx.fake_kernel.answer = answer
    asyncio.run(backend.start(ctx))
    return backend, ctx


def test_auto_takes_the_kernel_where_it_can(tmp_path: Path) -> None:
    backend, ctx = started(tmp_path, VxlanOptions(), Report())
    assert backend.status()["mode"] == "kernel"
    assert ctx.plane.device is None


def test_auto_takes_user_space_where_the_kernel_has_none_and_says_why(tmp_path: Path) -> None:
    backend, ctx = started(tmp_path, VxlanOptions(), LACKS)
    status = backend.status()
    assert (status["mode"], status["mode_because"]) == ("userspace", "the kernel has no VXLAN")
    assert ctx.plane.device is not None
    assert ctx.fake_kernel.wanted == Wanted(partial=True), (
        "the device is still wanted, or routes were removed"
    )
    asyncio.run(backend.reconcile([]))
    assert ctx.fake_kernel.wanted == Wanted()


def test_where_the_kernel_is_asked_for_it_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the kernel has no VXLAN"):
        started(tmp_path, VxlanOptions(mode="kernel"), LACKS)


def test_group_policy_without_the_kernels_is_refused_for_good(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GBP: vxlan in user space does not carry it"):
        started(tmp_path, VxlanOptions(gbp=True), LACKS)


@pytest.mark.parametrize("alias", ["tulle", ""])
def test_a_port_that_our_own_forwarder_holds_is_waited_for_without_holding_up_the_start(
    tmp_path: Path, alias: str
) -> None:
    """Core ends that forwarder after the first peers, and not before."""

    async def run() -> None:
        backend, ctx = VxlanBackend(VxlanOptions()), RecordingContext(tmp_path)
        ctx.fake_kernel.links |= {
            "flannel.1": device("flannel.1"),
            "tulle0": LinkFacts("tulle0", 9, 1450, True, alias=alias),
        }
        ctx.fake_kernel.answer = BUSY
        if alias:
            await backend.start(ctx)
            assert backend.status()["mode"] == "kernel"
        else:
            with pytest.raises(OSError, match="holds its UDP port"):
                await backend.start(ctx)

    asyncio.run(run())
