"""The options of wireguard are flannel's; what cannot be is refused with what would be right, and the PSK is never
shown."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from tulle.config.errors import ConfigError
from tulle.config.options import convert_options
from tulle_wireguard.options import WireguardOptions

PSK = b64encode(bytes(range(32))).decode()


def made(**given: Any) -> WireguardOptions:
    options, unknown = convert_options(WireguardOptions, given)
    assert unknown == ()
    return options


def test_nothing_given_is_what_flannel_does() -> None:
    options = made()
    assert (options.listen_port, options.listen_port_v6, options.mode) == (51820, 51821, "separate")
    assert (options.psk, options.mtu, options.persistent_keepalive_interval) == ("", 0, 0)
    assert (options.overhead_bytes(4), options.overhead_bytes(6)) == (80, 80)


def test_flannels_keys_are_taken_without_regard_to_case() -> None:
    given = {
        "psk": PSK,
        "listenport": 1,
        "LISTENPORTV6": 65535,
        "mtu": 1400,
        "Mode": "auto",
        "PersistentKeepaliveInterval": 25,
        "DirectRouting": False,
    }
    options = made(**given)
    assert (options.psk, options.listen_port, options.listen_port_v6) == (PSK, 1, 65535)
    assert (options.mtu, options.mode, options.persistent_keepalive_interval) == (1400, "auto", 25)


def test_the_exact_overhead_is_smaller_over_ipv4_alone() -> None:
    options = made(ExactOverhead=True)
    assert (options.overhead_bytes(4), options.overhead_bytes(6)) == (60, 80)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ListenPort": 0}, "ListenPort: 0 is no UDP port; give 1 to 65535"),
        ({"ListenPort": 65536}, "ListenPort: 65536"),
        ({"ListenPortV6": -1}, "ListenPortV6: -1 is no UDP port; give 1 to 65535"),
        ({"ListenPort": "51820"}, "Backend.ListenPort"),
        ({"MTU": 575}, "MTU: 575 is no MTU of an underlay; give 576 to 65535, or leave it out"),
        ({"MTU": 65536}, "MTU: 65536"),
        ({"Mode": "both"}, 'Mode: \'both\' is unknown; give "separate", "auto", "ipv4" or "ipv6"'),
        ({"Mode": 4}, "Backend.Mode"),
        ({"PersistentKeepaliveInterval": -1}, "PersistentKeepaliveInterval: -1"),
        ({"PersistentKeepaliveInterval": 65536}, "give 1 to 65535 .* or 0 for none"),
        ({"PersistentKeepaliveInterval": 2.5}, "Backend.PersistentKeepaliveInterval"),
        ({"ExactOverhead": 1}, "Backend.ExactOverhead: 1 does not fit; give true or false"),
        ({"DirectRouting": True}, "would then travel unencrypted; leave it out"),
        ({"PSK": "secret"}, "PSK: it is not 32 bytes in base64 .*; give one that `wg genpsk` makes"),
        ({"PSK": "!" * 44}, "PSK: it is not 32 bytes in base64"),
        ({"PSK": b64encode(bytes(32)).decode()}, "PSK: it is all zeros"),
        ({"PSK": b64encode(bytes(31)).decode()}, "PSK: it is not"),
    ],
)
def test_a_wrong_value_is_a_configuration_error_that_says_what_would_be_right(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        made(**given)


@pytest.mark.parametrize("wrong", ["hunter2-hunter2-hunter2", [PSK], {"key": PSK}, 12345678])
def test_a_wrong_psk_is_not_shown(wrong: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        made(PSK=wrong)
    said = f"{raised.value} {raised.value!r}"
    assert "hunter2" not in said
    assert PSK not in said
    assert "12345678" not in said


def test_a_right_psk_is_not_shown_either() -> None:
    options = made(PSK=PSK)
    for text in (repr(options), str(options), f"{options}", json.dumps(list(options.__rich_repr__()))):
        assert PSK not in text


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        convert_options(WireguardOptions, {"PSK": "short", "Mode": "odd", "ListenPort": 0})
    told = [str(one) for one in caught.value.problems]
    assert [one.split(":")[1].strip() for one in told] == ["PSK", "ListenPort", "Mode"]
