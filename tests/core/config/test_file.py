"""The configuration file: TOML, with flags as keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.file import parse_settings
from tulle.config.groups import option_groups
from tulle.contracts.specs import OptionSpec

GROUPS = option_groups(
    [("etcd", OptionSpec(name="etcd-endpoints", kind="list")), ("etcd", OptionSpec(name="etcd-username"))]
)


def parse(text: str | bytes) -> dict[str, Any]:
    data = text.encode() if isinstance(text, str) else text
    return parse_settings(data, "t.toml", GROUPS)


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [str(problem) for problem in caught.value.problems]


def test_keys_are_flags_names_with_either_dash() -> None:
    found = parse('node-name = "n"\nstate_dir = "/s"\nv = 2\niface = ["a", "b"]\nlog-backtrace-at = "x"\n')
    assert found == {
        "node-name": "n",
        "state-dir": "/s",
        "v": 2,
        "iface": ["a", "b"],
        "log_backtrace_at": "x",
    }


def test_a_plugins_flags_may_stand_in_a_table_of_its_name() -> None:
    found = parse('v = 1\n[etcd]\netcd-endpoints = ["http://a"]\netcd_username = "u"\n')
    assert found == {"v": 1, "etcd-endpoints": ["http://a"], "etcd-username": "u"}


def test_a_setting_that_has_slipped_into_a_table_is_pointed_out() -> None:
    (only,) = problems('[etcd]\nnode-name = "n"\n')
    assert only == (
        "t.toml: [etcd] node-name: is not a setting of plugin etcd; give one of etcd-endpoints, etcd-username; "
        "a setting of another part has to stand above the first [table]"
    )


@pytest.mark.parametrize(
    "text", ['node-name = "a"\nnode_name = "b"\n', 'etcd-username = "a"\n[etcd]\netcd-username = "b"\n']
)
def test_a_setting_that_stands_there_twice_is_a_problem(text: str) -> None:
    (only,) = problems(text)
    assert only.endswith("stands there twice; give it once")


def test_unknown_keys_and_tables_are_left_for_the_flags_to_name() -> None:
    assert parse("nodename = 1\n[nowhere]\nx = 1\n") == {"nodename": 1, "nowhere": {"x": 1}}


@pytest.mark.parametrize("key", ["config-file", "config_file", "check"])
def test_what_only_a_flag_can_say_is_refused(key: str) -> None:
    (only,) = problems(f'{key} = "x"\n')
    assert only.startswith(f"t.toml: {key}: ")
    assert only.endswith(f"give it as a flag, --{key.replace('_', '-')}=...")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('v = 1\nnode-name = "a\n', "(at line 2, column 15)"),
        ("v = 1\nv = 2\n", "(at line 2, column 6)"),
        (b'v = 1\nnode-name = "a\xff"\n', "is not UTF-8 text (at line 2, column 15)"),
        (b"\xff", "is not UTF-8 text (at line 1, column 1)"),
    ],
)
def test_what_is_not_toml_is_told_with_line_and_column(text: str | bytes, place: str) -> None:
    (only,) = problems(text)
    assert only.startswith("t.toml: is not ")
    assert place in only


def test_all_misplaced_keys_are_told_at_once() -> None:
    assert len(problems('check = 1\nconfig-file = "x"\n[etcd]\nv = 1\n')) == 3


@given(st.binary(max_size=64) | st.text(st.characters(codec="utf-8"), max_size=64).map(str.encode))
def test_any_bytes_are_settings_or_a_config_error(data: bytes) -> None:
    try:
        found = parse(data)
    except ConfigError as error:
        if not error.problems:
            pytest.fail("an error without a problem")
    else:
        assert isinstance(found, dict)


def test_nesting_without_end_is_a_problem_and_no_traceback() -> None:
    (only,) = problems("v = " + "[" * 100_000)
    assert only.startswith("t.toml: is not TOML")
