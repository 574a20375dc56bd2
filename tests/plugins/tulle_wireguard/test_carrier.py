"""The sockets of a lone interface. All else of it needs a device: tests/lab/test_tulle_wg.py."""

from __future__ import annotations

import errno
import socket

import pytest

from tulle_wireguard.carrier import _open_both


def test_both_families_get_the_port_that_the_kernel_chose() -> None:
    found, port = _open_both(0, 0)
    try:
        assert port
        assert {one.getsockname()[1] for one in found.values()} == {port}
        assert found[4].family == socket.AF_INET
        assert all(one.family == socket.AF_INET6 for family, one in found.items() if family == 6)
    finally:
        for one in found.values():
            one.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_that_one_family_has_not_free_is_refused_and_nothing_stays_open(family: int) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as other:
        if family == socket.AF_INET6:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("", 0))
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}/udp") as refused:
            _open_both(port, 0)
        assert refused.value.errno == errno.EADDRINUSE
    found, _ = _open_both(port, 0)
    for one in found.values():
        one.close()
