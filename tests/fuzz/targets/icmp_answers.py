"""ICMP: the errors that we make of any packet, and the answers that we read."""

from __future__ import annotations

from ipaddress import ip_address

from tulle.net import echo, icmp
from tulle.net.checksum import checksum, pseudo_header_sum
from tulle.net.packet import ICMPV6, addresses, transport
from tulle.net.prefix import Family
from tulle.testing.packets import packet

SOURCES: dict[Family, bytes] = {4: ip_address("10.5.0.0").packed, 6: ip_address("fd05::").packed}
LIMITS: dict[Family, int] = {4: icmp.IPV4_ERROR_LIMIT_BYTES, 6: icmp.IPV6_ERROR_LIMIT_BYTES}
FAMILIES: tuple[Family, ...] = (4, 6)
_ECHO = echo.echo_request(4, 7, 9, b"are you there")
_ECHO6 = echo.echo_request(6, 7, 9, b"are you there")
SEEDS = [
    packet("10.1.0.2", "10.2.0.2", _ECHO, protocol=1),
    packet("fd00::1", "fd01::2", _ECHO6, protocol=58),
    packet("10.1.0.2", "10.2.0.2", b"x" * 1400),
    packet("fd00::1", "fd01::2", b"x" * 1400),
    packet("10.2.0.9", "10.1.0.2", bytes([3, 4, 0, 0, 0, 0, 5, 120]) + packet("10.1.0.2", "10.2.0.2", _ECHO)),
    bytes([2, 0, 0, 0, 0, 0, 5, 0]) + packet("fd00::1", "fd01::2", _ECHO6, protocol=58),
    bytes([14, 0, 0, 0, 0, 1, 0, 1]) + bytes(12),
    bytes([0, 0, 0, 0, 0, 7, 0, 9]) + b"pong",
]


def target(data: bytes) -> None:
    for family in FAMILIES:
        _check_made(family, data)
        _check_read(family, data)
        _check_read(family, echo.without_ip_header(family, data))


def _check_made(family: Family, data: bytes) -> None:
    answer = icmp.unreachable(data, SOURCES[family])
    if answer is None:
        return
    asked, said = addresses(data), addresses(answer)
    assert asked is not None
    assert said == (SOURCES[family], asked[0])
    assert len(answer) <= LIMITS[family]
    carried = transport(answer)
    assert carried is not None
    message = answer[carried.offset :]
    pseudo = pseudo_header_sum(*said, ICMPV6, len(message)) if family == 6 else 0
    assert checksum(message, pseudo) == 0
    assert data.startswith(message[8:])  # what it quotes
    assert icmp.unreachable(answer, SOURCES[family]) is None  # no error answers an error
    refusal = echo.read_refusal(family, message)
    assert refusal is None or refusal.mtu == 0


def _check_read(family: Family, message: bytes) -> None:
    reply, refusal = echo.read_reply(family, message), echo.read_refusal(family, message)
    assert reply is None or refusal is None
    if reply is not None:
        assert len(reply.payload) == len(message) - echo.HEADER.size
    if refusal is not None:
        assert refusal.reason
        assert 0 <= refusal.mtu < 1 << 32
    times = echo.read_times(message, int.from_bytes(message[4:6]))
    if times is not None:
        assert abs(echo.offset_ms(times, 0)) <= echo.DAY_MS // 2
