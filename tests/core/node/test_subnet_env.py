"""subnet.env is flannel's, to the byte, and what a damaged one says hurts nobody."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.node.subnet_env import previous_subnets, render

V4, V4_SUBNET = ip_network("10.5.0.0/16"), ip_network("10.5.52.0/24")
V6, V6_SUBNET = ip_network("fd00:5::/48"), ip_network("fd00:5:0:7::/64")


@pytest.mark.parametrize(
    ("networks", "subnets", "text"),
    [
        (
            (V4,),
            (V4_SUBNET,),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n"
            "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
        ),
        (
            (V4, V6),
            (V4_SUBNET, V6_SUBNET),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n"
            "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\n"
            "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
        ),
        (
            (V6,),
            (V6_SUBNET,),
            "FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\n"
            "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n",
        ),
    ],
    ids=["IPv4", "dual stack", "IPv6 only"],
)
def test_the_text_is_flannels_and_is_read_back(
    tmp_path: Path, networks: tuple[object, ...], subnets: tuple[object, ...], text: str
) -> None:
    found = render(networks, subnets, 1472, ip_masq=False)  # type: ignore[arg-type]
    assert found == text
    file = tmp_path / "subnet.env"
    file.write_text(found)
    assert previous_subnets(file) == subnets


def test_masquerading_is_said() -> None:
    assert "FLANNEL_IPMASQ=true\n" in render((V4,), (V4_SUBNET,), 1472, ip_masq=True)


def test_a_network_without_its_subnet_is_misuse() -> None:
    with pytest.raises(ValueError, match="shorter"):
        render((V4, V6), (V4_SUBNET,), 1472, ip_masq=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("FLANNEL_SUBNET\n", ()),
        ("FLANNEL_SUBNET=\n", ()),
        ("FLANNEL_SUBNET=10.5.52.1\n", ()),
        ("FLANNEL_SUBNET=10.5.52.1/99\n", ()),
        ("FLANNEL_SUBNET=fd00::1/64\nFLANNEL_IPV6_SUBNET=10.5.52.1/24\n", ()),
        ('FLANNEL_SUBNET="10.5.52.1/24"\r\n', (V4_SUBNET,)),
        (" # text\nFLANNEL_SUBNET=10.5.52.7/24\nFLANNEL_IPV6_SUBNET=x\n", (V4_SUBNET,)),
        ("FLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\nFLANNEL_SUBNET=10.5.52.1/24\n", (V4_SUBNET, V6_SUBNET)),
    ],
)
def test_a_damaged_file_says_what_it_can(tmp_path: Path, text: str, found: tuple[object, ...]) -> None:
    file = tmp_path / "subnet.env"
    file.write_bytes(text.encode())
    assert previous_subnets(file) == found


def test_no_file_and_a_directory_say_nothing(tmp_path: Path) -> None:
    assert previous_subnets(tmp_path / "none") == ()
    assert previous_subnets(tmp_path) == ()


LINES = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=20).map(lambda rest: b"FLANNEL_SUBNET=" + rest),
    st.from_regex(rb"FLANNEL_(IPV6_)?SUBNET=[0-9a-f.:]{0,20}/[0-9]{0,4}", fullmatch=True),
)


@given(st.lists(LINES, max_size=6))
def test_whatever_the_file_holds_nothing_is_raised(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    file = tmp_path_factory.getbasetemp() / "hostile-subnet.env"
    file.write_bytes(b"\n".join(lines))
    found = previous_subnets(file)
    assert [one.version for one in found] in ([], [4], [6], [4, 6])
