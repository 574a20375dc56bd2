"""Options in groups: core, each plugin, those without effect."""

from __future__ import annotations

import pytest

from tulle.config.core_options import CORE_OPTIONS
from tulle.config.groups import all_options, option_groups
from tulle.config.inactive import INACTIVE_OPTIONS
from tulle.contracts.specs import OptionSpec

DISH = OptionSpec(name="dish")
SPOON = OptionSpec(name="spoon")


def test_core_comes_first_then_each_plugin_then_what_has_no_effect() -> None:
    groups = option_groups([("b", DISH), ("a", SPOON)])
    assert [group.name for group in groups] == ["core", "b", "a", ""]
    assert groups[0].options == CORE_OPTIONS
    assert groups[-1].options == INACTIVE_OPTIONS
    assert all_options(groups) == (*CORE_OPTIONS, DISH, SPOON, *INACTIVE_OPTIONS)


def test_the_options_of_one_plugin_stay_together() -> None:
    groups = option_groups([("b", DISH), ("a", OptionSpec(name="cup")), ("b", SPOON)])
    assert {group.name: len(group.options) for group in groups[1:-1]} == {"b": 2, "a": 1}


def test_a_plugins_option_takes_an_inactive_ones_place() -> None:
    kubernetes = OptionSpec(name="kube-api-url", flannel=True)
    groups = option_groups([("kubernetes", kubernetes)])
    assert [option for option in all_options(groups) if option.name == "kube-api-url"] == [kubernetes]
    assert len(groups[-1].options) == len(INACTIVE_OPTIONS) - 1


def test_without_an_inactive_option_there_is_no_group_for_them() -> None:
    mine = [("p", OptionSpec(name=option.name)) for option in INACTIVE_OPTIONS]
    assert [group.name for group in option_groups(mine)] == ["core", "p"]


def test_an_option_of_two_plugins_belongs_to_the_first() -> None:
    groups = option_groups([("a", DISH), ("b", OptionSpec(name="dish")), ("a", DISH)])
    assert [group.name for group in groups] == ["core", "a", ""]
    assert groups[1].options == (DISH,)


@pytest.mark.parametrize("name", ["dish", "iface"])
def test_two_that_differ_under_one_name_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"two plugins want a flag --{name}"):
        option_groups([("a", DISH), ("b", OptionSpec(name=name, kind="int"))])
