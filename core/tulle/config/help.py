"""What `--help` prints: flags by group, each with its default."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tulle.config.core_options import CONFIG_FILE
from tulle.config.groups import CORE, Group
from tulle.contracts.specs import OptionSpec

BUILTIN = (
    OptionSpec(
        name="check",
        kind="bool",
        help="print the settings with where each is from, and exit; --check=json for programs",
    ),
    OptionSpec(name="help", kind="bool", help="print this and exit"),
    OptionSpec(name="version", kind="bool", help="print the version and exit"),
)
"""Flags that no option list needs to name."""

_KIND_WORDS = {"bool": "", "texts": " text (repeatable)", "list": " list (commas, repeatable)"}

_END = f"""
One dash does as well as two. A flag comes before its variable in the environment (--node-name: TULLED_NODE_NAME;
flannel's flags: FLANNELD_... too, where TULLED_... is not set), that before the config file, that before the default.
The file ({CONFIG_FILE}) is TOML: node-name = "n1".
"""


def help_text(groups: Sequence[Group], program: str, summary: str = "") -> str:
    """The groups in their order, the flags of each by name."""
    lines = [f"Usage: {program} [flags]", *((summary,) if summary else ())]
    for group in groups:
        options = (*group.options, *BUILTIN) if group.name == CORE else group.options
        if options:
            lines += ["", f"{title(group)}:", *_flags(options)]
    return "\n".join(lines) + "\n" + _END


def title(group: Group) -> str:
    """Over a group's flags."""
    if group.name == CORE:
        return "Flags"
    return f"Flags of plugin {group.name}" if group.name else "Flags of flannel without effect yet"


def _flags(options: Iterable[OptionSpec]) -> Iterator[str]:
    for option in sorted(options, key=lambda one: one.name):
        kind = _KIND_WORDS.get(option.kind, f" {option.kind}")
        yield f"  --{option.name}{kind}"
        if text := explained(option):
            yield f"        {text}"


def explained(option: OptionSpec) -> str:
    """Its help and its default, where it has one."""
    default = "" if option.default in (None, False, "") else f" (default {_default(option)})"
    return (option.help + default).strip()


def _default(option: OptionSpec) -> str:
    if option.secret:
        return "hidden"
    if isinstance(option.default, bool):
        return str(option.default).lower()
    unit = "m" if option.kind == "duration" and isinstance(option.default, int) else ""
    return str(option.default).replace("{", "<").replace("}", ">") + unit
