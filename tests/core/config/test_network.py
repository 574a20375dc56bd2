"""The network config: each field, its default, and what is wrong with it."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.network import FamilyConfig, NetworkConfig, parse_network_config, render_network_config


def parse(**fields: Any) -> NetworkConfig:
    return parse_network_config(json.dumps(fields))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_network_config(text)
    return [str(problem) for problem in caught.value.problems]


def family(number: int, network: str, length: int, low: str, high: str) -> FamilyConfig:
    return FamilyConfig(number, ip_network(network), length, ip_address(low), ip_address(high))  # type: ignore[arg-type]


def test_a_network_alone_is_enough() -> None:
    config = parse_network_config('{"Network": "10.5.0.0/16"}')
    assert config == NetworkConfig((family(4, "10.5.0.0/16", 24, "10.5.1.0", "10.5.255.0"),))
    assert config.backend_type == "udp"
    assert config.networks == (ip_network("10.5.0.0/16"),)
    assert config.families[0].subnets().count == 255


def test_a_full_dual_stack_config_is_read_whole() -> None:
    config = parse(
        Network="10.12.0.0/16",
        SubnetLen=26,
        SubnetMin="10.12.4.0",
        SubnetMax="10.12.9.192",
        EnableIPv6=True,
        IPv6Network="fd00:12::/48",
        IPv6SubnetLen=56,
        IPv6SubnetMin="fd00:12:0:200::",
        IPv6SubnetMax="fd00:12:0:f00::",
        EnableNFTables=True,
        Backend={"Type": "VXLAN", "VNI": 7},
        Tulle={"DNS": {"Zone": "cluster.local"}},
    )
    assert config == NetworkConfig(
        (
            family(4, "10.12.0.0/16", 26, "10.12.4.0", "10.12.9.192"),
            family(6, "fd00:12::/48", 56, "fd00:12:0:200::", "fd00:12:0:f00::"),
        ),
        "vxlan",
        {"VNI": 7},
        True,
        {"dns": {"Zone": "cluster.local"}},
    )


def test_the_case_of_keys_does_not_matter() -> None:
    assert parse(network="10.5.0.0/16", SUBNETLEN=25, backend={"tYPE": "host-gw"}) == parse(
        Network="10.5.0.0/16", SubnetLen=25, Backend={"Type": "host-gw"}
    )


def test_ipv6_alone_needs_ipv4_switched_off() -> None:
    config = parse(EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/48")
    assert config.families == (family(6, "fd00::/48", 64, "fd00:0:0:1::", "fd00:0:0:ffff::"),)
    assert problems('{"EnableIPv6": true, "IPv6Network": "fd00::/48"}') == [
        "Network: is missing; give an IPv4 network such as 10.5.0.0/16; or set EnableIPv4 to false"
    ]


@pytest.mark.parametrize(
    ("network", "length"),
    [("10.0.0.0/8", 24), ("10.5.0.0/22", 24), ("10.5.0.0/23", 25), ("10.5.0.0/28", 30)],
)
def test_the_default_length_leaves_four_subnets_of_ipv4(network: str, length: int) -> None:
    assert parse(Network=network).families[0].subnet_len == length


@pytest.mark.parametrize(
    ("network", "length"),
    [("fd00::/8", 64), ("fd00::/62", 64), ("fd00::/63", 65), ("fd00::/124", 126)],
)
def test_the_default_length_leaves_four_subnets_of_ipv6(network: str, length: int) -> None:
    config = parse(EnableIPv4=False, EnableIPv6=True, IPv6Network=network)
    assert config.families[0].subnet_len == length


@pytest.mark.parametrize("network", ["255.0.0.0/8", "255.255.0.0/16"])
def test_a_network_that_ends_where_ipv4_ends_is_read(network: str) -> None:
    (family,) = parse_network_config(json.dumps({"Network": network})).families
    assert family.subnet_max == family.network.broadcast_address - 255


@pytest.mark.parametrize("network", ["c000::/2", "f000::/4"])
def test_a_network_that_ends_where_ipv6_ends_is_read(network: str) -> None:
    """Found by `make fuzz`: the address behind it cannot be written down."""
    text = json.dumps({"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": network})
    (family,) = parse_network_config(text).families
    assert str(family.subnet_max) == "ffff:ffff:ffff:ffff::"


def test_null_and_flannels_zeros_mean_the_default() -> None:
    plain = parse(Network="10.5.0.0/16")
    assert plain == parse(
        Network="10.5.0.0/16",
        SubnetLen=0,
        SubnetMin="0.0.0.0",
        SubnetMax=None,
        EnableIPv6=None,
        Backend=None,
        Tulle=None,
    )


def test_host_bits_are_cleared_and_spoken_of() -> None:
    config = parse(Network="10.5.3.1/16")
    assert config.networks == (ip_network("10.5.0.0/16"),)
    assert config.warnings == ('Network: "10.5.3.1/16" has host bits set; 10.5.0.0/16 is used',)


def test_an_ipv6_network_that_is_not_switched_on_is_spoken_of() -> None:
    config = parse(Network="10.5.0.0/16", IPv6Network="fd00::/48")
    assert [one.family for one in config.families] == [4]
    assert "EnableIPv6 is not true" in config.warnings[0]
    only_v6 = parse(Network="10.5.0.0/16", EnableIPv4=False, EnableIPv6=True, IPv6Network="fd00::/48")
    assert only_v6.warnings == ()


def test_unknown_keys_are_kept_and_warned_about() -> None:
    config = parse(Network="10.5.0.0/16", Netwrk=1, Zzz=[2])
    assert config.extra == {"Netwrk": 1, "Zzz": [2]}
    assert "did you mean Network?" in config.warnings[0]
    assert "ignored" in config.warnings[1]


NETWORK = '"Network": "10.5.0.0/16"'
BROKEN = {
    "not JSON": ("Network: 10.5.0.0/16", "the network config: is not JSON"),
    "a list": ("[]", "the network config: [] is not a JSON object"),
    "no network": ("{}", "Network: is missing; give an IPv4 network"),
    "no prefix": ('{"Network": "10.5.0.0"}', 'Network: "10.5.0.0" is not an IPv4 network'),
    "a length of 33": ('{"Network": "10.5.0.0/33"}', 'Network: "10.5.0.0/33" is not an IPv4 network'),
    "the other family": ('{"Network": "fd00::/48"}', 'Network: "fd00::/48" is not an IPv4 network'),
    "a network as number": ('{"Network": 10}', "Network: 10 is not an IPv4 network"),
    "an empty network": ('{"Network": ""}', 'Network: "" is not an IPv4 network'),
    "the whole internet": (
        '{"Network": "0.0.0.0/0"}',
        'Network: "0.0.0.0/0" is no network that pods can have',
    ),
    "a multicast network": ('{"Network": "224.0.0.0/8"}', "is no network that pods can have"),
    "a loopback network": ('{"Network": "127.0.0.0/8"}', "is no network that pods can have"),
    "a small network": (
        '{"Network": "10.5.0.0/29"}',
        "is too small for four subnets; give a length of at most /28",
    ),
    "SubnetLen 31": (
        f'{{{NETWORK}, "SubnetLen": 31}}',
        "SubnetLen: 31 is not the length of a subnet; give a whole number up to 30",
    ),
    "SubnetLen as text": (f'{{{NETWORK}, "SubnetLen": "24"}}', 'SubnetLen: "24" is not the length'),
    "SubnetLen with a fraction": (f'{{{NETWORK}, "SubnetLen": 24.5}}', "SubnetLen: 24.5 is not the length"),
    "SubnetLen true": (f'{{{NETWORK}, "SubnetLen": true}}', "SubnetLen: true is not the length"),
    "SubnetLen below zero": (f'{{{NETWORK}, "SubnetLen": -1}}', "SubnetLen: -1 is not the length"),
    "two subnets": (
        f'{{{NETWORK}, "SubnetLen": 17}}',
        "SubnetLen: 17 leaves less than four subnets in 10.5.0.0/16; give a length from 18",
    ),
    "SubnetMin outside": (
        f'{{{NETWORK}, "SubnetMin": "10.6.0.0"}}',
        'SubnetMin: "10.6.0.0" is not in 10.5.0.0/16',
    ),
    "SubnetMax outside": (
        f'{{{NETWORK}, "SubnetMax": "11.0.0.0"}}',
        'SubnetMax: "11.0.0.0" is not in 10.5.0.0/16',
    ),
    "SubnetMin beside a boundary": (
        f'{{{NETWORK}, "SubnetMin": "10.5.3.7"}}',
        'SubnetMin: "10.5.3.7" is not on a /24 boundary; give the address of a subnet, such as 10.5.3.0',
    ),
    "SubnetMax beside a boundary": (
        f'{{{NETWORK}, "SubnetMax": "10.5.3.7"}}',
        'SubnetMax: "10.5.3.7" is not on a /24 boundary',
    ),
    "SubnetMin no address": (
        f'{{{NETWORK}, "SubnetMin": "10.5"}}',
        'SubnetMin: "10.5" is not an IPv4 address',
    ),
    "SubnetMin of the other family": (
        f'{{{NETWORK}, "SubnetMin": "fd00::"}}',
        'SubnetMin: "fd00::" is not an IPv4 address',
    ),
    "SubnetMin after SubnetMax": (
        f'{{{NETWORK}, "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.3.0"}}',
        'SubnetMin: "10.5.9.0" lies after SubnetMax 10.5.3.0',
    ),
    "no family": ('{"EnableIPv4": false}', "EnableIPv4: false leaves no family"),
    "EnableIPv6 as text": (
        f'{{{NETWORK}, "EnableIPv6": "true"}}',
        'EnableIPv6: "true" is not true or false; give true or false, without quotes',
    ),
    "EnableIPv4 as number": (f'{{{NETWORK}, "EnableIPv4": 1}}', "EnableIPv4: 1 is not true or false"),
    "EnableNFTables as text": (
        f'{{{NETWORK}, "EnableNFTables": "yes"}}',
        'EnableNFTables: "yes" is not true or false',
    ),
    "no IPv6Network": (
        f'{{{NETWORK}, "EnableIPv6": true}}',
        "IPv6Network: is missing; give an IPv6 network such as fd00:5::/48",
    ),
    "a small IPv6Network": (
        f'{{{NETWORK}, "EnableIPv6": true, "IPv6Network": "fd00::/125"}}',
        "give a length of at most /124",
    ),
    "IPv6SubnetLen 127": (
        f'{{{NETWORK}, "EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetLen": 127}}',
        "IPv6SubnetLen: 127 is not the length",
    ),
    "IPv6SubnetMin outside": (
        f'{{{NETWORK}, "EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd01::"}}',
        'IPv6SubnetMin: "fd01::" is not in fd00::/48',
    ),
    "an address with scope": (
        f'{{{NETWORK}, "EnableIPv6": true, "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd00::%1"}}',
        "is not an IPv6 address",
    ),
    "Backend as text": (f'{{{NETWORK}, "Backend": "udp"}}', "Backend: is not an object"),
    "Backend without Type": (f'{{{NETWORK}, "Backend": {{"Port": 1}}}}', "Backend.Type: is missing"),
    "Backend.Type as number": (
        f'{{{NETWORK}, "Backend": {{"Type": 1}}}}',
        "Backend.Type: 1 is not the name of a backend",
    ),
    "Backend.Type empty": (
        f'{{{NETWORK}, "Backend": {{"Type": ""}}}}',
        'Backend.Type: "" is not the name of a backend',
    ),
    "Tulle as list": (f'{{{NETWORK}, "Tulle": []}}', "Tulle: is not an object"),
    "a section as text": (f'{{{NETWORK}, "Tulle": {{"dns": "on"}}}}', "Tulle.dns: is not an object"),
    "two keys of one meaning": (
        f'{{{NETWORK}, "network": "10.6.0.0/16"}}',
        'network: stands there twice, as "Network" and as "network"',
    ),
    "two types": (
        f'{{{NETWORK}, "Backend": {{"Type": "udp", "type": "vxlan"}}}}',
        "Backend.type: stands there twice",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_config_gives_one_clear_message(text: str, message: str) -> None:
    (only,) = problems(text)
    assert message in only
    assert "; give " in only


def test_all_problems_are_told_at_once() -> None:
    text = json.dumps(
        {
            "Network": "10.5.0.0/16",
            "SubnetLen": 31,
            "SubnetMin": "11.0.0.0",
            "EnableIPv6": True,
            "IPv6Network": "fd00::/200",
            "IPv6SubnetLen": "64",
            "EnableNFTables": 1,
            "Backend": [],
            "Tulle": {"dns": 1},
        }
    )
    assert [one.partition(":")[0] for one in problems(text)] == [
        "SubnetLen",
        "SubnetMin",
        "IPv6Network",
        "IPv6SubnetLen",
        "Backend",
        "Tulle.dns",
        "EnableNFTables",
    ]


def test_a_family_that_is_off_is_still_read() -> None:
    assert "IPv6Network" in problems('{"Network": "10.5.0.0/16", "IPv6Network": "x"}')[0]


keys = st.sampled_from(
    [name + end for name in ("", "IPv6") for end in ("Network", "SubnetLen", "SubnetMin", "SubnetMax")]
    + ["EnableIPv4", "EnableIPv6", "EnableNFTables", "Backend", "Tulle", "network", "x"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 200)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["10.5.0.0/16", "10.5.0.0/28", "fd00::/48", "10.5.3.0", "fd00::", "::", "0.0.0.0", "udp"]
    )
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(keys, anything, max_size=8))
def test_any_json_is_a_sound_config_or_a_config_error(raw: dict[str, Any]) -> None:
    try:
        config = parse_network_config(json.dumps(raw))
    except ConfigError as error:
        lines = [str(problem) for problem in error.problems]
        if not lines or not all(line.isprintable() for line in lines):
            pytest.fail(f"{lines} tell nothing")
    else:
        assert config.families
        assert all(one.subnets().count >= 1 for one in config.families)


@given(st.text() | st.binary())
def test_text_at_random_is_a_config_error(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        parse_network_config(text)


@st.composite
def families(draw: st.DrawFn, number: int) -> FamilyConfig:
    base, bits, longest = (0x0A000000, 32, 28) if number == 4 else (0xFD << 120, 128, 124)
    prefix_length = draw(st.integers(8, longest))
    length = draw(st.integers(prefix_length + 2, bits - 2))
    size = 1 << (bits - length)
    low = draw(st.integers(1, (1 << (length - prefix_length)) - 1))
    high = draw(st.integers(low, (1 << (length - prefix_length)) - 1))
    network = ip_network((base, prefix_length))
    start = network.network_address
    return FamilyConfig(number, network, length, start + low * size, start + high * size)  # type: ignore[arg-type]


@given(
    st.one_of(st.tuples(families(4)), st.tuples(families(6)), st.tuples(families(4), families(6))),
    st.sampled_from(["udp", "vxlan"]),
    st.dictionaries(st.sampled_from(["Port", "VNI"]), st.integers()),
    st.booleans(),
    st.sampled_from([{}, {"dns": {"Zone": "x"}}]),
    st.sampled_from([{}, {"Else": [1]}]),
)
def test_what_is_rendered_reads_back_as_the_same_config(
    chosen: tuple[FamilyConfig, ...],
    backend: str,
    options: dict[str, int],
    nftables: bool,
    sections: dict[str, Any],
    extra: dict[str, Any],
) -> None:
    config = NetworkConfig(chosen, backend, options, nftables, sections, extra)
    again = parse_network_config(render_network_config(config))
    assert NetworkConfig(*(getattr(again, name) for name in NetworkConfig.__struct_fields__[:-1])) == config


def test_what_init_writes_is_what_flannels_documentation_shows() -> None:
    text = render_network_config(parse(Network="10.5.0.0/16", Backend={"Type": "udp", "Port": 8285}))
    assert json.loads(text) == {
        "Network": "10.5.0.0/16",
        "SubnetLen": 24,
        "Backend": {"Type": "udp", "Port": 8285},
    }


@pytest.mark.parametrize(
    ("said", "wanted"), [("", None), (', "EnableNFTables": false', False), (', "EnableNFTables": true', True)]
)
def test_whether_nftables_is_said_is_kept_apart_from_what_is_said(said: str, wanted: bool | None) -> None:
    config = parse_network_config(f'{{"Network": "10.5.0.0/16"{said}}}')
    assert config.enable_nftables is wanted
    assert parse_network_config(render_network_config(config)).enable_nftables is wanted
