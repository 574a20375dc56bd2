"""The list of core options is sound."""

from __future__ import annotations

import pytest

from tulle.config.core_options import CORE_OPTIONS
from tulle.config.flags import parse_flags
from tulle.contracts.specs import OptionSpec


@pytest.mark.parametrize("option", CORE_OPTIONS, ids=lambda option: option.name)
def test_each_option_says_what_it_is_for_and_has_a_default_of_its_kind(option: OptionSpec) -> None:
    assert option.help
    assert not option.inactive
    assert option.name in parse_flags([option], [], {}).values


def test_no_name_is_there_twice() -> None:
    names = [option.name for option in CORE_OPTIONS]
    assert len(names) == len(set(names))
