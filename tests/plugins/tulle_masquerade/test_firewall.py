"""Which tool is chosen."""

from __future__ import annotations

import pytest

from tulle_masquerade.firewall import choose


@pytest.mark.parametrize(
    ("enable", "fault", "iptables", "tool"),
    [
        (None, "", True, "nft"),
        (None, "", False, "nft"),
        (True, "", True, "nft"),
        (False, "", True, "iptables"),
        (False, "", False, "nft"),
        (None, "missing", True, "iptables"),
        (True, "missing", True, "iptables"),
        (True, "missing", False, ""),
        (False, "missing", True, "iptables"),
    ],
)
def test_the_config_chooses_as_far_as_the_node_has_the_tools(
    enable: bool | None, fault: str, iptables: bool, tool: str
) -> None:
    chosen = choose(enable, fault, iptables)
    assert chosen.tool == tool
    assert fault in chosen.because or enable is False


def test_where_the_config_cannot_be_followed_it_is_said() -> None:
    assert "EnableNFTables is false, but there is no iptables" in choose(False, "", False).because
