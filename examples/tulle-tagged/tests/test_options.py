"""The options, as the network config brings them."""

from __future__ import annotations

from typing import Any

import pytest
from tulle.config.errors import ConfigError
from tulle.config.options import convert_options

from tulle_tagged.options import TaggedOptions


def test_nothing_needs_to_be_given() -> None:
    assert convert_options(TaggedOptions, {}) == (TaggedOptions(cluster="default", port=8286), ())


def test_keys_are_matched_without_case_and_unknown_ones_are_told() -> None:
    given = {"CLUSTER": "blue", "port": 9000, "Colour": "green"}
    assert convert_options(TaggedOptions, given) == (TaggedOptions(cluster="blue", port=9000), ("Colour",))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"Cluster": ""}, "Backend.Cluster"),
        ({"Cluster": "x" * 64}, "of at most 63 characters"),
        ({"Cluster": 7}, "text in quotes"),
        ({"Port": 0}, "Backend.Port"),
        ({"Port": 70000}, "up to 65535"),
        ({"Port": "8286"}, "a whole number"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_key_and_what_would_be_right(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        convert_options(TaggedOptions, given)
