"""Which address is meant: addresses, nodes, pods by name, and whatever is none of these."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.contracts.doctor import DoctorContext
from tulle.contracts.store import KeyValue, Revision
from tulle.trace.target import UnknownTarget, addresses_of, node_target, other_node, resolve, tunnel_address

MakeContext = Callable[..., DoctorContext]


def pod(name: str, node: str, *addresses: str) -> KeyValue:
    status: dict[str, Any] = {"podIP": addresses[0], "podIPs": [{"ip": one} for one in addresses]}
    value = {"metadata": {"name": name}, "spec": {"nodeName": node}, "status": status}
    return KeyValue(
        f"/p/pods/default/{name}",
        json.dumps(value).encode(),
        created=Revision(1),
        modified=Revision(1),
        version=1,
    )


@pytest.mark.parametrize(
    ("text", "node", "prefix"),
    [
        ("10.42.2.5", "n2", "10.42.2.0/24"),
        ("10.42.2.200", "n3", "10.42.2.128/25"),  # the longest prefix has it
        ("fd42:0:0:2::9", "n2", "fd42:0:0:2::/64"),
        ("10.42.1.9", "n1", "10.42.1.0/24"),
    ],
)
def test_an_address_belongs_to_the_longest_subnet_that_holds_it(
    context: DoctorContext, text: str, node: str, prefix: str
) -> None:
    target = resolve(text, context, None, ())
    assert (target.node, target.prefix) == (node, ip_network(prefix))
    assert (target.peer is None) == (node == "n1")


@pytest.mark.parametrize("text", ["10.42.99.1", "192.0.2.2", "::1"])
def test_an_address_of_no_subnet_is_nobodys(context: DoctorContext, text: str) -> None:
    target = resolve(text, context, None, ())
    assert (target.address, target.node, target.prefix, target.peer) == (ip_address(text), "", None, None)


@pytest.mark.parametrize(("family", "address"), [(None, "10.42.2.0"), (4, "10.42.2.0"), (6, "fd42:0:0:2::")])
def test_a_node_stands_for_its_tunnel_in_the_wanted_family(
    context: DoctorContext, family: Any, address: str
) -> None:
    target = resolve("n2", context, family, ())
    assert (target.address, target.what) == (ip_address(address), "the tunnel of node n2")


def test_without_a_device_a_nodes_address_is_its_bridges(make_context: MakeContext) -> None:
    assert node_target("n2", make_context(device=""), None).address == ip_address("10.42.2.1")
    assert tunnel_address(ip_network("10.42.2.7/32"), False) == ip_address("10.42.2.7")


def test_a_family_that_the_node_has_not_is_said_with_those_it_has(context: DoctorContext) -> None:
    with pytest.raises(UnknownTarget, match=r"n3 has no IPv6 subnet; it has 10\.42\.2\.128/25"):
        resolve("n3", context, 6, ())


def test_a_node_that_nobody_knows_is_said_with_those_there_are(context: DoctorContext) -> None:
    with pytest.raises(UnknownTarget, match=r"'n7' is no address and no node .* one of: n1, n2, n3$"):
        resolve("n7", context, None, ())


def test_where_nobody_answers_the_list_of_nodes_says_so(make_context: MakeContext) -> None:
    blind = make_context(status=None, status_error="no socket", store_error="no file", peers=())
    with pytest.raises(
        UnknownTarget, match=r"No tulled answers here \(no socket\); nor does the store: no file"
    ):
        resolve("n2", blind, None, ())
    with pytest.raises(UnknownTarget, match=r"There are: none.*No tulled answers here"):
        other_node("n2", blind, None)


def test_only_another_node_is_pinged(context: DoctorContext) -> None:
    assert other_node("n2", context, 6).address == ip_address("fd42:0:0:2::")
    with pytest.raises(UnknownTarget, match=r"n1 is this node.* The others are: n2, n3"):
        other_node("n1", context, None)
    with pytest.raises(UnknownTarget, match=r"'10\.42\.2\.5' is no node that is known here"):
        other_node("10.42.2.5", context, None)


def test_many_nodes_are_not_all_listed(make_context: MakeContext) -> None:
    base = make_context().peers[1]
    peers = tuple(
        type(base)(key=str(n), node=f"m{n:02}", prefixes=(), endpoints=(), backend="") for n in range(40)
    )
    with pytest.raises(UnknownTarget, match=r"m00, m01, .*, m09 and 31 more"):
        resolve("x", make_context(peers=peers), None, ())


def test_a_pod_by_name_is_looked_for_on_its_node(context: DoctorContext) -> None:
    pods = [pod("web", "n3", "10.42.2.130"), pod("web", "n2", "10.42.2.5", "fd42:0:0:2::5")]
    assert resolve("n2/web", context, None, pods).address == ip_address("10.42.2.5")
    assert resolve("n2/web", context, 6, pods).address == ip_address("fd42:0:0:2::5")
    found = resolve("n3/web", context, None, pods)
    assert (found.what, found.node) == ("pod n3/web", "n3")
    with pytest.raises(UnknownTarget, match="none of the 2 pods under /p/pods/ has that node and name"):
        resolve("n2/other", context, None, pods)
    with pytest.raises(UnknownTarget, match="known here by address only"):
        resolve("n2/web", context, None, ())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"7",
        b"[]",
        b'{"metadata": 7}',
        b'{"metadata": {"name": "web"}, "spec": {"nodeName": "n2"}}',
        b'{"metadata": {"name": "web"}, "spec": {"nodeName": "n2"}, "status": {"podIP": "nonsense"}}',
        b'{"metadata": {"name": "web"}, "spec": {"nodeName": "n2"}, "status": {"podIPs": [7]}}',
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_such_pod_have_no_addresses(value: bytes) -> None:
    assert addresses_of(value, "n2", "web") == []


def test_a_pod_with_one_address_only_has_that() -> None:
    value = {"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"podIP": "10.1.2.3"}}
    assert addresses_of(json.dumps(value).encode(), "n", "a") == [ip_address("10.1.2.3")]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda one: (
            st.lists(one)
            | st.dictionaries(
                st.sampled_from(["metadata", "name", "spec", "nodeName", "status", "podIP", "podIPs", "ip"]),
                one,
            )
        ),
    )
)
def test_no_json_at_all_makes_it_fail(value: Any) -> None:
    assert isinstance(addresses_of(json.dumps(value).encode(), "n", "a"), list)
