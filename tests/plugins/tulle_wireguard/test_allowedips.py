"""Cryptokey routing against a list of (prefix, peer) that is asked whole."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from tulle.net.prefix import Prefix, parse_prefix
from tulle_wireguard.allowedips import AllowedIps

PREFIXES = [
    parse_prefix(text)
    for text in (
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.2.3/32",
        "::/0",
        "fd00::/8",
        "fd00::1/128",
    )
]
ADDRESSES = ["10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "8.8.8.8", "fd00::1", "fd00::2", "2001:db8::1"]
PEERS = ["a", "b", "c"]

steps = st.lists(
    st.tuples(
        st.sampled_from(["give", "replace", "take"]),
        st.sampled_from(PEERS),
        st.lists(st.sampled_from(PREFIXES), max_size=4),
    ),
    max_size=20,
)


@given(steps)
def test_the_longest_prefix_says_whose_an_address_is(script: list[tuple[str, str, list[Prefix]]]) -> None:
    allowed: AllowedIps[str] = AllowedIps()
    model: dict[Prefix, str] = {}
    for what, peer, prefixes in script:
        if what == "take":
            for prefix in prefixes:
                allowed.take(peer, prefix)
                if model.get(prefix) == peer:
                    del model[prefix]
            continue
        if what == "replace":
            allowed.replace(peer, prefixes)
            model = {prefix: owner for prefix, owner in model.items() if owner != peer}
        else:
            allowed.give(peer, prefixes)
        model |= dict.fromkeys(prefixes, peer)
    for text in ADDRESSES:
        address = ip_address(text)
        holding = [prefix for prefix in model if prefix.version == address.version and address in prefix]
        owner = model[max(holding, key=lambda prefix: prefix.prefixlen)] if holding else None
        assert allowed.peer_of(address.packed) == owner
    for peer in PEERS:
        assert allowed.of(peer) == {prefix for prefix, owner in model.items() if owner == peer}


def test_a_wide_prefix_gives_no_right_to_a_part_that_another_holds() -> None:
    allowed: AllowedIps[str] = AllowedIps()
    allowed.give("wide", [parse_prefix("0.0.0.0/0")])
    allowed.give("narrow", [parse_prefix("10.1.2.0/24")])
    assert allowed.peer_of(ip_address("10.1.2.3").packed) == "narrow"
    assert allowed.peer_of(ip_address("10.1.3.3").packed) == "wide"


def test_what_is_no_address_belongs_to_nobody() -> None:
    allowed: AllowedIps[str] = AllowedIps()
    allowed.give("all", PREFIXES)
    assert allowed.peer_of(b"") is None
    assert allowed.peer_of(bytes(5)) is None
