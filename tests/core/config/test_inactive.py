"""flannel's flags of parts that tulle does not have."""

from __future__ import annotations

import pytest

from tulle.config.core_options import CORE_OPTIONS
from tulle.config.errors import ConfigError
from tulle.config.flags import parse_flags
from tulle.config.inactive import INACTIVE_OPTIONS
from tulle.contracts.specs import OptionSpec

WRONG = {"bool": "perhaps", "int": "some"}


@pytest.mark.parametrize("option", INACTIVE_OPTIONS, ids=lambda option: option.name)
def test_each_is_flannels_says_what_is_missing_and_is_known_to_nobody_else(option: OptionSpec) -> None:
    assert option.flannel
    assert option.inactive
    assert option.help
    assert option.name not in {one.name for one in CORE_OPTIONS}


@pytest.mark.parametrize(
    "option", [one for one in INACTIVE_OPTIONS if one.kind in WRONG], ids=lambda option: option.name
)
def test_a_value_of_the_wrong_kind_is_refused_all_the_same(option: OptionSpec) -> None:
    with pytest.raises(ConfigError, match=f"--{option.name}: "):
        parse_flags(INACTIVE_OPTIONS, [f"--{option.name}={WRONG[option.kind]}"], {})
