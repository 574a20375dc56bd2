"""tulled's settings with the plugins that ship with it, and flanneld's command line and environment."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tulle.config.daemon import DaemonConfig
from tulle.config.errors import ConfigError
from tulle.contracts.specs import OptionSpec
from tulle.hookspecs import hookimpl
from tulle.node.settings import Settings, gather
from tulle.plugins import PluginError, PluginInfo, Plugins, load_plugins

NOWHERE = "/nonexistent/tulled.toml"

FLANNELD: dict[str, tuple[str, Any]] = {
    "etcd-endpoints": ("https://192.0.2.1:2379,https://192.0.2.2:2379", None),
    "etcd-prefix": ("/coreos.com/other", "/coreos.com/other"),
    "etcd-keyfile": ("/etc/etcd/k.pem", None),
    "etcd-certfile": ("/etc/etcd/c.pem", None),
    "etcd-cafile": ("/etc/etcd/ca.pem", None),
    "etcd-username": ("root", None),
    "etcd-password": ("hunter2", None),
    "iface": ("eth1", ("eth1",)),
    "iface-regex": ("^eth{1,2}", ("^eth{1,2}",)),
    "iface-can-reach": ("192.0.2.1", (ip_address("192.0.2.1"),)),
    "subnet-file": ("/run/f/subnet.env", Path("/run/f/subnet.env")),
    "public-ip": ("192.0.2.7", None),
    "public-ipv6": ("2001:db8::7", None),
    "subnet-lease-renew-margin": ("30", 1800.0),
    "healthz-ip": ("127.0.0.1", ip_address("127.0.0.1")),
    "healthz-port": ("10254", 10254),
    "v": ("10", 10),
    "ip-masq": ("true", None),
    "ip-masq-fully-random-disable": ("true", None),
    "iptables-resync": ("60", None),
    "iptables-forward-rules": ("false", None),
    "ip-blackhole-route": ("true", None),
    "kube-subnet-mgr": ("false", None),
    "kube-api-url": ("https://192.0.2.1:6443", None),
    "kubeconfig-file": ("/etc/kubeconfig", None),
    "kube-annotation-prefix": ("flannel.example.com", None),
    "net-config-path": ("/etc/net-conf.json", None),
    "set-node-network-unavailable": ("false", None),
    "vmodule": ("main=4", None),
    "log_backtrace_at": ("main.go:10", None),
}
"""Every flag of flanneld but --version and --help, a value, and what it comes to where one field has it alone."""

FIELDS = {
    "etcd-prefix": "prefix",
    "iface": "interfaces",
    "iface-regex": "interface_patterns",
    "iface-can-reach": "can_reach",
    "subnet-file": "subnet_file",
    "subnet-lease-renew-margin": "renew_margin_s",
    "healthz-ip": "healthz_ip",
    "healthz-port": "healthz_port",
    "v": "verbosity",
}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def settled(plugins: Plugins, *argv: str, environ: dict[str, str] | None = None) -> Settings:
    return gather(plugins, argv, environ or {}, NOWHERE)


def config_of(settings: Settings) -> DaemonConfig:
    assert settings.config is not None
    return settings.config


def variable(name: str) -> str:
    return "FLANNELD_" + name.upper().replace("-", "_")


@pytest.mark.parametrize("name", FLANNELD)
@pytest.mark.parametrize("way", ["-n=v", "--n v", "environment"])
def test_each_flag_of_flanneld_is_taken_from_line_and_environment(
    plugins: Plugins, name: str, way: str
) -> None:
    text, wanted = FLANNELD[name]
    switch = text in ("true", "false")  # Go takes a switch's value behind "=" alone
    words = [f"-{name}={text}"] if way == "-n=v" or switch else [f"--{name}", text]
    environ = {variable(name): text} if way == "environment" else {}
    settings = settled(plugins, *([] if environ else words), environ=environ)
    assert settings.parsed.sources[name] == (f"environment {variable(name)}" if environ else "flag")
    if wanted is not None:
        assert getattr(config_of(settings), FIELDS[name]) == wanted


def test_a_whole_command_line_of_flanneld_is_understood(plugins: Plugins) -> None:
    config = config_of(settled(plugins, *(f"-{name}={text}" for name, (text, _) in FLANNELD.items())))
    assert (config.store, config.store_default) == ("etcd", False)
    assert config.store_settings["etcd-endpoints"] == ("https://192.0.2.1:2379", "https://192.0.2.2:2379")
    assert config.public == {4: ip_address("192.0.2.7"), 6: ip_address("2001:db8::7")}
    inactive = {name for name in FLANNELD if name.startswith(("kube", "net-", "set-"))}
    assert set(config.inactive) == inactive | {"vmodule", "log_backtrace_at"}
    assert (config.options["ip-masq"], config.options["iptables-forward-rules"]) == (True, False)
    assert "hunter2" not in repr(config)


def test_a_whole_environment_of_flanneld_is_understood(plugins: Plugins) -> None:
    environ = {variable(name): text for name, (text, _) in FLANNELD.items()}
    config = config_of(settled(plugins, environ=environ))
    assert (config.store, config.interfaces, config.healthz_port) == ("etcd", ("eth1",), 10254)


def test_without_anything_the_embedded_store_lies_in_the_state_directory(plugins: Plugins) -> None:
    config = config_of(settled(plugins, "--state-dir=/s"))
    assert (config.store, config.store_settings) == ("sqlite", {"sqlite-file": "/s/store.sqlite"})
    assert config.node_name == os.uname().nodename


def test_the_kubernetes_manager_is_refused(plugins: Plugins) -> None:
    with pytest.raises(ConfigError, match="FLANNELD_KUBE_SUBNET_MGR: true asks for subnets from Kubernetes"):
        settled(plugins, environ={"FLANNELD_KUBE_SUBNET_MGR": "true"})


def test_the_file_comes_after_flags_and_environment(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "tulled.toml"
    file.write_text(
        'iface = ["a"]\nnode_name = "file"\nhealthz-port = 1\n[etcd]\netcd-endpoints = ["http://a:1"]\n'
    )
    environ = {"TULLED_NODE_NAME": "env", "FLANNELD_HEALTHZ_PORT": "2"}
    settings = settled(plugins, f"--config-file={file}", "--healthz-port=3", environ=environ)
    config = config_of(settings)
    assert (config.interfaces, config.node_name, config.healthz_port, config.store) == (
        ("a",),
        "env",
        3,
        "etcd",
    )
    assert settings.file == str(file)
    assert settings.parsed.sources["iface"] == f"file {file}"


def test_the_file_can_be_named_by_the_environment(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("v = 4\n")
    settings = settled(plugins, environ={"TULLED_CONFIG_FILE": str(file)})
    assert config_of(settings).verbosity == 4


def test_the_default_file_is_read_where_it_is_and_may_be_left_out(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    assert config_of(gather(plugins, [], {}, str(file))).verbosity == 0
    file.write_text("v = 4\n")
    assert config_of(gather(plugins, [], {}, str(file))).verbosity == 4
    settings = gather(plugins, ["--config-file="], {}, str(file))
    assert (config_of(settings).verbosity, settings.file) == (0, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is not there; give the path of a file in TOML"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path: path.write_text("v = \n"), "is not TOML: Invalid value (at line 1, column 5)"),
        (lambda path: path.write_text("vv = 1\n"), "t.toml: vv: is not a setting; give v, if you meant that"),
        (lambda path: path.write_text("ifaces = 1\n"), "t.toml: ifaces: is not a setting; give iface"),
        (lambda path: path.write_text('v = "x"\n'), 't.toml: v: "x" is not a whole number'),
        (lambda path: path.write_text('public-ip = "x"\n'), 't.toml: public-ip: "x" is not an IPv4 address'),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_all_other_problems(
    plugins: Plugins, tmp_path: Path, make: Any, message: str
) -> None:
    file = tmp_path / "t.toml"
    make(file)
    with pytest.raises(ConfigError) as caught:
        settled(plugins, f"--config-file={file}")
    (only,) = caught.value.problems
    assert message in str(only)


def test_problems_of_file_and_flags_are_told_together(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    with pytest.raises(ConfigError) as caught:
        settled(plugins, f"--config-file={file}", "--nope", "--v=x")
    assert [problem.key for problem in caught.value.problems] == ["--config-file", "--nope", "--v"]
    with pytest.raises(ConfigError) as caught:
        settled(plugins, f"--config-file={file}", "--public-ip=x")
    assert [problem.key for problem in caught.value.problems] == ["--config-file", "--public-ip"]


def test_help_is_given_whatever_the_file_holds(plugins: Plugins, tmp_path: Path) -> None:
    settings = settled(plugins, f"--config-file={tmp_path}", "--help")
    assert (settings.parsed.asked, settings.config) == ("help", None)


def test_a_plugin_whose_flag_cannot_be_one_is_blamed() -> None:
    class Wrong:
        @hookimpl
        def tulle_options(self) -> list[OptionSpec]:
            return [OptionSpec(name="many", kind="int", default="lots")]

    plugins = Plugins()
    plugins.add(PluginInfo(name="wrong", version="1"), Wrong())
    with pytest.raises(PluginError, match=r"the default of --many: .* fault of the plugin"):
        settled(plugins)


def test_a_secret_from_the_file_is_hidden(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('etcd-endpoints = "http://a:1"\netcd-password = "hunter2"\n')
    settings = settled(plugins, f"--config-file={file}")
    assert "hunter2" not in repr(settings)
    file.write_text("etcd-password = 4711\n")
    with pytest.raises(ConfigError) as caught:
        settled(plugins, f"--config-file={file}")
    assert "4711" not in str(caught.value)
