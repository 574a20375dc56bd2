"""Each of the eleven defects that flannel has and tulle must not have, by its number in the list that we keep.

 1 to 6 and 11: leases; tested here on a memory store, under races on a real etcd in tests/faults/test_lease_races.py
 7: udp; its parts that can be seen at the engine are tested here, with real packets in tests/lab/test_spoofing.py
 8: vxlan (a new MAC leaves the old FDB entry; a recreated device gets no peers back and subtracts the overhead twice):
    tests/core/kernel/test_netlink_vxlan.py, tests/plugins/tulle_vxlan/test_backend.py and tests/lab/test_vxlan.py.
    Stale routes at start, which every backend could have, are tested here
 9: wireguard (the key lies on tmpfs): tests/plugins/tulle_wireguard/test_keyfile.py, tests/lab/test_wireguard.py
10: masquerade rules in an order that leaves the last one out of reach, and no resync:
    tests/plugins/tulle_masquerade/test_rules.py, tests/lab/test_masquerade.py. The password in the log is tested here
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.engine import Local
from tulle.contracts.store import NO_LEASE, LeaseId, Put
from tulle.forward.python_engine import PythonEngine
from tulle.kernel.state import ALIAS, Plan, RemoveRoute, Seen, SeenLink, Wanted, WantedRoute, diff
from tulle.lease.errors import SubnetLost
from tulle.testing.engine_rig import EngineRig, PeerSocket
from tulle.testing.packets import packet
from tulle_memory.store import MemoryStore
from tulle_udp.encapsulation import PlainUdp

# The fixture `cluster` is in conftest.py: a memory world, a virtual clock, nodes.

DAY_S = 86_400
NETWORK = "/coreos.com/network"


def test_defect_1_a_lost_allocation_race_is_tried_again(
    cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            wish = IPv4Network("10.5.7.0/24")
            nodes = [await cluster.start(f"n{number}") for number in range(1, 6)]
            # All see the same free subnet and reach for it at once.
            racing = [node.begin(f"192.0.2.{n}", previous=(wish,)) for n, node in enumerate(nodes, start=1)]
            await cluster.clock.advance(10)
            got = [await acquired for acquired in racing]
            assert len(set(got)) == 5
            assert (wish,) in got

    with caplog.at_level("INFO"):
        asyncio.run(scenario())
    assert sum(message.startswith("lease-race") for message in caplog.messages) >= 4


@pytest.mark.parametrize("same_address", [False, True], ids=["another address", "the same bytes (NAT)"])
def test_defect_2_a_late_renewer_does_not_overwrite_the_new_owner(cluster: Any, same_address: bool) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            late = await cluster.start("late")
            (prefix,) = await late.acquire("192.0.2.1")
            late.store._closed = True
            await cluster.clock.suspend(DAY_S + 1)
            new = await cluster.start("new")
            address = "192.0.2.1" if same_address else "192.0.2.2"
            assert await new.acquire(address, previous=(prefix,)) == (prefix,)
            before = await cluster.keys()
            late.store._closed = False
            await cluster.clock.advance(5)
            assert late.run.done()
            with pytest.raises(SubnetLost):
                await late.run
            assert {k: v for k, v in (await cluster.keys()).items() if "alive" not in k} == {
                k: v for k, v in before.items() if "alive" not in k
            }
            await cluster.clock.advance(3600)
            assert not new.run.done()

    asyncio.run(scenario())


def test_defect_3_a_reservation_stays_one_when_its_node_starts_runs_and_ends(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            reserved = b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan"}'
            await cluster.put("subnets/10.5.52.0-24", reserved)
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1") == (IPv4Network("10.5.52.0/24"),)
            kv = (await cluster.keys())["subnets/10.5.52.0-24"]
            assert kv.lease == NO_LEASE
            assert kv.value == b'{"PublicIP":"192.0.2.1","PublicIPv6":null}'
            await cluster.clock.run(node.manager.update(node.claim("192.0.2.1", kind="host-gw")))
            assert (await cluster.keys())["subnets/10.5.52.0-24"].lease == NO_LEASE
            await node.kill()
            await cluster.clock.suspend(10 * DAY_S)
            assert "subnets/10.5.52.0-24" in await cluster.keys()
            again = await cluster.start("n1", boot_id="another boot")
            assert await again.acquire("198.51.100.1") == (IPv4Network("10.5.52.0/24"),)
            assert (await cluster.keys())["subnets/10.5.52.0-24"].lease == NO_LEASE

    asyncio.run(scenario())


def test_defect_4_an_address_or_mac_that_changed_before_a_new_listing_is_told(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            value = b'{"PublicIP":"192.0.2.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VtepMAC":"%s"}}'
            await cluster.put("subnets/10.5.9.0-24", value % (9, b"aa:aa:aa:aa:aa:01"))
            await cluster.put("subnets/10.5.10.0-24", value % (10, b"aa:aa:aa:aa:aa:02"))
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1")
            peers = node.manager.peers()
            assert len(await cluster.clock.run(anext(peers))) == 2
            node.store._closed = True
            cluster.world.ring()
            await cluster.clock.advance(1)
            await cluster.put("subnets/10.5.9.0-24", value % (99, b"aa:aa:aa:aa:aa:01"))
            await cluster.put("subnets/10.5.10.0-24", value % (10, b"bb:bb:bb:bb:bb:02"))
            cluster.world.compact(cluster.world.revision)
            node.store._closed = False
            told = {peer.key: peer for peer in await cluster.clock.run(anext(peers), within=10)}
            assert told["10.5.9.0-24"].endpoints == (IPv4Address("192.0.2.99"),)
            assert told["10.5.10.0-24"].data["VtepMAC"] == "bb:bb:bb:bb:bb:02"
            assert node.manager.status()["mirrors"]["subnets"]["relists"] == 1
            await peers.aclose()

    asyncio.run(scenario())


def test_defect_5_time_to_live_is_asked_for_no_key_and_no_event(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Collection[LeaseId]] = []
    remaining = MemoryStore.remaining

    async def counted(self: MemoryStore, leases: Collection[LeaseId]) -> Mapping[LeaseId, float]:
        asked.append(leases)
        return await remaining(self, leases)

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            for number in range(10, 60):
                await cluster.put(f"subnets/10.5.{number}.0-24", b'{"PublicIP":"192.0.2.9"}', DAY_S)
            node = await cluster.start("n1")
            await node.acquire("192.0.2.1", previous=(IPv4Network("10.5.200.0/24"),))
            for number in range(60, 110):
                await cluster.put(f"subnets/10.5.{number}.0-24", b'{"PublicIP":"192.0.2.9"}', DAY_S)
            await cluster.clock.advance(3600)
            assert len(await node.peers()) == 100

    monkeypatch.setattr(MemoryStore, "remaining", counted)
    asyncio.run(scenario())
    assert asked == []


def test_defect_6_an_ipv6_only_network_works(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00:5::/48")
            one, two = await cluster.start("n1"), await cluster.start("n2")
            (prefix,) = await one.acquire("2001:db8::1")
            await two.acquire("2001:db8::2")
            kv = (await cluster.keys())[f"subnets/{prefix.network_address}-64"]
            assert kv.value == b'{"PublicIP":null,"PublicIPv6":"2001:db8::1"}'
            peer = (await two.peers())["n1"]
            assert peer.prefixes == (prefix,)
            assert peer.endpoints == (IPv6Address("2001:db8::1"),)

    asyncio.run(scenario())


def udp_node() -> EngineRig:
    """The engine with plain udp, of the node that has 10.5.1.0/24."""
    local = Local(prefixes=("10.5.1.0/24",))
    return EngineRig(PythonEngine, lambda paths: PlainUdp(paths, os.urandom), local)


@pytest.mark.parametrize("ttl", [0, 1, 64])
def test_defect_7_the_ttl_is_the_kernels_and_does_not_wrap(ttl: int) -> None:
    """The kernel routes into the TUN and out of it: there it counts down, drops at 0 and sends Time Exceeded."""
    whole = bytearray(packet("10.5.1.2", "10.5.2.2"))
    whole[8] = ttl
    with udp_node() as rig, PeerSocket() as peer:
        rig.set_peer("peer", ["10.5.2.0/24"], [peer.address])
        rig.send(bytes(whole))
        assert peer.receive()[8] == ttl


@pytest.mark.parametrize(
    ("source", "drop"),
    [("127.0.0.2", "drop-unknown-peer"), ("127.0.0.1", "drop-source")],
    ids=["outer", "inner"],
)
def test_defect_7_no_source_is_believed_that_no_lease_tells_of(source: str, drop: str) -> None:
    with udp_node() as rig, PeerSocket() as peer, PeerSocket(host=source) as sender:
        rig.set_peer("peer", ["10.5.2.0/24"], [peer.address])
        sender.send(rig, packet("10.5.2.2" if drop == "drop-unknown-peer" else "10.5.3.2", "10.5.1.2"))
        assert rig.nothing_received()
        assert rig.counters()[drop] == 1


def test_defect_7_zero_bytes_are_no_packet() -> None:
    with udp_node() as rig, PeerSocket() as peer:
        rig.set_peer("peer", ["10.5.2.0/24"], [peer.address])
        for datagram in (bytes(20), bytes(1), b"", bytes(1500)):
            peer.send(rig, datagram)
        peer.send(rig, packet("10.5.2.2", "10.5.1.2"))
        assert rig.receive() == packet("10.5.2.2", "10.5.1.2")
        assert rig.counters()["drop-bad-inner"] == 4


def test_defect_7_what_is_larger_than_the_mtu_arrives_whole() -> None:
    with udp_node() as rig, PeerSocket() as peer:
        rig.set_peer("peer", ["10.5.2.0/24"], [peer.address])
        large = packet("10.5.2.2", "10.5.1.2", random.Random(7).randbytes(9000))
        peer.send(rig, large)
        assert rig.receive() == large


@pytest.mark.parametrize("order", [("wide", "narrow"), ("narrow", "wide")])
def test_defect_7_the_longest_prefix_is_taken_and_not_the_first(order: tuple[str, str]) -> None:
    with udp_node() as rig, PeerSocket() as wide, PeerSocket(host="127.0.0.3") as narrow:
        peers = {"wide": ("10.5.2.0/23", wide), "narrow": ("10.5.3.0/24", narrow)}
        for name in order:
            rig.set_peer(name, [peers[name][0]], [peers[name][1].address])
        rig.send(packet("10.5.1.2", "10.5.3.2"))
        assert narrow.receive() == packet("10.5.1.2", "10.5.3.2")


def test_defect_8_a_route_that_an_earlier_run_left_is_removed_by_the_first_pass() -> None:
    """Whatever the backend: what bears our mark and is not wanted goes."""
    wanted, stale = (
        WantedRoute(ip_network(text), "tulle0", "unicast", 0) for text in ("10.5.0.0/16", "10.5.77.0/24")
    )
    link = SeenLink("tulle0", 1, 1472, 5000, True, ALIAS)
    seen = Seen({"tulle0": link}, (), (wanted, stale), {})
    assert diff(Wanted(routes=(wanted,)), seen) == Plan((RemoveRoute(stale),), ())


@pytest.mark.parametrize("way", ["flag", "environment", "file"])
def test_defect_10_no_log_line_holds_the_etcd_password(tmp_path: Path, way: str) -> None:
    password = "correct-horse-battery-staple"
    (tmp_path / "password").write_text(password)
    words = {
        "flag": [f"--etcd-password={password}"],
        "file": [f"--etcd-password-file={tmp_path / 'password'}"],
    }
    files = [f"--{name}={tmp_path / name}" for name in ("run-dir", "state-dir", "subnet-file")]
    endpoint = "http://127.0.0.1:1"  # nobody is there
    tulled = subprocess.Popen(
        [
            *(sys.executable, "-m", "tulle.node.main", "-v", "10", "--node-name=n1"),
            *("--etcd-username=root", f"--etcd-endpoints={endpoint}", *files, *words.get(way, [])),
        ],
        env={"PATH": os.environ["PATH"]}
        | ({"TULLED_ETCD_PASSWORD": password} if way == "environment" else {}),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tulled.stderr is not None
        lines = list(takewhile(lambda line: "store-lost" not in line, tulled.stderr))
        tulled.terminate()
        rest = tulled.communicate(timeout=20)[1]
    finally:
        tulled.kill()
        tulled.wait()
    assert any(endpoint in line for line in lines)
    assert "ended" in rest
    assert password not in "".join(lines) + rest


def test_defect_11_nodes_behind_one_nat_keep_their_own_leases_through_restarts(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            had = {}
            for name in ("n1", "n2", "n3"):
                had[name] = await (await cluster.start(name)).acquire("192.0.2.1")
            assert len(set(had.values())) == 3
            for name, node in zip(("n3", "n1", "n2"), cluster.nodes[::-1], strict=False):
                await next(n for n in cluster.nodes if n.name == name).kill()
                again = await cluster.start(name)
                assert await again.acquire("192.0.2.1") == had[name], node
                cluster.nodes = [n for n in cluster.nodes if n is again or n.name != name]

    asyncio.run(scenario())


def test_defect_11_a_neighbours_new_lease_is_not_taken_while_its_record_is_still_on_its_way(
    cluster: Any,
) -> None:
    """The mirror of the leases may be ahead of that of the member records."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            one, two = await cluster.start("n1"), await cluster.start("n2")
            (first,) = await one.acquire("192.0.2.1")
            # What two sees when only the leases have arrived:
            two.manager._members.items.clear()
            (second,) = await two.acquire("192.0.2.1")
            assert first != second
            await cluster.clock.advance(1000)
            assert not one.run.done()

    asyncio.run(scenario())


