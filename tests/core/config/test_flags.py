"""Flags as Go parses them, and where a value may come from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.config.errors import ConfigError
from tulle.config.flags import parse_flags, peek
from tulle.contracts.specs import OptionSpec

OPTIONS = (
    OptionSpec(name="etcd-endpoints", kind="list", flannel=True, help="where etcd is"),
    OptionSpec(name="etcd-password", secret=True, flannel=True),
    OptionSpec(name="ip-masq", kind="bool", flannel=True),
    OptionSpec(name="margin", kind="duration", default=60),
    OptionSpec(name="node-name"),
    OptionSpec(name="secret-number", kind="int", secret=True),
    OptionSpec(name="state-dir", default="/var/lib/tulle", help="what outlives a reboot"),
    OptionSpec(name="v", kind="int", default=0, flannel=True),
)


def value(
    name: str, *argv: str, environ: dict[str, str] | None = None, file: dict[str, Any] | None = None
) -> Any:
    return parse_flags(OPTIONS, argv, environ or {}, file).values[name]


def problems(
    *argv: str, environ: dict[str, str] | None = None, file: dict[str, Any] | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_flags(OPTIONS, argv, environ or {}, file)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "argv", [("-v=3",), ("--v=3",), ("-v", "3"), ("--v", "3"), ("-v", "1", "--v=3"), ("-v=0x3",)]
)
def test_one_dash_or_two_and_a_value_beside_or_behind_are_the_same(argv: tuple[str, ...]) -> None:
    assert value("v", *argv) == 3


@pytest.mark.parametrize(("word", "wanted"), [("1", True), ("TRUE", True), ("0", False), ("f", False)])
def test_a_switch_takes_gos_words(word: str, wanted: bool) -> None:
    assert value("ip-masq", f"--ip-masq={word}") is wanted
    assert value("ip-masq", environ={"TULLED_IP_MASQ": word}) is wanted


def test_a_bare_switch_is_on_and_eats_no_value() -> None:
    assert value("ip-masq", "--ip-masq") is True
    assert value("ip-masq") is False
    assert value("ip-masq", "-ip-masq", "-v", "3") is True
    assert "flag that is on or off: --name or --name=false" in problems("--ip-masq", "false")[0]


def test_lists_are_split_at_commas_and_add_up() -> None:
    argv = ("-etcd-endpoints", "http://a, http://b", "--etcd-endpoints=http://c,")
    assert value("etcd-endpoints", *argv) == ("http://a", "http://b", "http://c")
    assert value("etcd-endpoints", environ={"TULLED_ETCD_ENDPOINTS": "x,y"}) == ("x", "y")
    assert value("etcd-endpoints") == ()


@pytest.mark.parametrize(("text", "seconds"), [("30", 1800.0), ("90s", 90.0), ("1h30m", 5400.0), ("0", 0.0)])
def test_a_duration_is_gos_or_whole_minutes(text: str, seconds: float) -> None:
    assert value("margin", "--margin", text) == seconds
    assert value("margin") == 3600.0


def test_a_value_may_look_like_a_flag_and_hold_an_equals_sign() -> None:
    assert value("etcd-password", "--etcd-password", "--v") == "--v"
    assert value("etcd-password", "--etcd-password=a=b") == "a=b"
    assert value("node-name", "--node-name=") == ""


def test_each_source_gives_way_to_the_one_before_it() -> None:
    environ = {"TULLED_V": "2", "FLANNELD_V": "3", "FLANNELD_NODE_NAME": "not flannel's"}
    parsed = parse_flags(OPTIONS, ["-v=1"], environ, {"v": 4})
    assert (parsed.values["v"], parsed.sources["v"]) == (1, "flag")
    parsed = parse_flags(OPTIONS, [], environ, {"v": 4})
    assert (parsed.values["v"], parsed.sources["v"]) == (2, "environment TULLED_V")
    del environ["TULLED_V"]
    parsed = parse_flags(OPTIONS, [], environ, {"v": 4})
    assert (parsed.values["v"], parsed.sources["v"]) == (3, "environment FLANNELD_V")
    environ["FLANNELD_V"] = ""
    parsed = parse_flags(OPTIONS, [], environ, {"v": 4})
    assert (parsed.values["v"], parsed.sources["v"]) == (4, "file")
    assert parsed.given == {"v"}
    parsed = parse_flags(OPTIONS, [], environ)
    assert (parsed.values["v"], parsed.sources["v"]) == (0, "default")
    assert parsed.values["node-name"] is None
    assert parsed.given == frozenset()


def test_a_file_brings_values_of_their_own_types() -> None:
    file = {
        "v": 3,
        "ip-masq": True,
        "etcd-endpoints": ["a", "b"],
        "margin": 5,
        "node-name": "n",
        "state-dir": None,
    }
    parsed = parse_flags(OPTIONS, [], {}, file)
    assert [parsed.values[name] for name in file] == [3, True, ("a", "b"), 300.0, "n", "/var/lib/tulle"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nodename=x"], "--nodename: is not a flag of tulled; give --node-name, if you meant that"),
        (["--zzzzzzz"], "--zzzzzzz: is not a flag of tulled; give one that --help lists"),
        (["start"], 'tulled: "start" is not a flag; give flags only'),
        (["-"], 'tulled: "-" is not a flag'),
        (["--", "-v=1"], 'tulled: "-v=1" is not a flag'),
        (["---v=1"], "---v: is not a flag; give flags as --name=value"),
        (["-=1"], "-: is not a flag"),
        (["-v"], "--v: needs a value; give a whole number"),
        (["-v=high"], '--v: "high" is not a whole number'),
        (["-v="], '--v: "" is not a whole number'),
        (["--ip-masq=yes"], '--ip-masq: "yes" is not true or false'),
        (["--margin=1d"], '--margin: "1d" is not a duration such as 1h30m, or whole minutes'),
        (["--version=maybe"], '--version: "maybe" is neither true nor false'),
        (["--V=1"], "--V: is not a flag of tulled; give --v, if you meant that"),
    ],
)
def test_a_broken_flag_gives_one_clear_message(argv: list[str], message: str) -> None:
    (only,) = problems(*argv)
    assert message in only
    assert "; give " in only


def test_a_broken_variable_is_named() -> None:
    assert problems(environ={"FLANNELD_V": "x"}) == [
        'FLANNELD_V: "x" is not a whole number; give a whole number'
    ]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"nodename": 1}, "file: nodename: is not a setting; give node-name, if you meant that"),
        ({"v": "x"}, 'file: v: "x" is not a whole number'),
        ({"v": True}, "file: v: true is not a whole number"),
        ({"ip-masq": 1}, "file: ip-masq: 1 is not true or false"),
        ({"etcd-endpoints": [1]}, "file: etcd-endpoints: [1] is not a comma-separated list"),
        ({"node-name": {}}, "file: node-name: {} is not text"),
    ],
)
def test_a_broken_file_is_named(file: dict[str, Any], message: str) -> None:
    (only,) = problems(file=file)
    assert message in only


def test_all_problems_are_told_at_once() -> None:
    found = problems("-v=x", "--nope", "--margin=1d", environ={"TULLED_IP_MASQ": "maybe"}, file={"else": 1})
    assert [one.split(": ")[0] for one in found] == ["--v", "--nope", "--margin", "file", "TULLED_IP_MASQ"]


def test_no_message_and_no_dump_shows_a_secret() -> None:
    found = problems("--secret-number=hunter2", "--etcd-pasword", "hunter2", "--etcd-pasword=hunter2")
    assert len(found) == 3
    assert "hunter2" not in str(found)
    parsed = parse_flags(OPTIONS, ["--etcd-password=hunter2"], {"TULLED_SECRET_NUMBER": "4711"})
    assert parsed.values["etcd-password"] == "hunter2"
    for dump in (repr(parsed), str(parsed), repr(list(parsed.__rich_repr__())), json.dumps(parsed.shown())):
        assert "hunter2" not in dump
        assert "4711" not in dump
        assert "(hidden)" in dump


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["-h"], "help"),
        (["-help"], "help"),
        (["--help", "--nope"], "help"),
        (["--nope", "x", "--help"], "help"),
        (["--version"], "version"),
        (["-version=true"], "version"),
        (["--version=false"], None),
        (["--etcd-password", "--help"], None),
        (["-v=1"], None),
    ],
)
def test_help_and_version_are_recognised(argv: list[str], asked: str | None) -> None:
    parsed = parse_flags(OPTIONS, argv, {})
    assert parsed.asked == asked
    assert parsed.values["state-dir"] == "/var/lib/tulle"


def test_repeatable_texts_keep_their_commas() -> None:
    options = [OptionSpec(name="pattern", kind="texts", flannel=True)]
    found = parse_flags(options, ["--pattern=a{1,2}", "-pattern", "b", "--pattern="], {})
    assert found.values["pattern"] == ("a{1,2}", "b")
    found = parse_flags(options, [], {"FLANNELD_PATTERN": "a{1,2}"})
    assert found.values["pattern"] == ("a{1,2}",)
    assert parse_flags(options, [], {}, {"pattern": ["a", "b"]}).values["pattern"] == ("a", "b")
    assert parse_flags(options, [], {}, {"pattern": "a,b"}).values["pattern"] == ("a,b",)
    assert parse_flags(options, [], {}).values["pattern"] == ()
    with pytest.raises(ConfigError, match="file: pattern: 1 is not text, or a list of texts"):
        parse_flags(options, [], {}, {"pattern": 1})


def test_a_named_file_is_named_in_messages_and_sources() -> None:
    parsed = parse_flags(OPTIONS, [], {}, {"v": 1}, file_name="/etc/t.toml")
    assert parsed.sources["v"] == "file /etc/t.toml"
    with pytest.raises(ConfigError, match=r"  /etc/t\.toml: vv: is not a setting; give v, if you meant that"):
        parse_flags(OPTIONS, [], {}, {"vv": 1}, file_name="/etc/t.toml")


@pytest.mark.parametrize(
    ("argv", "check"),
    [
        (["--check"], "text"),
        (["-check=text"], "text"),
        (["--check=true", "-v=1"], "text"),
        (["--check=json"], "json"),
        (["--check=json", "--check=false"], None),
        ([], None),
    ],
)
def test_a_check_can_be_asked_for_in_two_forms(argv: list[str], check: str | None) -> None:
    assert parse_flags(OPTIONS, argv, {}).check == check


def test_a_check_in_no_known_form_is_a_problem() -> None:
    assert problems("--check=yaml") == ['--check: "yaml" is no form to print in; give text or json']


def test_inactive_options_are_told_where_they_are_given() -> None:
    options = [
        *OPTIONS,
        OptionSpec(name="a", inactive="part"),
        OptionSpec(name="b", inactive="part", default="x"),
    ]
    parsed = parse_flags(options, ["--a=1", "-v=1"], {})
    assert (parsed.inactive, parsed.without_effect) == ({"a": "part"}, frozenset("ab"))


@pytest.mark.parametrize(
    ("argv", "environ", "wanted"),
    [
        (["--nope", "x", "--node-name=n", "--v=wrong"], {"TULLED_NODE_NAME": "m"}, "n"),
        (["--nope"], {"TULLED_NODE_NAME": "m"}, "m"),
        (["--node-name="], {"TULLED_NODE_NAME": "m"}, ""),
        ([], {}, None),
        (["--node-name"], {}, None),
    ],
)
def test_one_value_can_be_had_before_the_rest_is_right(
    argv: list[str], environ: dict[str, str], wanted: str | None
) -> None:
    assert peek(OPTIONS, argv, environ, "node-name") == wanted


def test_a_default_that_does_not_fit_is_the_authors_mistake() -> None:
    with pytest.raises(ValueError, match="the default of --x"):
        parse_flags([OptionSpec(name="x", kind="int", default="many")], [], {})


words = st.text(st.characters(codec="utf-8"), max_size=12)


@given(
    words, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(st.text("abc:/.", min_size=1)), st.data()
)
def test_what_is_written_as_flags_is_read_back(
    text: str, number: int, switch: bool, items: list[str], pick: st.DataObject
) -> None:
    written = {"node-name": text, "v": str(number), "etcd-endpoints": ",".join(items)}
    argv = [f"--ip-masq={json.dumps(switch)}"]
    for name, word in written.items():
        dashes = pick.draw(st.sampled_from(["-", "--"]))
        argv += [f"{dashes}{name}={word}"] if pick.draw(st.booleans()) else [f"{dashes}{name}", word]
    values = parse_flags(OPTIONS, argv, {}).values
    assert [values[name] for name in (*written, "ip-masq")] == [text, number, tuple(items), switch]


@given(
    st.lists(
        words | st.builds("".join, st.tuples(st.sampled_from(["-", "--", "--v", "--ip-masq", "-v="]), words))
    ),
    st.dictionaries(st.sampled_from(["TULLED_V", "FLANNELD_V", "TULLED_MARGIN"]), words),
)
def test_any_words_are_settings_or_a_config_error(argv: list[str], environ: dict[str, str]) -> None:
    try:
        parsed = parse_flags(OPTIONS, argv, environ)
    except ConfigError as error:
        if not error.problems:
            pytest.fail("an error without a problem")
    else:
        assert set(parsed.values) == {option.name for option in OPTIONS}
