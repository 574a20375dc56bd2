"""The wireguard backend keeps the contract of backends; what is flannel's about it; keys and their change."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Backend, Endpoint, Family, Listen, Peer
from tulle.testing.backend_contract import BackendContract, RecordingContext
from tulle_wireguard.backend import WireguardBackend
from tulle_wireguard.crypto import public_key
from tulle_wireguard.keyfile import KeyFileError
from tulle_wireguard.keytext import key_bytes, key_text
from tulle_wireguard.options import WireguardOptions

PSK = key_text(bytes(range(1, 33)))


def public(number: int) -> str:
    """Of peer number so and so."""
    return b64encode(sha256(b"peer %d" % number).digest()).decode()


async def eventually(ask: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not ask():
            await asyncio.sleep(0.005)


class TestWireguardBackend(BackendContract):
    options = WireguardOptions()

    def make_backend(self) -> WireguardBackend:
        return WireguardBackend(self.options)

    def make_peer(self, number: int, families: Sequence[Family], advertised: Advertisement) -> Peer:
        made = super().make_peer(number, families, advertised)
        data = {"PublicKey": public(number), "Port": 1000 + number}
        data_v6 = {"PublicKey": public(100 + number), "Port": 2000 + number}
        return msgspec.structs.replace(
            made, data=data if 4 in families else {}, data_v6=data_v6 if 6 in families else {}
        )

    # In Mode separate each family has a plane of its own; the contract asks whether all peers are served.

    def test_the_device_has_the_nodes_addresses_and_the_clusters_routes(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, _ = await self.started(tmp_path, (4, 6))
            four, six = ctx.plane.device, ctx.second_planes["v6"].device
            assert four is not None
            assert six is not None
            assert (four.name, six.name) == ("tulle-wg", "tulle-wg-v6")
            assert (four.routes, six.routes) == (ctx.networks[:1], ctx.networks[1:])
            assert (four.addresses, six.addresses) == (
                (ip_network("10.42.1.0/32"),),
                (ip_network("fd42:0:0:1::/128"),),
            )
            assert backend.owned().links == ("tulle-wg", "tulle-wg-v6")
            assert set(backend.owned().routes) == set(ctx.networks)
            await backend.stop(True)

        asyncio.run(run())

    def test_the_lease_has_flannels_fields_for_each_family(self, tmp_path: Path) -> None:
        async def run() -> None:
            four = await self.make_backend().advertise(RecordingContext(tmp_path / "4", (4,)))
            six = await self.make_backend().advertise(RecordingContext(tmp_path / "6", (6,)))
            both = await self.make_backend().advertise(RecordingContext(tmp_path / "both", (4, 6)))
            assert (four.type, four.data["Port"], four.data_v6) == ("wireguard", 51820, {})
            assert (six.type, six.data, six.data_v6["Port"]) == ("wireguard", {}, 51821)
            assert (both.data["Port"], both.data_v6["Port"]) == (51820, 51821)
            assert both.data["PublicKey"] != both.data_v6["PublicKey"]
            key = key_bytes((tmp_path / "both" / "wireguard.key").read_text().strip())
            assert both.data["PublicKey"] == key_text(public_key(key))

        asyncio.run(run())

    def test_the_data_plane_is_told_of_keys_ports_and_endpoints(self, tmp_path: Path) -> None:
        async def run() -> None:
            options = WireguardOptions(
                psk=PSK, listen_port=7000, listen_port_v6=7001, persistent_keepalive_interval=25
            )
            backend, ctx = WireguardBackend(options), RecordingContext(tmp_path, (4, 6))
            advertised = await backend.advertise(ctx)
            await backend.start(ctx)
            peer = self.make_peer(2, (4, 6), advertised)
            nearby = ip_address("10.0.0.2")
            peer = msgspec.structs.replace(
                peer, endpoints=(*peer.endpoints, nearby), data={"PublicKey": public(2)}
            )
            assert (await backend.reconcile([peer])).problems == ()
            four, six = ctx.plane, ctx.second_planes["v6"]
            assert four.listen == (Listen(4, 7000, fragment=True, tells=True),)
            assert six.listen == (Listen(6, 7001, fragment=True, tells=True),)
            assert four.peers[peer.key].prefixes == ("10.42.2.0/24",)
            assert six.peers[peer.key].prefixes == ("fd42:0:0:2::/64",)
            assert four.peers[peer.key].endpoints == (Endpoint("192.0.2.2", 7000), Endpoint("10.0.0.2", 7000))
            assert six.peers[peer.key].endpoints == (Endpoint("2001:db8::2", 2002),)
            common = {"PresharedKey": PSK, "PersistentKeepalive": 25}
            assert four.peers[peer.key].settings == {"PublicKey": public(2), **common}
            assert six.peers[peer.key].settings == {"PublicKey": public(102), **common}
            for plane in (four, six):
                assert plane.encapsulation is not None
                assert plane.encapsulation.name == "wireguard"
                assert plane.encapsulation.options["Mtu"] == 1420
                assert plane.source_check == "strict"
            assert four.encapsulation != six.encapsulation
            await backend.stop(True)

        asyncio.run(run())

    @pytest.mark.parametrize(("mode", "outer"), [("auto", (4, 6)), ("ipv4", (4,)), ("ipv6", (6,))])
    def test_one_device_carries_both_families_in_the_other_modes(
        self, tmp_path: Path, mode: str, outer: tuple[Family, ...]
    ) -> None:
        async def run() -> None:
            backend, ctx = WireguardBackend(WireguardOptions(mode=mode)), RecordingContext(tmp_path, (4, 6))
            advertised = await backend.advertise(ctx)
            assert advertised.data == advertised.data_v6
            await backend.start(ctx)
            peer = self.make_peer(2, (4, 6), advertised)
            await backend.reconcile([peer])
            assert ctx.second_planes == {}
            assert [one.family for one in ctx.plane.listen] == list(outer)
            told = ctx.plane.peers[peer.key]
            assert told.prefixes == ("10.42.2.0/24", "fd42:0:0:2::/64")
            places = {4: Endpoint("192.0.2.2", 1002), 6: Endpoint("2001:db8::2", 1002)}
            assert told.endpoints == tuple(places[family] for family in outer)
            assert ctx.plane.device is not None
            assert ctx.plane.device.routes == ctx.networks
            await backend.stop(True)

        asyncio.run(run())

    def test_an_underlay_that_lacks_a_family_of_the_mode_ends_it_with_the_reason(
        self, tmp_path: Path
    ) -> None:
        ctx = RecordingContext(tmp_path, (4, 6))
        ctx.underlay = msgspec.structs.replace(ctx.underlay, addresses={4: ip_address("192.0.2.1")})
        with pytest.raises(ValueError, match="Mode separate carries IPv6 pods over IPv6 alone"):
            asyncio.run(self.make_backend().advertise(ctx))

    def test_a_peer_of_two_families_with_one_unreadable_key_is_served_by_the_other(
        self, tmp_path: Path
    ) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path, (4, 6))
            odd = msgspec.structs.replace(peers[0], data_v6={"PublicKey": "?"})
            report = await backend.reconcile([odd, *peers[1:]])
            assert set(ctx.plane.peers) == {peer.key for peer in peers}
            assert set(ctx.second_planes["v6"].peers) == {peer.key for peer in peers[1:]}
            (problem,) = report.problems
            assert (problem.code, problem.subject) == ("peer-data-unreadable", "n2")
            assert "BackendV6Data has a PublicKey that is none" in problem.message
            await backend.stop(True)

        asyncio.run(run())

    def test_a_key_that_two_leases_have_is_the_younger_ones(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            older = msgspec.structs.replace(peers[0], data=peers[1].data, revision=1)
            report = await backend.reconcile([older, *peers[1:]])
            assert set(ctx.plane.peers) == {peers[1].key, peers[2].key}
            (problem,) = report.problems
            assert (problem.code, problem.subject) == ("peer-key-shared", "n2")
            assert "has the WireGuard key of n3" in problem.message
            await backend.stop(True)

        asyncio.run(run())

    def test_a_peers_former_key_is_taken_while_its_lease_names_it(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            data = {**peers[0].data, "FormerPublicKey": public(77)}
            rotating = msgspec.structs.replace(peers[0], data=data)
            await backend.reconcile([rotating, *peers[1:]])
            assert ctx.plane.peers[rotating.key].settings["FormerPublicKey"] == public(77)
            thief = msgspec.structs.replace(peers[0], data={**data, "FormerPublicKey": public(3)})
            assert (await backend.reconcile([thief, *peers[1:]])).problems == ()
            assert "FormerPublicKey" not in ctx.plane.peers[thief.key].settings
            assert set(ctx.plane.peers) == {peer.key for peer in peers}
            await backend.stop(True)

        asyncio.run(run())

    def test_a_lease_with_our_own_key_is_no_peer(self, tmp_path: Path) -> None:
        async def run() -> None:
            backend, ctx, peers = await self.started(tmp_path)
            mine = msgspec.structs.replace(peers[0], data=(await backend.advertise(ctx)).data)
            report = await backend.reconcile([mine, *peers[1:]])
            assert mine.key not in ctx.plane.peers
            assert "has the WireGuard key of this node" in report.problems[0].message
            await backend.stop(True)

        asyncio.run(run())

    def test_a_damaged_key_file_ends_it_and_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "wireguard.key").write_text("oops\n")
        with pytest.raises(KeyFileError, match=r"wireguard\.key: holds no WireGuard key"):
            asyncio.run(self.make_backend().advertise(RecordingContext(tmp_path)))
        assert (tmp_path / "wireguard.key").read_text() == "oops\n"

    def test_no_secret_is_in_status_log_or_repr(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def run() -> str:
            backend, ctx = WireguardBackend(WireguardOptions(psk=PSK)), RecordingContext(tmp_path, (4, 6))
            advertised = await backend.advertise(ctx)
            await backend.start(ctx)
            report = await backend.reconcile([self.make_peer(2, (4, 6), advertised)])
            before = [(tmp_path / name).read_text().strip() for name in ("wireguard.key", "wireguard-v6.key")]
            await backend.rotate(60)
            said = (
                f"{backend.status()} {backend!r} {report} {backend.owned()} {vars(backend)} {ctx.published}"
            )
            await backend.stop(True)
            after = (tmp_path / "wireguard.key").read_text().split()[0]
            for secret in (*before, after, PSK):
                assert len(secret) == 44
                assert secret not in said
                assert secret not in caplog.text
                assert repr(key_bytes(secret)) not in said
            return said

        with caplog.at_level(logging.DEBUG):
            assert "tulle-wg" in asyncio.run(run())


class Rotating:
    """A started backend with a clock to turn."""

    def __init__(self, state_dir: Path) -> None:
        self.now = 1_000_000.0
        self.ctx = RecordingContext(state_dir)
        self.backend = WireguardBackend(WireguardOptions(), unix_s=lambda: self.now)

    def keys(self) -> tuple[str, str]:
        """What the forwarder has: the key, and the one before."""
        assert self.ctx.plane.encapsulation is not None
        options = self.ctx.plane.encapsulation.options
        return options["PrivateKey"], options.get("PreviousPrivateKey", "")


def rotating(work: Callable[[Rotating], Awaitable[None]], state_dir: Path) -> None:
    async def run() -> None:
        made = Rotating(state_dir)
        await made.backend.advertise(made.ctx)
        await made.backend.start(made.ctx)
        await made.backend.reconcile([])
        try:
            await work(made)
        finally:
            await made.backend.stop(False)

    asyncio.run(run())


def test_a_new_key_is_kept_told_and_the_old_one_taken_for_a_while(tmp_path: Path) -> None:
    async def work(one: Rotating) -> None:
        old, none = one.keys()
        assert none == ""
        told = await one.backend.rotate(300)
        new, previous = one.keys()
        assert (previous, old != new) == (old, True)
        assert told == {"tulle-wg": key_text(public_key(key_bytes(new)))}
        assert one.ctx.published[-1].data["PublicKey"] == told["tulle-wg"]
        assert (tmp_path / "wireguard.key").read_text() == f"{new}\nprevious {old} until 1000300\n"
        assert one.backend.status()["old_key_for_s"] == 300
        assert one.ctx.published[-1].data["FormerPublicKey"] == key_text(public_key(key_bytes(old)))

    rotating(work, tmp_path)


def test_the_old_key_goes_when_its_time_is_over_from_forwarder_and_disk(tmp_path: Path) -> None:
    async def work(one: Rotating) -> None:
        await one.backend.rotate(0.05)
        new, previous = one.keys()
        assert previous
        one.now += 0.05
        await eventually(lambda: one.keys() == (new, ""))
        await eventually(lambda: (tmp_path / "wireguard.key").read_text() == f"{new}\n")
        await eventually(lambda: "FormerPublicKey" not in one.ctx.published[-1].data)

    rotating(work, tmp_path)


def test_without_grace_the_old_key_goes_at_once(tmp_path: Path) -> None:
    async def work(one: Rotating) -> None:
        old, _ = one.keys()
        await one.backend.rotate(0)
        assert one.keys()[0] != old
        assert one.keys()[1] == ""
        assert old not in (tmp_path / "wireguard.key").read_text()

    rotating(work, tmp_path)


def test_of_two_keys_one_that_cannot_be_written_stays_and_the_other_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        backend, ctx = WireguardBackend(WireguardOptions()), RecordingContext(tmp_path, (4, 6))
        before = await backend.advertise(ctx)
        await backend.start(ctx)
        (tmp_path / "wireguard-v6.key.new").mkdir()  # where the new text would be written first
        with pytest.raises(KeyFileError, match=r"wireguard-v6\.key: .* cannot be written"):
            await backend.rotate(300)
        (told,) = ctx.published
        assert told.data["PublicKey"] != before.data["PublicKey"]
        assert told.data["FormerPublicKey"] == before.data["PublicKey"]
        assert told.data_v6 == before.data_v6
        assert ctx.plane.encapsulation is not None
        key = ctx.plane.encapsulation.options["PrivateKey"]
        assert told.data["PublicKey"] == key_text(public_key(key_bytes(key)))
        await backend.stop(True)

    asyncio.run(run())


def test_a_restarted_tulled_goes_on_taking_the_old_key(tmp_path: Path) -> None:
    found: list[tuple[str, str]] = []

    async def work(one: Rotating) -> None:
        if not found:
            await one.backend.rotate(300)
        found.append(one.keys())

    rotating(work, tmp_path)
    rotating(work, tmp_path)
    assert found[0] == found[1]
    assert found[0][1]


def test_a_backend_that_has_not_started_changes_no_key(tmp_path: Path) -> None:
    backend = WireguardBackend(WireguardOptions())
    asyncio.run(backend.advertise(RecordingContext(tmp_path)))
    before = (tmp_path / "wireguard.key").read_text()
    with pytest.raises(ValueError, match="has not started yet"):
        asyncio.run(backend.rotate(300))
    assert (tmp_path / "wireguard.key").read_text() == before


def test_records_of_stock_peers_are_followed_and_become_peers_and_routes(tmp_path: Path) -> None:
    async def run() -> None:
        backend: Any = WireguardBackend(WireguardOptions())
        assert isinstance(backend, WireguardBackend)
        checked: Backend = backend
        ctx = RecordingContext(tmp_path)
        await checked.advertise(ctx)
        await checked.start(ctx)
        await eventually(lambda: "wireguard/peers" in ctx.folders)
        record = {"PublicKey": public(50), "AllowedIPs": ["10.99.0.7/32", "10.42.77.0/30"], "Via": ["n1"]}
        await ctx.folders["wireguard/peers"].put({"laptop": msgspec.json.encode(record), "odd": b"{}"})
        await eventually(lambda: ctx.asked_again)
        report = await checked.reconcile([])
        assert ctx.plane.peers["wireguard/peers/laptop"].prefixes == ("10.99.0.7/32", "10.42.77.0/30")
        assert ctx.plane.device is not None
        assert ctx.plane.device.routes == (ip_network("10.42.0.0/16"), ip_network("10.99.0.7/32"))
        assert ctx.plane.source_check == "source"
        assert [one.subject for one in report.problems] == ["odd"]
        await ctx.folders["wireguard/peers"].put({})
        await eventually(lambda: ctx.asked_again == 2)
        assert (await checked.reconcile([])).problems == ()
        assert ctx.plane.peers == {}
        assert ctx.plane.device.routes == (ip_network("10.42.0.0/16"),)
        assert ctx.plane.source_check == "strict"
        await checked.stop(True)

    asyncio.run(run())


def test_a_restarted_tulled_asks_for_the_stock_peers_before_it_touches_their_routes(tmp_path: Path) -> None:
    class Restarted(RecordingContext):
        async def follow(self, folder: str) -> AsyncGenerator[Mapping[str, bytes], None]:
            await asyncio.sleep(0.05)
            assert self.plane.device is None, "it was told of a device without their routes"
            records = {
                name: {"PublicKey": public(number), "AllowedIPs": [f"10.99.0.{number}/32"], "Via": via}
                for number, (name, via) in enumerate([("here", []), ("elsewhere", ["n2"])])
            }
            yield {name: msgspec.json.encode(record) for name, record in records.items()}
            await asyncio.Event().wait()

    async def run() -> None:
        backend, ctx = WireguardBackend(WireguardOptions()), Restarted(tmp_path)
        await backend.advertise(ctx)
        await backend.start(ctx)
        assert ctx.plane.device is not None
        assert [str(one) for one in ctx.plane.device.routes] == [
            "10.42.0.0/16",
            "10.99.0.0/32",
            "10.99.0.1/32",
        ]
        await backend.stop(True)

    asyncio.run(run())
