"""The udp backend's options: defaults, and values that are configuration errors."""

from __future__ import annotations

import json

import pytest

from tulle.config.errors import ConfigError
from tulle.node.network import check_network
from tulle.plugins import load_plugins
from tulle_udp.options import OVERHEAD_BYTES, UdpOptions


def checked(**options: object) -> UdpOptions:
    text = json.dumps({"Network": "10.5.0.0/16", "Backend": {"Type": "udp", **options}})
    found: UdpOptions = check_network(text, load_plugins()).options
    return found


def test_the_defaults_are_flannels() -> None:
    assert checked() == UdpOptions(port=8285, source_check="strict", mtu=0)
    assert OVERHEAD_BYTES == {4: 28, 6: 48}


def test_keys_are_read_whatever_their_case() -> None:
    assert checked(PORT=1, sourcecheck="peer", mtu=576) == UdpOptions(port=1, source_check="peer", mtu=576)


@pytest.mark.parametrize("good", [{"Port": 1}, {"Port": 65535}, {"MTU": 576}, {"MTU": 65535}, {"MTU": 0}])
def test_the_ends_of_each_range_are_taken(good: dict[str, object]) -> None:
    assert checked(**good)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"Port": 0}, "Backend.Port: 0 does not fit; give a whole number from 1 up to 65535"),
        ({"Port": -1}, "Port: -1"),
        ({"Port": 65536}, "Port: 65536"),
        ({"Port": "8285"}, "Backend.Port"),
        ({"Port": True}, "Backend.Port"),
        ({"Port": 8285.5}, "Backend.Port"),
        ({"SourceCheck": "off"}, 'Backend.SourceCheck: "off" does not fit; give "peer" or "strict"'),
        ({"SourceCheck": 1}, "Backend.SourceCheck"),
        ({"MTU": 575}, "MTU: 575 is no MTU of an underlay"),
        ({"MTU": 65536}, "MTU: 65536"),
        ({"MTU": "1500"}, "Backend.MTU"),
    ],
)
def test_a_wrong_value_is_a_config_error_that_names_it(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        checked(**bad)
    (problem,) = raised.value.problems
    assert words in str(problem)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        checked(Port=70000, SourceCheck="lax", MTU="1500")
    assert [problem.key for problem in raised.value.problems] == [
        "Backend.Port",
        "Backend.SourceCheck",
        "Backend.MTU",
    ]
