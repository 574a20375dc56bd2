"""The extension backend's options: flannel's names, and values that are configuration errors."""

from __future__ import annotations

import pytest

from tulle.config.errors import ConfigError
from tulle.config.options import convert_options
from tulle_extension.options import ExtensionOptions


def test_the_names_are_flannels() -> None:
    raw = {
        "PreStartupCommand": "a",
        "PostStartupCommand": "b",
        "SubnetAddCommand": "c",
        "SubnetRemoveCommand": "d",
        "ShutdownCommand": "e",
        "CommandTimeout": 7,
        "MTU": 1400,
    }
    found, unknown = convert_options(ExtensionOptions, raw)
    assert unknown == ()
    assert found == ExtensionOptions(
        pre_startup_command="a",
        post_startup_command="b",
        subnet_add_command="c",
        subnet_remove_command="d",
        shutdown_command="e",
        command_timeout=7,
        mtu=1400,
    )


def test_all_may_be_left_out() -> None:
    found, _ = convert_options(ExtensionOptions, {})
    assert (found.subnet_add_command, found.command_timeout, found.mtu) == ("", 30, 0)


@pytest.mark.parametrize(
    "good", [{"CommandTimeout": 1}, {"CommandTimeout": 3600}, {"MTU": 576}, {"MTU": 65535}]
)
def test_the_ends_of_each_range_are_taken(good: dict[str, int]) -> None:
    assert convert_options(ExtensionOptions, good)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"CommandTimeout": 0}, "CommandTimeout: 0 is no usable time"),
        ({"CommandTimeout": 3601}, "CommandTimeout: 3601"),
        ({"CommandTimeout": "30"}, "Backend.CommandTimeout"),
        ({"MTU": 575}, "MTU: 575"),
        ({"MTU": 65536}, "MTU: 65536"),
        ({"SubnetAddCommand": "a\0b"}, "SubnetAddCommand: holds a zero byte"),
        ({"SubnetAddCommand": ["ip", "route"]}, "Backend.SubnetAddCommand"),
    ],
)
def test_a_wrong_value_is_a_config_error_that_names_it(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        convert_options(ExtensionOptions, bad)
