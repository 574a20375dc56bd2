"""What `tulled --help` prints."""

from __future__ import annotations

from tulle.config.groups import Group, option_groups
from tulle.config.help import help_text
from tulle.contracts.specs import OptionSpec

MINE = (
    OptionSpec(name="endpoints", kind="list"),
    OptionSpec(name="away", kind="bool", default=True, help="stay away"),
    OptionSpec(name="file", default="{state-dir}/f", help="a file"),
    OptionSpec(name="margin", kind="duration", default=5),
    OptionSpec(name="word", secret=True, default="hunter2"),
)


def text(*options: OptionSpec, plugin: str = "mine") -> str:
    return help_text(option_groups((plugin, option) for option in options), "tulled", "Joins pods.")


def test_it_opens_with_the_usage_and_names_every_option_once() -> None:
    found = text(*MINE)
    assert found.startswith("Usage: tulled [flags]\nJoins pods.\n\nFlags:\n")
    names = [line.split()[0] for line in found.splitlines() if line.startswith("  --")]
    assert len(names) == len(set(names))
    wanted = {f"--{option.name}" for group in option_groups([]) for option in group.options}
    assert wanted | {"--check", "--help", "--version", "--away"} <= set(names)


def test_a_plugins_flags_stand_under_its_name_between_cores_and_those_without_effect() -> None:
    found = text(*MINE)
    titles = [line for line in found.splitlines() if line.startswith("Flags")]
    assert titles == ["Flags:", "Flags of plugin mine:", "Flags of flannel without effect yet:"]
    own = found[found.index(titles[1]) : found.index(titles[2])]
    assert own == (
        "Flags of plugin mine:\n"
        "  --away\n        stay away (default true)\n"
        "  --endpoints list (commas, repeatable)\n"
        "  --file text\n        a file (default <state-dir>/f)\n"
        "  --margin duration\n        (default 5m)\n"
        "  --word text\n        (default hidden)\n\n"
    )


def test_a_flag_that_a_plugin_has_taken_over_stands_there_and_no_longer_below() -> None:
    found = text(OptionSpec(name="ip-masq", kind="bool", flannel=True), plugin="masq")
    assert found.count("  --ip-masq\n") == 1
    assert found.index("Flags of plugin masq:") < found.index("  --ip-masq\n") < found.index("without effect")


def test_a_plugin_without_flags_has_no_title() -> None:
    assert "plugin" not in help_text([Group("core", ()), Group("empty", ())], "tulled")
