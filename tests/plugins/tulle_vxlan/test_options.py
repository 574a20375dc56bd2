"""The options of vxlan are flannel's, and what cannot be is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from tulle.config.errors import ConfigError
from tulle.config.options import convert_options
from tulle_vxlan.options import OVERHEAD_BYTES, VxlanOptions


def made(**given: Any) -> VxlanOptions:
    options, unknown = convert_options(VxlanOptions, given)
    assert unknown == ()
    return options


def test_nothing_given_is_what_flannel_does_on_linux() -> None:
    options = made()
    assert (options.vni, options.udp_port, options.gbp, options.learning) == (1, 8472, False, False)
    assert made(Port=0).udp_port == 8472
    assert OVERHEAD_BYTES == {4: 50, 6: 70}


def test_flannels_keys_are_taken_without_regard_to_case() -> None:
    options = made(VNI=7, port=4789, MTU=1400, gbp=True, Learning=True, directRouting=False, TxChecksum="off")
    assert (options.vni, options.port, options.mtu, options.gbp) == (7, 4789, 1400, True)
    assert (options.learning, options.tx_checksum) == (True, "off")


def test_the_modes_and_direct_routing_are_taken() -> None:
    assert (made().mode, made().direct_routing) == ("auto", False)
    options = made(Mode="userspace", DirectRouting=True)
    assert (options.mode, options.direct_routing) == ("userspace", True)
    assert made(Mode="kernel", GBP=True).gbp


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"VNI": 0}, "VNI: 0 cannot be used"),
        ({"VNI": 10_000_000}, "give 1 to 9999999"),
        ({"Port": 65536}, "Port: 65536"),
        ({"Port": -1}, "Port: -1"),
        ({"MTU": 575}, "MTU: 575"),
        ({"TxChecksum": "never"}, 'give "auto", "on" or "off"'),
        ({"Mode": "fast"}, 'give "auto", "kernel" or "userspace"'),
        ({"Mode": "userspace", "GBP": True}, "GBP: vxlan in user space does not carry it"),
    ],
)
def test_what_cannot_be_is_a_configuration_error(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(**given)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        convert_options(VxlanOptions, {"VNI": 0, "Port": 99999, "MTU": "a"})
    told = "\n".join(map(str, caught.value.problems))
    assert len(caught.value.problems) == 3
    assert all(part in told for part in ("VNI: 0", "Port: 99999", 'MTU: "a"'))
