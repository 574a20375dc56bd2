"""What lies in etcd while a cluster runs: flannel's keys and values, seen by etcdctl and by etcd3."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.plan import bracketed

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.xdist_group("lab-store-contents")]

PREFIX = "/coreos.com/network"
WITNESS = Path(__file__).parents[2] / ".cache" / "etcd3-witness"
READER = Path(__file__).with_name("etcd3_reader.py")

DAY_S = 24 * 3600
ALIVE_S = 30


@pytest.fixture(scope="module", params=["4", "6", "dual"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab], etcd_here: Path) -> Lab:
    return make_lab(nodes=2, pods=0, store="etcd", family=request.param)


def etcdctl(lab: Lab, binaries: Path, *words: str) -> str:
    environment = ["env", "-i", f"PATH={os.defpath}", "ETCDCTL_API=3"]
    command = [*environment, str(binaries / "etcdctl"), "--endpoints", lab.plan.etcd_endpoint(), *words]
    return lab.run("switch", command).stdout


@pytest.fixture
def contents(lab: Lab, etcd_here: Path) -> dict[str, str]:
    """`etcdctl get --prefix /coreos.com/network`: values by key, without the prefix."""
    lines = etcdctl(lab, etcd_here, "get", "--prefix", PREFIX).splitlines()
    assert all(key.startswith(f"{PREFIX}/") for key in lines[::2])
    return {key.removeprefix(f"{PREFIX}/"): value for key, value in zip(lines[::2], lines[1::2], strict=True)}


def subnet_key(subnets: Sequence[str]) -> str:
    """As flannel writes it: 10.5.52.0-24, dual stack 10.12.13.0-24&fd00:12:13::-56."""
    return "&".join(subnet.replace("/", "-") for subnet in subnets)


def public(lab: Lab, node: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {"PublicIP": None, "PublicIPv6": None}
    for family, name in ((4, "PublicIP"), (6, "PublicIPv6")):
        if family in lab.plan.families:
            found[name] = lab.address(node, family)
    return found


def test_each_node_has_one_lease_under_flannels_key_with_flannels_value(
    lab: Lab, contents: dict[str, str]
) -> None:
    leases = {key: value for key, value in contents.items() if key.startswith("subnets/")}
    expected = {}
    for node in lab.plan.node_names:
        # Byte for byte what Go's encoder makes of an udp lease: no blanks, no BackendType.
        value = json.dumps(public(lab, node), separators=(",", ":"))
        expected[f"subnets/{subnet_key(lab.status(node)['subnets'])}"] = value
    assert leases == expected


def test_there_is_nothing_but_the_config_the_leases_and_tulles_records_of_nodes(
    lab: Lab, contents: dict[str, str]
) -> None:
    others = {key for key in contents if not key.startswith("subnets/")}
    assert others == {"config", "members/n1", "members/n2", "alive/n1", "alive/n2"}
    assert json.loads(contents["config"]) == lab.plan.network_config()


def test_a_member_record_names_the_nodes_subnet_and_addresses(lab: Lab, contents: dict[str, str]) -> None:
    for node in lab.plan.node_names:
        member, alive = json.loads(contents[f"members/{node}"]), json.loads(contents[f"alive/{node}"])
        assert member["ID"] == alive["ID"] == lab.read_file(node, "/var/lib/tulle/id").strip()
        assert (
            member["BootID"]
            == alive["BootID"]
            == lab.read_file(node, "/proc/sys/kernel/random/boot_id").strip()
        )
        assert member["Subnets"] == [subnet_key(lab.status(node)["subnets"])]
        assert member["Endpoints"] == [address for address in public(lab, node).values() if address]


def test_a_subnet_is_leased_for_a_day_and_a_sign_of_life_for_half_a_minute(lab: Lab, etcd_here: Path) -> None:
    found = json.loads(etcdctl(lab, etcd_here, "get", "--prefix", PREFIX, "--write-out=json"))
    for item in found["kvs"]:
        key = base64.b64decode(item["key"]).decode().removeprefix(f"{PREFIX}/")
        if key == "config":
            assert "lease" not in item
            continue
        lease = f"{item['lease']:x}"
        told = json.loads(etcdctl(lab, etcd_here, "lease", "timetolive", lease, "--write-out=json"))
        assert told["granted-ttl"] == (ALIVE_S if key.startswith("alive/") else DAY_S), key
        assert told["ttl"] > told["granted-ttl"] // 2, key


def test_etcd3_reads_the_same_keys_values_and_times(lab: Lab, contents: dict[str, str]) -> None:
    if not (WITNESS / "etcd3").is_dir():
        pytest.fail("this test needs etcd3 as a witness: run packaging/etcd/witness.sh in the checkout")
    # An old protobuf, read in pure Python; -S keeps ours out of its sight.
    environment = [f"PYTHONPATH={WITNESS}", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python"]
    host = bracketed(lab.address("switch"))  # etcd3 puts the port behind it as it is
    command = ["env", *environment, sys.executable, "-S", str(READER), host, "2379", PREFIX]
    done: subprocess.CompletedProcess[str] = lab.run("switch", command)
    seen: list[Any] = json.loads(done.stdout)
    assert {key.removeprefix(f"{PREFIX}/"): value for key, value, _ in seen} == contents
    granted = {key.removeprefix(f"{PREFIX}/").partition("/")[0]: ttl for key, _, ttl in seen}
    assert granted == {"config": None, "subnets": DAY_S, "members": DAY_S, "alive": ALIVE_S}
