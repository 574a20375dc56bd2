"""Whose flag is whose: core's first, then each plugin's, then those that nothing carries out yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tulle.config.core_options import CORE_OPTIONS
from tulle.config.inactive import INACTIVE_OPTIONS
from tulle.contracts.specs import OptionSpec

CORE = "core"


class Group(msgspec.Struct, frozen=True):
    """Flags that belong together."""

    name: str
    """ "core", a plugin's name, or "" for the inactive ones."""
    options: tuple[OptionSpec, ...]


def option_groups(by_plugin: Iterable[tuple[str, OptionSpec]]) -> tuple[Group, ...]:
    """`by_plugin`: each plugin's name with an option of it. Every name once: where two agree, the first has it; a
    plugin's option takes an inactive one's place. Raises ValueError where two differ."""
    owners: dict[str, OptionSpec] = {}
    members: dict[str, list[OptionSpec]] = {CORE: []}
    for owner, option in (*((CORE, one) for one in CORE_OPTIONS), *by_plugin):
        if option.name not in owners:
            owners[option.name] = option
            members.setdefault(owner, []).append(option)
        elif owners[option.name] != option:
            raise ValueError(
                f"two plugins want a flag --{option.name}, each in its own way: remove one of them"
            )
    inactive = tuple(option for option in INACTIVE_OPTIONS if option.name not in owners)
    found = [Group(name, tuple(options)) for name, options in members.items()]
    return (*found, *((Group("", inactive),) if inactive else ()))


def all_options(groups: Sequence[Group]) -> tuple[OptionSpec, ...]:
    return tuple(option for group in groups for option in group.options)
