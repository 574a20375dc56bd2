"""The network config, which anybody who may write to the store writes for all nodes."""

from __future__ import annotations

import json

import msgspec

from tulle.config.errors import ConfigError
from tulle.config.network import NetworkConfig, parse_network_config, render_network_config
from tulle.node.network import check_network
from tulle.plugins import Plugins, load_plugins

MESSAGE_CHARACTERS = 1000
"""Of one problem or warning."""
SEEDS = [
    b'{"Network": "10.5.0.0/16", "SubnetLen": 24, "SubnetMin": "10.5.1.0", "SubnetMax": "10.5.9.0",'
    b' "Backend": {"Type": "udp", "Port": 8285}, "Tulle": {"dns": {}}}',
    b'{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 64}',
    b'{"EnableIPv6": true, "Network": "10.5.0.1/16", "IPv6Network": "fd00:5::/48", "IPv6SubnetMin": "fd00:5:0:9::"}',
    b'{"network": "10.0.0.0/8", "NETWORK": null, "Backend": {"type": "VXLAN", "VNI": 1, "x": [1.5e3, {}]}}',
    b'{"Network": "10.5.0.0/16", "Backend": {"Type": "nobody"}, "Else": "\\ud800", "Tulle": {"a": 1}}',
    b'{"Network": "0.0.0.0/0", "SubnetLen": 99999999999999999999999, "EnableIPv4": 1}',
    b"[" * 40,
]
_plugins: list[Plugins] = []


def target(data: bytes) -> None:
    config = _parsed(data)
    try:
        network = check_network(data, _all_plugins())
    except ConfigError as error:
        _check_error(error)
    else:
        assert network.config == config
        _check_lines(network.warnings)


def _parsed(data: bytes) -> NetworkConfig | None:
    try:
        config = parse_network_config(data)
    except ConfigError as error:
        _check_error(error)
        return None
    assert config.families
    _check_lines(config.warnings)
    for family in config.families:
        subnets = family.subnets()
        assert subnets.count >= 1
        assert subnets.fits(subnets.nth(0))
        assert subnets.fits(subnets.nth(subnets.count - 1))
        assert len(subnets.first_free([subnets.nth(0)], 2)) == min(2, subnets.count - 1)
    again = parse_network_config(render_network_config(config))
    assert _without_warnings(again) == _without_warnings(config)
    return config


def _without_warnings(config: NetworkConfig) -> NetworkConfig:
    """Host bits, say, are warned of once."""
    return msgspec.structs.replace(config, warnings=())


def _check_error(error: ConfigError) -> None:
    assert error.problems
    _check_lines(map(str, error.problems))


def _check_lines(lines: object) -> None:
    """One line each, of a bounded length, that any terminal takes."""
    for line in lines:  # type: ignore[attr-defined]
        assert len(line) <= MESSAGE_CHARACTERS, line
        assert line.isprintable(), json.dumps(line)


def _all_plugins() -> Plugins:
    if not _plugins:
        _plugins.append(load_plugins())
    return _plugins[0]
