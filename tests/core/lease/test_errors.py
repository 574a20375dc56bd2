"""What a node is told that lost its name or its subnet."""

from __future__ import annotations

from tulle.lease.errors import ConfigChanged, duplicate


def test_a_duplicate_is_told_which_name_who_has_it_and_the_ways_out() -> None:
    text = str(duplicate("web-3", "node id 0123, boot id 4567"))
    assert "another tulled is alive under the node name 'web-3' (node id 0123, boot id 4567)" in text
    assert "stop one of the two" in text
    assert "--node-name" in text
    assert "cloned" in text


def test_a_changed_config_ends_a_tulled_that_does_not_know_better_with_its_message_alone() -> None:
    """tulled shows a ValueError as a message and no traceback."""
    assert isinstance(ConfigChanged("x"), ValueError)
