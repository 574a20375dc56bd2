"""What `tulled --check` prints: every value, and where it is from."""

from __future__ import annotations

import json

import pytest

from tulle.config.daemon import daemon_config
from tulle.config.effective import Setting, as_json, as_text, effective, unused
from tulle.config.flags import parse_flags
from tulle.config.groups import all_options, option_groups
from tulle.contracts.specs import OptionSpec, StoreSpec

FAR = StoreSpec(
    name="far",
    factory="a:b",
    chosen_by=("far-endpoints",),
    options=(
        OptionSpec(name="far-endpoints", kind="list"),
        OptionSpec(name="far-word", secret=True),
        OptionSpec(name="far-switch", kind="bool"),
    ),
)
NEAR = StoreSpec(
    name="near",
    factory="a:b",
    embedded=True,
    options=(OptionSpec(name="near-file", default="{state-dir}/n"),),
)
STORES = (FAR, NEAR)
GROUPS = option_groups((spec.name, option) for spec in STORES for option in spec.options)


def settings(*argv: str, environ: dict[str, str] | None = None) -> tuple[Setting, ...]:
    parsed = parse_flags(all_options(GROUPS), argv, environ or {}, {"v": 2}, file_name="/t.toml")
    return effective(GROUPS, parsed, daemon_config(parsed, STORES, hostname="host"), STORES)


def one(name: str, *argv: str, environ: dict[str, str] | None = None) -> Setting:
    return next(setting for setting in settings(*argv, environ=environ) if setting.name == name)


def test_every_option_is_there_under_its_group() -> None:
    found = settings()
    assert len(found) == len(all_options(GROUPS))
    assert list(dict.fromkeys(setting.group for setting in found)) == ["core", "far", "near", ""]


def test_each_value_says_where_it_is_from() -> None:
    environ = {"FLANNELD_PUBLIC_IP": "192.0.2.7"}
    assert one("public-ip", environ=environ) == Setting(
        "public-ip", "192.0.2.7", "environment FLANNELD_PUBLIC_IP", "core"
    )
    assert one("v") == Setting("v", 2, "file /t.toml", "core")
    assert one("iface", "--iface=a,b") == Setting("iface", ["a", "b"], "flag", "core")
    assert one("engine") == Setting("engine", "auto", "default", "core")


def test_values_are_those_that_take_effect() -> None:
    assert one("node-name") == Setting("node-name", "host", "host name", "core")
    assert one("near-file", "--state-dir=/s").value == "/s/n"
    assert one("etcd-prefix", "--etcd-prefix=a//b/").value == "/a/b"
    assert one("subnet-lease-renew-margin", "--subnet-lease-renew-margin=90s").value == "90s"
    assert one("subnet-lease-renew-margin").value == "60m"
    assert (one("store").value, one("store").source) == ("near", "default")
    chosen = one("store", "--far-endpoints=x")
    assert (chosen.value, chosen.source) == ("far", "chosen by --far-endpoints")


def test_what_has_no_effect_says_so_where_it_was_given() -> None:
    assert one("kube-api-url").note == ""
    note = "no effect: this tulle has no Kubernetes subnet manager yet"
    assert one("kube-api-url", "--kube-api-url=http://192.0.2.1").note == note
    assert one("near-file", "--near-file=/n", "--far-endpoints=x").note == "not used: the store is far"
    assert one("near-file", "--near-file=/n").note == ""


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], {}),
        (["--far-endpoints=x", "--far-word=y"], {}),
        (["--store=near", "--far-endpoints=x", "--near-file=/n"], {"far-endpoints": "far"}),
        (["--store=near", "--far-switch"], {"far-switch": "far"}),
        (["--store=near", "--far-switch=false"], {}),
        (["--far-word=y"], {"far-word": "far"}),
        (["--far-endpoints=x", "--near-file=/n"], {"near-file": "near"}),
    ],
)
def test_flags_of_a_store_that_is_not_in_use_are_found(argv: list[str], found: dict[str, str]) -> None:
    parsed = parse_flags(all_options(GROUPS), argv, {})
    assert unused(parsed, daemon_config(parsed, STORES, hostname="host"), STORES) == found


def test_neither_form_shows_a_secret() -> None:
    found = settings("--far-endpoints=x", "--far-word=hunter2")
    for text in (as_text(found, None), as_json(found, None), repr(found)):
        assert "hunter2" not in text
        assert "(hidden)" in text
    assert one("far-word").value is None


def test_the_table_has_a_line_for_each_and_quotes_what_would_not_be_seen() -> None:
    text = as_text(
        settings("--iface-regex=a b", "--far-word=", "--public-ip=", "--vmodule=main=4"), "/t.toml"
    )
    lines = [line.split() for line in text.splitlines()]
    assert " ".join(lines[0]) == "The settings can be used. Config file: /t.toml."
    assert ["plugin", "far:"] in lines
    assert ["without", "effect", "yet:"] in lines
    assert ["--v", "2", "file", "/t.toml"] in lines
    assert ["--iface-regex", "a", "b", "flag"] in lines
    assert ["--public-ip", "''", "flag"] in lines
    assert ["--iface", "-", "default"] in lines
    (idle,) = (" ".join(line) for line in lines if line[:1] == ["--vmodule"])
    assert idle.startswith("--vmodule main=4 flag; no effect:")


def test_json_is_one_line_that_programs_can_read() -> None:
    text = as_json(settings("--iface=a"), "/t.toml")
    assert "\n" not in text
    found = json.loads(text)
    assert found["config_file"] == "/t.toml"
    assert found["settings"]["iface"] == {"value": ["a"], "source": "flag", "group": "core", "note": ""}
    assert set(found["settings"]) == {option.name for option in all_options(GROUPS)}
