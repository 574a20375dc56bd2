"""VXLAN in the kernel and in user space: the largest packet passes, the next is answered by the right ICMP error.
(udp: test_sizes; host-gw: test_hostgw; wireguard: test_wireguard.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tulle.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-mtu-edge")]

UNDERLAY_MTU = 1500
UDP_HEADERS = {4: 28, 6: 48}
"""With the IP header in front."""
TOO_BIG = {4: (3, 4), 6: (2, 0)}
"""ICMP type and code: RFC 792, RFC 4443 section 3.2."""
PORT = 7777


@pytest.fixture(scope="module", params=["kernel", "userspace"])
def lab(request: pytest.FixtureRequest, make_lab: Callable[..., Lab]) -> Lab:
    options = {"Mode": request.param}
    return make_lab(nodes=2, pods=1, family="dual", backend="vxlan", backend_options=options)


@pytest.mark.parametrize("family", [4, 6])
def test_the_largest_packet_passes_and_the_next_is_answered_with_the_mtu(
    lab: Lab, hands: Callable[[Lab], Any], eventually: Callable[..., Any], family: int
) -> None:
    """n1's pod believes in the underlay's MTU, as one that a careless CNI plugin made would."""
    node = hands(lab)
    mtu = lab.nets["n1"].mtu
    assert mtu == lab.status("n1")["backend"]["mtu"] < UNDERLAY_MTU
    wide = (("n1", "cni0"), ("n1", "to-p1"), ("n1/p1", "eth0"))
    try:
        for place, link in wide:
            node.kernel(place, ("link", "set", {"link": link, "mtu": UNDERLAY_MTU}))
        to, largest = [lab.address("n2/p1", family), PORT], mtu - UDP_HEADERS[family]
        with node.capture("n2/p1", link="eth0") as finish:
            node.wire("n1/p1", do="probe", to=to, size=largest, wait_s=1.0)
            assert mtu in {len(one["packet"]) // 2 for one in finish()}
        answer = eventually(lambda: node.wire("n1/p1", do="probe", to=to, size=largest + 1, wait_s=1.2))
        assert (answer["type"], answer["code"], answer["mtu"]) == (*TOO_BIG[family], mtu)
    finally:
        for place, link in wide:
            node.kernel(place, ("link", "set", {"link": link, "mtu": mtu}))
