"""The network config as a whole: everything that is wrong is said at once, whoever it concerns."""

from __future__ import annotations

import json
import types
from typing import Any

import msgspec
import pytest

from tulle.config.errors import ConfigError
from tulle.contracts.specs import BackendSpec, ConfigSection
from tulle.hookspecs import hookimpl
from tulle.node.network import check_network
from tulle.plugins import PluginInfo, Plugins
from tulle_udp import tulle_backends as udp_backends
from tulle_udp.options import UdpOptions


class DnsSettings(msgspec.Struct, rename="pascal"):
    """A section for the tests."""

    zone: str = "cluster.local"
    port: int = 53

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"Port: {self.port} is no port; give 1 to 65535")


def module(**hooks: Any) -> types.ModuleType:
    made = types.ModuleType("plugin_of_a_test")
    for name, hook in hooks.items():
        setattr(made, name, hookimpl(hook))
    return made


@pytest.fixture
def plugins() -> Plugins:
    made = Plugins()
    made.add(PluginInfo(name="udp", version="1"), module(tulle_backends=lambda: udp_backends()))
    bare = BackendSpec(name="bare", factory="nowhere:Bare", aliases=("naked",))
    made.add(PluginInfo(name="bare", version="1"), module(tulle_backends=lambda: [bare]))
    dns = ConfigSection(name="dns", type=DnsSettings)
    made.add(PluginInfo(name="dns", version="1"), module(tulle_config_sections=lambda: [dns]))
    return made


def config(**fields: Any) -> str:
    return json.dumps({"Network": "10.5.0.0/16"} | fields)


def problems_of(plugins: Plugins, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        check_network(text, plugins)
    assert str(raised.value).count("\n") == len(raised.value.problems)
    return [str(problem) for problem in raised.value.problems]


def test_a_right_config_gives_the_backend_and_its_typed_options(plugins: Plugins) -> None:
    found = check_network(
        config(Backend={"Type": "UDP", "port": 8286}, Tulle={"dns": {"Zone": "x"}}), plugins
    )
    assert found.backend.name == "udp"
    assert found.options == UdpOptions(port=8286)
    assert found.sections == {"dns": DnsSettings(zone="x")}
    assert found.warnings == ()


def test_without_a_backend_it_is_udp_with_its_defaults(plugins: Plugins) -> None:
    found = check_network(config(), plugins)
    assert (found.backend.name, found.options) == ("udp", UdpOptions())


def test_an_alias_names_a_backend_too(plugins: Plugins) -> None:
    found = check_network(config(Backend={"Type": "naked", "Extra": 1}), plugins)
    assert found.backend.name == "bare"
    assert found.options is None
    assert found.warnings == ("Backend.Extra: unknown here, and kept",)


def test_what_nobody_knows_is_kept_and_warned_about(plugins: Plugins) -> None:
    text = config(
        Backend={"Type": "udp", "Colour": "red"}, Tulle={"dns": {"Size": 1}, "other": {}}, Strange=True
    )
    warnings = "\n".join(check_network(text, plugins).warnings)
    for key in ("Backend.Colour", "Tulle.dns.Size", "Tulle.other", "Strange"):
        assert key in warnings


def test_everything_that_is_wrong_is_said_at_once(plugins: Plugins) -> None:
    text = json.dumps(
        {
            "Network": "10.5.0.0/30",
            "SubnetLen": "24",
            "EnableIPv6": 1,
            "Backend": {"Type": "udp", "Port": "8285", "MTU": True},
            "Tulle": {"dns": {"Port": 0}},
        }
    )
    found = problems_of(plugins, text)
    for word in ("Network", "SubnetLen", "EnableIPv6", "Backend.Port", "Backend.MTU", "Port: 0 is no port"):
        assert sum(word in one for one in found) >= 1, word
    assert len(found) == 6


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ({"Type": "udp", "Port": 0}, "Backend.Port: 0 does not fit; give a whole number from 1 up to 65535"),
        ({"Type": "udp", "Port": 65536}, "Port: 65536"),
        ({"Type": "udp", "Port": "8285"}, "Backend.Port"),
        ({"Type": "udp", "Port": 1.5}, "Backend.Port"),
        ({"Type": "udp", "SourceCheck": "none"}, 'give "peer" or "strict"'),
        ({"Type": "udp", "MTU": 575}, "MTU: 575"),
        ({"Type": "udp", "MTU": -1}, "MTU: -1"),
        ({"Type": "udp", "Port": 1, "PORT": 2}, "twice"),
        ({"Type": "carrier-pigeon"}, "one of bare, udp"),
        ({"Type": 7}, "Backend.Type"),
        ("udp", "Backend"),
    ],
)
def test_a_wrong_backend_is_a_config_error(plugins: Plugins, backend: Any, words: str) -> None:
    (found,) = problems_of(plugins, config(Backend=backend))
    assert words in found


def test_a_broken_plugin_is_named_where_its_backend_is_asked_for(plugins: Plugins) -> None:
    plugins.add_broken(PluginInfo(name="vxlan", version="1"), ImportError("no module named netaddr"))
    (found,) = problems_of(plugins, config(Backend={"Type": "vxlan"}))
    assert "broken plugins: vxlan (ImportError: no module named netaddr)" in found


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"null", b"{", b'"udp"', b"[" * 100_000])
def test_what_is_no_object_is_one_clear_problem(plugins: Plugins, text: bytes) -> None:
    assert len(problems_of(plugins, text)) == 1
