"""The interface to the other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor.underlay import first_endpoints, judge
from tulle.kernel.state import Way
from tulle.kernel.underlay import LocalLink
from tulle.net.prefix import Address

UP, DOWN = LocalLink("eth0", 2, 1500, True), LocalLink("eth0", 2, 1500, False)
PEER = ip_address("192.0.2.2")


@pytest.mark.parametrize(
    ("name", "links", "ways", "said"),
    [
        ("", [UP], {}, "no interface leads to other nodes"),
        ("eth0", [], {}, "is gone"),
        ("eth0", [DOWN], {PEER: Way("none")}, "is down"),
        ("eth0", [UP], {PEER: Way("none")}, "no way to 1 of 1 peers, such as 192.0.2.2"),
    ],
)
def test_what_cuts_a_node_off_is_an_error(
    make_context: Callable[..., DoctorContext],
    name: str,
    links: list[LocalLink],
    ways: Mapping[Address, Way],
    said: str,
) -> None:
    (found,) = judge(make_context(link=name), links, ways)
    assert found.severity == "error"
    assert said in found.what


def test_an_interface_that_is_up_with_ways_to_the_peers_is_ok(context: DoctorContext) -> None:
    assert first_endpoints(context) == [PEER]
    (found,) = judge(context, [UP], {PEER: Way("unicast", "eth0")})
    assert (found.severity, found.what) == ("ok", "is up, and the 1 peer looked at has a way")
    both = {PEER: Way("unicast", "eth0"), ip_address("192.0.2.3"): Way("unicast", "eth0")}
    assert judge(context, [UP], both)[0].what == "is up, and the 2 peers looked at have a way"
