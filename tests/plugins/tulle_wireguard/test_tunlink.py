"""What is read of a link. What is set needs a device of ours: tests/lab/test_tulle_wg.py."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tulle_wireguard import tunlink


def test_the_mtu_is_what_the_kernel_says() -> None:
    assert tunlink.mtu("lo") == int(Path("/sys/class/net/lo/mtu").read_text())


def test_of_a_link_that_is_not_there_nothing_can_be_said() -> None:
    with pytest.raises(OSError, match="No such device") as refused:
        tunlink.mtu("no-such-link")
    assert refused.value.errno == errno.ENODEV
