"""tulled's settings: defaults, every flag, everything wrong at once."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from tulle.config.daemon import CORE_OPTIONS, DaemonConfig, daemon_config, daemon_options
from tulle.config.errors import ConfigError
from tulle.config.flags import parse_flags
from tulle.config.inactive import INACTIVE_OPTIONS
from tulle.contracts.specs import OptionSpec, StoreSpec, SubnetManagerSpec

FAR = StoreSpec(
    name="far",
    factory="a:b",
    aliases=("distant",),
    chosen_by=("far-endpoints",),
    options=(
        OptionSpec(name="far-endpoints", kind="list", flannel=True),
        OptionSpec(name="far-password", secret=True),
    ),
)
NEAR = StoreSpec(
    name="near",
    factory="a:b",
    embedded=True,
    options=(OptionSpec(name="near-file", default="{state-dir}/store"),),
)
STORES = (FAR, NEAR)
PLUGINS = (OptionSpec(name="ip-masq", kind="bool"), OptionSpec(name="socket", default="{run-dir}/x.sock"))


def settings(
    *argv: str,
    stores: tuple[StoreSpec, ...] = STORES,
    hostname: str = "host-1",
    engines: set[str] | None = None,
) -> DaemonConfig:
    parsed = parse_flags(daemon_options(stores, PLUGINS), argv, {})
    return daemon_config(parsed, stores, hostname=hostname, engines=engines)


def test_without_flags_all_is_as_documented() -> None:
    assert settings() == DaemonConfig(
        node_name="host-1",
        prefix="/coreos.com/network",
        store="near",
        store_settings={"near-file": "/var/lib/tulle/store"},
        store_default=True,
        interfaces=(),
        interface_patterns=(),
        can_reach=(),
        public={},
        subnet_file=Path("/run/flannel/subnet.env"),
        state_dir=Path("/var/lib/tulle"),
        run_dir=Path("/run/tulle"),
        engine="auto",
        verbosity=0,
        renew_margin_s=3600.0,
        healthz_ip=ip_address("0.0.0.0"),
        healthz_port=0,
        log_format="text",
        inactive={},
        options={"ip-masq": False, "socket": "/run/tulle/x.sock"},
        secrets=frozenset({"far-password"}),
    )


def test_every_flag_arrives() -> None:
    config = settings(
        "-iface=eth0,192.0.2.1",
        "-iface=fd00::1",
        "--public-ip=192.0.2.7",
        "--public-ipv6=2001:db8::7",
        "--subnet-file=/s",
        "--subnet-lease-renew-margin=30",
        "-v=9",
        "--node-name=n-1.example",
        "--state-dir=/state/",
        "--run-dir=/r",
        "--engine=native",
        "--ip-masq",
        "--iface-regex=^eth{1,2}$",
        "--iface-regex=10",
        "--iface-can-reach=192.0.2.9,2001:db8::9",
        "--healthz-ip=::1",
        "--healthz-port=10254",
        "--log-format=json",
        "--vmodule=main=2",
    )
    assert config.interface_patterns == ("^eth{1,2}$", "10")
    assert config.can_reach == (ip_address("192.0.2.9"), ip_address("2001:db8::9"))
    assert (config.healthz_ip, config.healthz_port, config.log_format) == (ip_address("::1"), 10254, "json")
    assert list(config.inactive) == ["vmodule"]
    assert config.interfaces == ("eth0", "192.0.2.1", "fd00::1")
    assert config.public == {4: ip_address("192.0.2.7"), 6: ip_address("2001:db8::7")}
    assert (config.subnet_file, config.state_dir, config.run_dir) == (Path("/s"), Path("/state"), Path("/r"))
    assert (config.renew_margin_s, config.verbosity, config.node_name) == (1800.0, 9, "n-1.example")
    assert (config.engine, config.options["ip-masq"]) == ("native", True)
    assert config.store_settings == {"near-file": "/state/store"}
    assert config.options["socket"] == "/r/x.sock"


def test_braces_are_filled_in_only_in_defaults() -> None:
    assert settings("--near-file={state-dir}/mine").store_settings == {"near-file": "{state-dir}/mine"}


@pytest.mark.parametrize(
    ("argv", "store", "by_default"),
    [
        ([], "near", True),
        (["--far-endpoints=x"], "far", False),
        (["--far-password=x"], "near", True),
        (["--store=far"], "far", False),
        (["--store=distant"], "far", False),
        (["--store=near", "--far-endpoints=x"], "near", False),
        (["--store="], "near", True),
    ],
)
def test_the_store_is_the_named_one_or_the_one_whose_flags_are_given_or_the_embedded(
    argv: list[str], store: str, by_default: bool
) -> None:
    config = settings(*argv)
    assert (config.store, config.store_default) == (store, by_default)


def test_a_store_gets_its_own_options_alone() -> None:
    config = settings("--far-endpoints=a,b", "--far-password=p")
    assert config.store_settings == {"far-endpoints": ("a", "b"), "far-password": "p"}
    assert "near-file" not in config.options


@pytest.mark.parametrize("prefix", ["/a/b", "a/b", "/a/b/", "//a//b//"])
def test_the_prefix_gets_one_slash_before_it_and_none_behind(prefix: str) -> None:
    assert settings(f"--etcd-prefix={prefix}").prefix == "/a/b"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--public-ip=10.5"],
            '--public-ip: "10.5" is not an IPv4 address; give the IPv4 address of this node',
        ),
        (["--public-ip=fd00::1"], '--public-ip: "fd00::1" is not an IPv4 address'),
        (["--public-ip=0.0.0.0"], '--public-ip: "0.0.0.0" is not the address of one node'),
        (["--public-ip=255.255.255.255"], "is not the address of one node"),
        (["--public-ipv6=10.5.0.1"], '--public-ipv6: "10.5.0.1" is not an IPv6 address'),
        (["--public-ipv6=fe80::1%eth0"], "is not an IPv6 address"),
        (["--public-ipv6=ff02::1"], "is not the address of one node"),
        (["--node-name=a/b"], '--node-name: "a/b" cannot be a node\'s name; give letters, digits'),
        (["--node-name="], '--node-name: "" cannot be a node\'s name'),
        (["--node-name=-a"], "cannot be a node's name"),
        (["--node-name=a..b"], "cannot be a node's name"),
        (["--node-name=a\n"], "cannot be a node's name"),
        ([f"--node-name={'a' * 64}"], "cannot be a node's name"),
        ([f"--node-name={'a.' * 127}a"], "cannot be a node's name"),
        (
            ["--etcd-prefix=/"],
            '--etcd-prefix: "/" is not a prefix of keys; give one such as /coreos.com/network',
        ),
        (["--etcd-prefix="], '--etcd-prefix: "" is not a prefix of keys'),
        (["--etcd-prefix=/a/../b"], "is not a prefix of keys"),
        (
            ["--store=fra"],
            '--store: "fra" is not a store that is installed (there are: far, near); give far, if',
        ),
        (["--store=zzz"], "give one of: far, near"),
        (["--iface=a/b"], '--iface: "a/b" is not the name or address of an interface'),
        (["--iface=longer-than-15-characters"], "is not the name or address of an interface"),
        (["--iface-regex=eth[0"], '--iface-regex: "eth[0" is not a regular expression (unterminated'),
        (["--iface-regex=a{9999999999999}"], "--iface-regex: "),
        (["--iface-can-reach=example.org"], '"example.org" is not an address to reach; give the address of'),
        (["--iface-can-reach=::"], "is not an address to reach"),
        (["--healthz-ip=localhost"], '--healthz-ip: "localhost" is not an address to listen at'),
        (["--healthz-port=65536"], "--healthz-port: 65536 is not a port; give 1 to 65535, or 0"),
        (["--healthz-port=-1"], "--healthz-port: -1 is not a port"),
        (["--log-format=xml"], '--log-format: "xml" is not a form of log lines; give text or json'),
        (
            ["--kube-subnet-mgr"],
            "--kube-subnet-mgr: true asks for subnets from Kubernetes, and this tulle has no",
        ),
        (["--engine=Turbo!"], '--engine: "Turbo!" is not an engine'),
        (["--state-dir="], '--state-dir: "" is not a path; give a path such as /var/lib/tulle'),
        (["--run-dir=a\0b"], "--run-dir: "),
        (["-v=-1"], "--v: -1 is below zero"),
        (
            ["--subnet-lease-renew-margin=0"],
            "--subnet-lease-renew-margin: 0 minutes is more or less than a lease",
        ),
        (["--subnet-lease-renew-margin=1440"], "give 1 to 1439 minutes"),
        (["--subnet-lease-renew-margin=24h"], "1440 minutes is more or less"),
    ],
)
def test_a_broken_value_gives_one_clear_message(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(*argv)
    (only,) = (str(problem) for problem in caught.value.problems)
    assert message in only
    assert "; give " in only


def test_a_host_name_that_cannot_be_a_nodes_name_is_called_so() -> None:
    with pytest.raises(ConfigError, match='--node-name: "my_host" is the host name and cannot'):
        settings(hostname="my_host")


def test_a_value_from_the_environment_is_named_by_its_variable() -> None:
    parsed = parse_flags(daemon_options(STORES), [], {"FLANNELD_PUBLIC_IP": "x"})
    with pytest.raises(ConfigError, match='FLANNELD_PUBLIC_IP: "x" is not an IPv4 address'):
        daemon_config(parsed, STORES, hostname="h")


def test_a_value_from_the_file_is_named_by_file_and_key() -> None:
    parsed = parse_flags(daemon_options(STORES), [], {}, {"public-ip": "x"}, file_name="/etc/t.toml")
    with pytest.raises(ConfigError, match=r'/etc/t\.toml: public-ip: "x" is not an IPv4 address'):
        daemon_config(parsed, STORES, hostname="h")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        settings("--store=zzz", "--node-name=a/b", "--public-ip=x", "-v=-1", "--iface=a b,c d")
    assert sorted(problem.key for problem in caught.value.problems) == [
        "--iface",
        "--iface",
        "--node-name",
        "--public-ip",
        "--store",
        "--v",
    ]


def test_an_engine_must_be_installed_where_that_is_known() -> None:
    assert settings("--engine=python", engines={"python"}).engine == "python"
    assert settings(engines={"python"}).engine == "auto"
    with pytest.raises(ConfigError, match="give one of: auto, python"):
        settings("--engine=native", engines={"python"})


def test_without_an_embedded_store_one_must_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"--store: is missing.*far"):
        settings(stores=(FAR,))
    assert settings("--far-endpoints=x", stores=(FAR,)).store == "far"


def test_two_plugins_may_share_a_flag_only_when_they_agree() -> None:
    again = OptionSpec(name="far-endpoints", kind="list", flannel=True)
    assert len(daemon_options(STORES, [again])) == len(CORE_OPTIONS) + 3 + len(INACTIVE_OPTIONS)
    with pytest.raises(ValueError, match="--far-endpoints"):
        daemon_options(STORES, [OptionSpec(name="far-endpoints")])


def test_a_plugin_that_brings_the_kubernetes_manager_may_be_asked_for_it() -> None:
    manager = OptionSpec(name="kube-subnet-mgr", kind="bool", flannel=True)
    parsed = parse_flags(daemon_options(STORES, [manager]), ["--kube-subnet-mgr"], {})
    config = daemon_config(parsed, STORES, hostname="h")
    assert (config.options["kube-subnet-mgr"], config.inactive) == (True, {})


MANAGER = SubnetManagerSpec(
    name="cluster",
    factory="a:b",
    aliases=("kube",),
    chosen_by=("kube-subnet-mgr",),
    options=(OptionSpec(name="kube-subnet-mgr", kind="bool", flannel=True), OptionSpec(name="kube-api-url")),
)


@pytest.mark.parametrize(
    ("argv", "store"),
    [
        (["--store=cluster"], "cluster"),
        (["--store=kube"], "cluster"),
        (["--kube-subnet-mgr"], "cluster"),
        (["--kube-subnet-mgr=false"], "near"),
        (["--kube-subnet-mgr", "--far-endpoints=x"], "far"),
        (["--kube-subnet-mgr", "--store=near"], "near"),
        (["--kube-api-url=x"], "near"),
    ],
)
def test_a_subnet_manager_is_chosen_as_a_store_is_after_the_stores(argv: list[str], store: str) -> None:
    choices = (*STORES, MANAGER)
    parsed = parse_flags(daemon_options(choices), argv, {})
    config = daemon_config(parsed, choices, hostname="h")
    assert config.store == store
    if store == "cluster":
        assert config.store_settings == {
            "kube-subnet-mgr": "--kube-subnet-mgr" in argv,
            "kube-api-url": None,
        }
    assert not config.options.keys() & {"kube-subnet-mgr", "kube-api-url"}


def test_no_dump_shows_a_secret() -> None:
    config = settings(
        "--store=far", "--far-password=hunter2", "--public-ip=192.0.2.7", "--iface-can-reach=::1"
    )
    assert config.store_settings["far-password"] == "hunter2"
    for dump in (repr(config), str(config), repr(list(config.__rich_repr__())), json.dumps(config.shown())):
        assert "hunter2" not in dump
        assert "(hidden)" in dump
    assert config.shown()["public"] == {"4": "192.0.2.7"}