def test_defect_11_a_reservation_that_a_neighbour_takes_during_our_look_is_not_taken_as_well(
    cluster: Any,
) -> None:
    """Its lease arrives between our question for the records, which it is not in yet, and the answer."""

    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            await cluster.put("subnets/10.5.52.0-24", b'{"PublicIP":"192.0.2.1","PublicIPv6":null}')
            one, two = await cluster.start("n1"), await cluster.start("n2")
            listing = two.store.list
            first: list[Any] = []

            async def slow(prefix: str, **how: Any) -> Any:
                answer = await listing(prefix, **how)
                if not first:
                    first.append(await one.manager.acquire(one.claim("192.0.2.1")))
                    await cluster.clock.sleep(1)  # for two's mirror to see it
                return answer

            two.store.list = slow
            second = await two.acquire("192.0.2.1")
            assert first == [(IPv4Network("10.5.52.0/24"),)]
            assert second != first[0]

    asyncio.run(scenario())


def test_a_lease_of_flannel_on_this_machine_is_taken_over_with_its_subnet(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            value = b'{"PublicIP":"192.0.2.1","PublicIPv6":null,"Zone":"a"}'
            theirs = await cluster.put("subnets/10.5.52.0-24", value, DAY_S)
            node = await cluster.start("n1")
            assert await node.acquire("192.0.2.1") == (IPv4Network("10.5.52.0/24"),)
            await cluster.other.revoke(theirs)  # flannel's own lease at the store ends: ours is another
            kv = (await cluster.keys())["subnets/10.5.52.0-24"]
            assert kv.lease not in (theirs, NO_LEASE)
            assert kv.value == value

    asyncio.run(scenario())


def test_a_flannel_that_renews_without_looking_takes_the_subnet_and_tulle_stops(cluster: Any) -> None:
    async def scenario() -> None:
        async with cluster:
            await cluster.configure()
            node = await cluster.start("n1")
            (prefix,) = await node.acquire("192.0.2.1")
            key = f"{NETWORK}/subnets/{prefix.network_address}-24"
            lease = await cluster.other.grant(DAY_S)
            await cluster.other.transact(
                [], [Put(key, b'{"PublicIP":"192.0.2.66","PublicIPv6":null}', lease)]
            )
            await cluster.clock.settle()
            assert node.run.done()
            with pytest.raises(SubnetLost):
                await node.run

    asyncio.run(scenario())
