"""The table of chain priorities."""

from __future__ import annotations

import subprocess
from typing import Any

from tulle.kernel.nft_priorities import DSTNAT, FILTER, PLACES, SRCNAT


def test_no_two_chains_stand_at_the_same_place() -> None:
    places = [(one.hook, one.priority) for one in PLACES.values()]
    assert len(set(places)) == len(places)


def test_each_says_why_it_stands_there() -> None:
    assert all(one.why for one in PLACES.values())


def test_masquerading_comes_behind_the_source_nat_of_others() -> None:
    assert PLACES["masquerade"].priority > SRCNAT


def test_the_names_that_nft_has_for_numbers_mean_these(netns: Any) -> None:
    """nft shows a number by its name where it knows one."""
    chains = {
        "prerouting": ("dstnat", DSTNAT),
        "forward": ("filter", FILTER),
        "postrouting": ("srcnat", SRCNAT),
    }
    kinds = {"prerouting": "nat", "forward": "filter", "postrouting": "nat"}

    def listed() -> str:
        for hook, (_, number) in chains.items():
            place = f"type {kinds[hook]} hook {hook} priority {number};"
            text = f"table inet x {{\nchain {hook} {{\n{place}\n}}\n}}\n"
            subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
        return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout

    text = netns.call(listed)
    for name, _ in chains.values():
        assert f"priority {name};" in text
