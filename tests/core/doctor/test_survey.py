"""What is known of a node before the first check."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.config.daemon import DaemonConfig, daemon_config, daemon_options
from tulle.config.flags import parse_flags
from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import Put, Store
from tulle.doctor.survey import advertised, peers_in, read_records, survey, told, uplink
from tulle.kernel.underlay import LocalAddress, LocalLink, Surroundings, WayOut
from tulle.node.rundir import Record, RunDir
from tulle.plugins import load_plugins
from tulle_memory.store import MemoryStore

PREFIX = "/coreos.com/network"
LEASES = {
    "config": {"Network": "10.42.0.0/16", "Backend": {"Type": "udp", "Port": 9999}},
    "subnets/10.42.1.0-24": {"PublicIP": "192.0.2.1", "PublicIPv6": None},
    "subnets/10.42.2.0-24": {"PublicIP": "192.0.2.2", "PublicIPv6": None},
    "subnets/junk": {"PublicIP": 7},
    "members/n2": {"ID": "i", "BootID": "b", "Subnets": ["10.42.2.0-24"]},
}


async def filled() -> Store:
    store = MemoryStore()
    puts = [Put(f"{PREFIX}/{key}", json.dumps(value).encode()) for key, value in LEASES.items()]
    await store.transact([], puts)
    return store


@pytest.fixture
def config(tmp_path: Path) -> DaemonConfig:
    plugins = load_plugins()
    options = daemon_options(plugins.stores())
    argv = [f"--run-dir={tmp_path / 'run'}", f"--state-dir={tmp_path / 'state'}"]
    argv += [f"--subnet-file={tmp_path / 'subnet.env'}"]
    return daemon_config(parse_flags(options, argv, {}), plugins.stores(), hostname="n1")


def test_without_anything_the_context_is_empty_and_says_why(config: DaemonConfig) -> None:
    context = asyncio.run(survey(config, load_plugins(), None, "sqlite", "no such file"))
    assert (context.node, context.status, context.store_error) == ("n1", None, "no such file")
    assert "tulled does not answer" in context.status_error
    assert (context.networks, context.subnets, context.peers) == ((), (), ())


def test_without_a_tulled_it_is_put_together_from_store_record_and_subnet_env(
    config: DaemonConfig, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.env"
    elsewhere.write_text("FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.1.1/24\nFLANNEL_MTU=1472\n")
    record = Record(
        node="former",
        node_id="x",
        state_dir="/former",
        store="memory",
        store_prefix=PREFIX,
        subnet_file=str(elsewhere),
    )
    config.run_dir.mkdir()
    RunDir(config.run_dir).write_record(record)

    async def run() -> DoctorContext:
        return await survey(config, load_plugins(), await filled(), "memory")

    context = asyncio.run(run())
    assert (context.node, context.state_dir, context.subnet_file) == ("former", Path("/former"), elsewhere)
    assert context.networks == (ip_network("10.42.0.0/16"),)
    assert context.subnets == (ip_network("10.42.1.0/24"),)
    assert [one.node for one in context.peers] == ["n2"]
    assert (context.port, context.overhead_bytes) == (9999, {4: 28, 6: 48})


def test_a_store_that_is_away_leaves_its_part_empty(config: DaemonConfig) -> None:
    async def run() -> DoctorContext:
        store = MemoryStore()
        store.available = False
        return await survey(config, load_plugins(), store, "memory")

    context = asyncio.run(run())
    assert context.store_error
    assert context.records == {}


def test_what_tulled_tells_is_taken_and_what_it_does_not_know_yet_is_empty(context: DoctorContext) -> None:
    nothing = told(msgspec.structs.replace(context, networks=(), subnets=(), peers=()), {})
    assert (nothing.networks, nothing.link, nothing.device, nothing.port) == ((), "", "", 0)
    status = {
        "networks": ["10.42.0.0/16", "fd42::/48"],
        "subnets": ["10.42.1.0/24"],
        "underlay": {"link": "eth7"},
        "backend": {"type": "udp", "device": "tulle0", "port": 8285},
        "peers": [
            {"key": "k", "node": "n2", "subnets": ["10.42.2.0/24"], "endpoints": ["192.0.2.2"], "backend": ""}
        ],
    }
    found = told(context, status)
    assert found.families == (4, 6)
    assert (found.link, found.device, found.port) == ("eth7", "tulle0", 8285)
    assert found.ports == (8285,)
    assert found.peers[0].endpoints == (ip_address("192.0.2.2"),)


def test_a_backend_with_several_ports_has_them_all(context: DoctorContext) -> None:
    backend = {"device": "tulle-wg", "devices": ["tulle-wg", "tulle-wg-v6"], "ports": [51820, 51821]}
    found = told(context, {"backend": backend})
    assert (found.port, found.ports, found.devices) == (51820, (51820, 51821), ("tulle-wg", "tulle-wg-v6"))


def test_peers_are_made_of_records_as_a_tulled_makes_them() -> None:
    async def run() -> Any:
        return await read_records(await filled(), PREFIX)

    records = asyncio.run(run())
    networks, own = (ip_network("10.42.0.0/16"),), (ip_network("10.42.1.0/24"),)
    assert [(one.node, one.key) for one in peers_in(records, PREFIX, own, networks)] == [
        ("n2", "10.42.2.0-24")
    ]
    assert {one.key for one in peers_in(records, PREFIX, (), networks)} == {"10.42.1.0-24", "10.42.2.0-24"}
    assert advertised(records, PREFIX, own) == [ip_address("192.0.2.1")]
    assert advertised(records, PREFIX, ()) == []


def test_the_uplink_has_the_address_that_others_are_told_else_the_default_route() -> None:
    def link(name: str, index: int, *addresses: str) -> LocalLink:
        return LocalLink(name, index, 1500, True, tuple(LocalAddress(ip_interface(one)) for one in addresses))

    links = (link("lo", 1), link("eth0", 2, "198.51.100.1/24"), link("eth1", 3, "192.0.2.1/24"))
    seen = Surroundings(links, {4: WayOut(2)})
    assert uplink(seen, [ip_address("192.0.2.1")]) == "eth1"
    assert uplink(seen, []) == "eth0"
    assert uplink(Surroundings(links), []) == ""
