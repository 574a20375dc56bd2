"""br_netfilter: which bridges' packets the firewall does not see, and whether anything here needs that."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from pathlib import Path

import pytest

from tulle.contracts.doctor import DoctorContext
from tulle.doctor import bridge
from tulle.doctor.bridge import Needs, in_iptables, in_nft, judge, unseen_families
from tulle.kernel.underlay import LocalAddress, LocalLink
from tulle.lab.namespaces import CLONE_NEWNET, unshare

PROXY = Needs({"kube-proxy": {4, 6}})


def test_a_module_that_is_not_loaded_hides_everything_and_a_bridges_own_setting_is_enough() -> None:
    assert unseen_families({4: None, 6: None}, {4, 6}) == [4, 6]
    assert unseen_families({4: "0", 6: "0"}, {6}) == [4]
    assert unseen_families({4: "1", 6: "0"}, ()) == [6]


def test_without_the_module_kube_proxys_node_is_warned_and_told_to_load_it() -> None:
    (found,) = judge({"cni0": [4, 6]}, {4: None, 6: None}, PROXY)
    assert (found.severity, found.subject) == ("warning", "cni0")
    assert found.what.startswith("br_netfilter is not loaded: ")
    assert "(IPv4 and IPv6)" in found.what
    assert "kube-proxy" in found.what
    assert "services" in found.why
    assert found.mend.startswith("modprobe br_netfilter  # ")


def test_only_the_sysctls_that_are_off_are_to_be_set() -> None:
    (both,) = judge({"cni0": [4, 6]}, {4: "0", 6: "0"}, PROXY)
    four, six = "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"
    assert both.mend.startswith(f"sysctl -w {four}=1 {six}=1  # ")
    (one,) = judge({"cni0": [6]}, {4: "1", 6: "0"}, PROXY)
    assert one.mend.startswith(f"sysctl -w {six}=1  # ")
    assert one.what.startswith(f"{six} is 0: ")


def test_a_family_without_rules_does_not_matter() -> None:
    (found,) = judge({"cni0": [6]}, {4: "1", 6: "0"}, Needs({"kube-proxy": {4}}))
    assert found.severity == "ok"
    (mixed,) = judge({"cni0": [4, 6]}, {4: "0", 6: "0"}, Needs({"kube-proxy": {4}}))
    assert (mixed.severity, "ip6tables" in mixed.mend) == ("warning", False)


def test_where_nothing_needs_it_all_is_well_and_said() -> None:
    (found,) = judge({"cni0": [4]}, {4: "0"}, Needs({}))
    assert (found.severity, "no rules of kube-proxy's" in found.what) == ("ok", True)
    (seen,) = judge({"cni0": []}, {4: "1"}, Needs({}))
    assert (seen.severity, "sees" in seen.what) == ("ok", True)


def test_where_the_rules_cannot_be_read_it_is_not_known_unless_a_sign_was_seen() -> None:
    (found,) = judge({"cni0": [4]}, {4: "0"}, Needs({}, "nft: not permitted"))
    assert (found.severity, found.mend) == ("skipped", "sudo tulle doctor --check br-netfilter")
    assert "nft: not permitted" in found.what
    (sign,) = judge({"cni0": [4]}, {4: "0"}, Needs({"kube-proxy": {4}}, "nft: not permitted"))
    assert sign.severity == "warning"


def test_a_node_without_a_bridge_of_pods_is_skipped() -> None:
    assert [one.severity for one in judge({}, {4: None}, PROXY)] == ["skipped"]


def test_pods_are_behind_interfaces_with_an_address_of_our_subnets_but_the_tunnels(
    make_context: Callable[..., DoctorContext],
) -> None:
    links = [
        LocalLink(name, 1, 1500, True, (LocalAddress(ip_interface(address)),))
        for name, address in (
            ("cni0", "10.42.1.1/24"),
            ("tulle0", "10.42.1.0/32"),
            ("br1", "10.42.2.1/24"),
            ("eth0", "192.0.2.1/24"),
        )
    ]
    assert [one.name for one in bridge.pods_links(make_context(), links)] == ["cni0"]


def test_what_is_no_bridge_is_told_by_sys_and_what_sys_does_not_show_may_be_one(tmp_path: Path) -> None:
    (tmp_path / "cni0" / "bridge").mkdir(parents=True)
    (tmp_path / "cni0" / "bridge" / "nf_call_ip6tables").write_text("1\n")
    (tmp_path / "cni0" / "bridge" / "nf_call_iptables").write_text("0\n")
    (tmp_path / "dummy0").mkdir()
    assert [bridge.is_bridge(name, tmp_path) for name in ("cni0", "dummy0", "br7")] == [True, False, True]
    assert [bridge.own_calls(name, tmp_path) for name in ("cni0", "dummy0")] == [{6}, set()]


def test_kube_proxy_is_known_by_its_chains_and_tables_in_nft() -> None:
    chains = [
        {"metainfo": {"version": "1.0"}},
        {"chain": {"family": "ip", "table": "nat", "name": "KUBE-SERVICES"}},
        {"chain": {"family": "ip6", "table": "kube-proxy", "name": "services"}},
        {"chain": {"family": "inet", "table": "x", "name": "KUBE-ROUTER-FORWARD"}},
        {"chain": {"family": "ip", "table": "filter", "name": "KUBE-FIREWALL"}},
        {"chain": "?"},
        7,
    ]
    found = in_nft(json.dumps({"nftables": chains}))
    assert found == {"kube-proxy": {4, 6}, "kube-router": {4, 6}}
    for strange in ("[]", "{}", "no", '{"nftables": 1}'):
        with pytest.raises(ValueError, match=r"list of chains|Expecting value"):
            in_nft(strange)


def test_kube_proxy_is_known_by_its_chains_in_iptables() -> None:
    text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"
    assert in_iptables(text, 6) == {"kube-proxy": {6}}
    assert in_iptables(text.replace("KUBE-SERVICES", "KUBE-MARK-MASQ"), 4) == {}


NODE = """
ip link set lo up
ip link add cni0 type bridge
ip address add 10.42.1.1/24 dev cni0
echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
"""
RULES = "nft 'add table ip nat; add chain ip nat KUBE-SERVICES'"


def test_a_real_bridge_with_kube_proxys_rules_is_found_and_the_printed_command_mends_it(
    context: DoctorContext,
) -> None:
    if not Path("/proc/sys/net/bridge").is_dir():
        pytest.skip("needs a kernel with br_netfilter loaded: modprobe br_netfilter")
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(unshare, CLONE_NEWNET).result()
        except PermissionError:
            pytest.skip("needs root: a thread cannot make a network namespace otherwise")

        def sh(script: str) -> None:
            thread.submit(subprocess.run, ["sh", "-ec", script], check=True, timeout=30).result()

        def look() -> list[tuple[str, str]]:
            found = thread.submit(asyncio.run, bridge.check(context)).result()
            mends.extend(one.mend for one in found if one.mend)
            return [(one.severity, one.subject) for one in found]

        mends: list[str] = []
        assert look() == [("skipped", "br_netfilter")]
        sh(NODE)
        assert look() == [("ok", "cni0")]
        sh(RULES)
        assert look() == [("warning", "cni0")]
        sh(mends[-1])
        assert look() == [("ok", "cni0")]
