"""What a change of the network config means for a node that runs: what is different, in words. Pure.

A node goes on with the config that it started with, whatever the store says later: its pods have their addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tulle.config.errors import ConfigError
from tulle.config.network import FamilyConfig, NetworkConfig, parse_network_config
from tulle.lease.allocate import fits
from tulle.net.prefix import Prefix, subnet_key


class Drift(msgspec.Struct, frozen=True):
    """The store's config is not the one that the node runs with."""

    kind: Literal["changed", "broken", "gone"]
    differences: tuple[str, ...]
    """For "changed" what is different, for "broken" what is wrong; for people. Values of backends and plugins are left
    out, since some are secret (a PSK)."""
    message: str
    """What happened, what stays, what to do."""


def drift(key: str, used: NetworkConfig, now: bytes | None, prefixes: Sequence[Prefix]) -> Drift | None:
    """`key`: where the config lies; `now`: what is there, None where nothing is; `prefixes`: the node's subnets, none
    where it has none yet. None where all that is said is the same."""
    stays = "nothing changes on this node until tulled is started again"
    if now is None:
        message = f"the network config at {key} is gone: {stays}, and no node can start: write it again (tulle init)"
        return Drift("gone", (), message)
    try:
        config = parse_network_config(now)
    except ConfigError as error:
        wrong = tuple(str(problem) for problem in error.problems)
        message = (
            f"the network config at {key} was changed and cannot be used ({'; '.join(wrong)}): {stays}, and no node "
            "can start: put it right (tulle config set)"
        )
        return Drift("broken", wrong, message)
    found = tuple(differences(used, config))
    if not found:
        return None
    message = f"the network config at {key} was changed ({'; '.join(found)}): {stays}"
    if prefixes and not fits([family.subnets() for family in config.families], subnet_key(tuple(prefixes))):
        message += (
            f". It then gets another subnet than {', '.join(map(str, prefixes))}, which the new config does not have, "
            "and its pods must be started anew"
        )
    return Drift("changed", found, message)


def differences(used: NetworkConfig, now: NetworkConfig) -> Iterator[str]:
    """What matters to a node, a line for each."""
    before = {family.family: family for family in used.families}
    after = {family.family: family for family in now.families}
    for family in sorted(before.keys() | after.keys()):
        was, is_now = _family(before.get(family)), _family(after.get(family))
        if was != is_now:
            yield f"IPv{family}: {is_now} instead of {was}"
    if used.backend_type != now.backend_type:
        yield f"Backend.Type: {now.backend_type!r} instead of {used.backend_type!r}"
    else:
        for option in _changed(used.backend_options, now.backend_options):
            yield f"Backend.{option}: another value"
    if used.enable_nftables != now.enable_nftables:
        said = "not said" if now.enable_nftables is None else str(now.enable_nftables).lower()
        yield f"EnableNFTables: {said}"
    for section in _changed(used.sections, now.sections):
        yield f"Tulle.{section}: another value"


def _family(family: FamilyConfig | None) -> str:
    if family is None:
        return "not used"
    subnets = family.subnets()
    return f"{family.network} with subnets {subnets.nth(0)} to {subnets.nth(subnets.count - 1)}"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = before.keys() | after.keys()
    missing = object()
    return sorted(name for name in names if before.get(name, missing) != after.get(name, missing))
