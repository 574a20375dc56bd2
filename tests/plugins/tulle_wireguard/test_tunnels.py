"""Which devices there are, in every Mode and with every pair of families."""

from __future__ import annotations

import pytest

from tulle_wireguard.options import WireguardOptions
from tulle_wireguard.tunnels import Tunnel, mtu_of, tunnels


def planned(mode: str, pods: tuple[int, ...], underlay: tuple[int, ...]) -> list[tuple[object, ...]]:
    found = tunnels(WireguardOptions(mode=mode), pods, underlay)  # type: ignore[arg-type]
    return [(one.device, one.inner, one.outer, one.port, one.key_file, one.plane) for one in found]


FIRST = ("wireguard.key", "")


@pytest.mark.parametrize(
    ("mode", "pods", "underlay", "wanted"),
    [
        ("separate", (4,), (4,), [("tulle-wg", (4,), (4,), 51820, *FIRST)]),
        ("separate", (4,), (4, 6), [("tulle-wg", (4,), (4,), 51820, *FIRST)]),
        ("separate", (6,), (6,), [("tulle-wg", (6,), (6,), 51821, *FIRST)]),
        (
            "separate",
            (6, 4),
            (4, 6),
            [
                ("tulle-wg", (4,), (4,), 51820, *FIRST),
                ("tulle-wg-v6", (6,), (6,), 51821, "wireguard-v6.key", "v6"),
            ],
        ),
        ("auto", (4, 6), (4, 6), [("tulle-wg", (4, 6), (4, 6), 51820, *FIRST)]),
        ("auto", (4, 6), (6,), [("tulle-wg", (4, 6), (6,), 51820, *FIRST)]),
        ("auto", (4,), (6,), [("tulle-wg", (4,), (6,), 51820, *FIRST)]),
        ("ipv4", (4, 6), (4, 6), [("tulle-wg", (4, 6), (4,), 51820, *FIRST)]),
        ("ipv6", (4, 6), (6, 4), [("tulle-wg", (4, 6), (6,), 51820, *FIRST)]),
    ],
)
def test_each_mode_has_its_devices(
    mode: str, pods: tuple[int, ...], underlay: tuple[int, ...], wanted: list[tuple[object, ...]]
) -> None:
    assert planned(mode, pods, underlay) == wanted


@pytest.mark.parametrize(
    ("mode", "pods", "underlay", "said"),
    [
        ("separate", (4,), (6,), "Mode separate carries IPv4 pods over IPv4 alone.*set Mode to auto"),
        ("separate", (4, 6), (4,), "IPv6 pods over IPv6 alone"),
        ("ipv4", (4,), (6,), "Mode ipv4: .* has no IPv4 address"),
        ("ipv6", (4,), (4,), "Mode ipv6: .* has no IPv6 address"),
    ],
)
def test_an_underlay_that_lacks_what_the_mode_needs_is_said(
    mode: str, pods: tuple[int, ...], underlay: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        planned(mode, pods, underlay)


@pytest.mark.parametrize(
    ("outer", "exact", "mtu"),
    [((4,), False, 1420), ((6,), False, 1420), ((4,), True, 1440), ((6,), True, 1420), ((4, 6), True, 1420)],
)
def test_the_mtu_is_what_is_left(outer: tuple[int, ...], exact: bool, mtu: int) -> None:
    tunnel = Tunnel(inner=(4,), outer=outer, port=1)  # type: ignore[arg-type]
    assert mtu_of(tunnel, WireguardOptions(exact_overhead=exact), "eth0", 1500) == mtu
    assert mtu_of(tunnel, WireguardOptions(exact_overhead=exact, mtu=9000), "eth0", 1500) == mtu + 7500


@pytest.mark.parametrize(("inner", "smallest"), [((4,), 656), ((6,), 1360), ((4, 6), 1360)])
def test_an_underlay_that_leaves_no_room_is_said_in_numbers(inner: tuple[int, ...], smallest: int) -> None:
    tunnel = Tunnel(inner=inner, outer=(4,), port=1)  # type: ignore[arg-type]
    assert mtu_of(tunnel, WireguardOptions(), "eth0", smallest) == smallest - 80
    with pytest.raises(
        ValueError, match=f"eth0: an MTU of {smallest - 1} leaves .* are needed; raise the MTU"
    ):
        mtu_of(tunnel, WireguardOptions(), "eth0", smallest - 1)
