"""Which devices a node has, by Mode and by the families of pods and underlay. Pure.

Mode       pods             device       travels over   UDP port       in the lease
separate   IPv4             tulle-wg     IPv4           ListenPort     BackendData
separate   IPv6             tulle-wg     IPv6           ListenPortV6   BackendV6Data
separate   both             tulle-wg     IPv4           ListenPort     BackendData     for IPv4 pods
                            tulle-wg-v6  IPv6           ListenPortV6   BackendV6Data   for IPv6 pods
auto       any              tulle-wg     what there is  ListenPort     each family's
ipv4       any              tulle-wg     IPv4           ListenPort     each family's
ipv6       any              tulle-wg     IPv6           ListenPort     each family's
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from tulle.contracts.backend import Family
from tulle_wireguard.options import WireguardOptions

DEVICE, DEVICE_V6 = "tulle-wg", "tulle-wg-v6"
KEY_FILE, KEY_FILE_V6 = "wireguard.key", "wireguard-v6.key"
SECOND_PLANE = "v6"
SMALLEST_MTU: dict[Family, int] = {4: 576, 6: 1280}  # RFC 791 (every host must take 576), RFC 8200 section 5


class Tunnel(msgspec.Struct, frozen=True, kw_only=True):
    """One device with its key and its port."""

    device: str = DEVICE
    plane: str = ""
    """Name of its data plane beside the first; "": the first."""
    key_file: str = KEY_FILE
    inner: tuple[Family, ...]
    """Of the pods whose packets it carries; also: in which of the lease's two fields its data lies."""
    outer: tuple[Family, ...]
    """What its datagrams travel over."""
    port: int


def tunnels(
    options: WireguardOptions, pods: Collection[Family], underlay: Collection[Family]
) -> tuple[Tunnel, ...]:
    """Raises ValueError where the underlay has not what the Mode needs."""
    inner = tuple(sorted(set(pods)))
    if options.mode == "separate":
        return _separate(options, inner, underlay)
    wanted: dict[str, tuple[Family, ...]] = {"ipv4": (4,), "ipv6": (6,), "auto": tuple(sorted(underlay))}
    outer = wanted[options.mode]
    for family in outer:
        if family not in underlay:
            raise ValueError(
                f"Mode {options.mode}: the underlay's interface has no IPv{family} address that the cluster uses; give "
                f"it one, choose another with --iface, or set Mode to auto in the network config"
            )
    return (Tunnel(inner=inner, outer=outer, port=options.listen_port),)


def _separate(
    options: WireguardOptions, inner: tuple[Family, ...], underlay: Collection[Family]
) -> tuple[Tunnel, ...]:
    ports: dict[Family, int] = {4: options.listen_port, 6: options.listen_port_v6}
    for family in inner:
        if family not in underlay:
            raise ValueError(
                f"Mode separate carries IPv{family} pods over IPv{family} alone, and the underlay's interface has no "
                f"IPv{family} address; give it one, choose another with --iface, or set Mode to auto in the network "
                "config"
            )
    first = Tunnel(inner=inner[:1], outer=inner[:1], port=ports[inner[0]])
    if len(inner) == 1:
        return (first,)
    second = Tunnel(
        device=DEVICE_V6,
        plane=SECOND_PLANE,
        key_file=KEY_FILE_V6,
        inner=inner[1:],
        outer=inner[1:],
        port=ports[inner[1]],
    )
    return first, second


def mtu_of(tunnel: Tunnel, options: WireguardOptions, link: str, link_mtu: int) -> int:
    """Of the device: what is left of the underlay's. Raises ValueError where that is too little for a packet."""
    outer_mtu = options.mtu or link_mtu
    mtu = outer_mtu - max(options.overhead_bytes(family) for family in tunnel.outer)
    smallest = max(SMALLEST_MTU[family] for family in tunnel.inner)
    if mtu < smallest:
        raise ValueError(
            f"{link}: an MTU of {outer_mtu} leaves {mtu} bytes for a packet, {smallest} are needed; raise the MTU of "
            "the interface"
        )
    return mtu
