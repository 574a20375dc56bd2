"""Runs the checks one after the other. What a check does wrong is a finding, never a traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from tulle.contracts.doctor import Check, DoctorContext, Finding
from tulle.contracts.specs import DoctorCheck, load
from tulle.plugins import Plugins

CHECK_S = 20.0
"""A check that takes longer is given up."""


class Report(msgspec.Struct, frozen=True):
    """What `tulle doctor -o json` prints."""

    node: str
    errors: int
    warnings: int
    findings: tuple[Finding, ...]


class UnknownCheck(ValueError):
    """The text names those that there are."""


async def examine(
    context: DoctorContext, plugins: Plugins, only: Collection[str] = (), timeout_s: float = CHECK_S
) -> Report:
    """Run the checks of these names; none: all. Raises UnknownCheck for a name that no plugin provides."""
    checks = [one for _, one in plugins.collect("tulle_doctor_checks") if isinstance(one, DoctorCheck)]
    known = {one.name for one in checks}
    unknown = sorted(set(only) - known)
    if unknown:
        raise UnknownCheck(
            f"there is no check {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(known))}"
        )
    findings: list[Finding] = []
    for check in checks:
        if not only or check.name in only:
            findings += await run_one(check, context, timeout_s)
    findings += _broken_plugins(plugins)
    count = [one.severity for one in findings].count
    return Report(context.node, count("error"), count("warning"), tuple(findings))


async def run_one(check: DoctorCheck, context: DoctorContext, timeout_s: float) -> list[Finding]:
    """The check's findings under its name."""
    try:
        run: Check = load(check.factory)
        async with asyncio.timeout(timeout_s):
            found: Sequence[Finding] = await run(context)
        return [msgspec.structs.replace(one, check=check.name) for one in found]
    except TimeoutError:
        what = f"the check did not end within {timeout_s:g} s"
    except Exception as error:
        what = f"the check itself failed ({type(error).__name__}: {error})"
    return [
        Finding(
            check=check.name,
            severity="warning",
            subject=check.factory,
            what=what,
            why="what it looks at is not known to be right",
            mend="tulle plugins list  # who provides this check, and is to be told",
        )
    ]


def _broken_plugins(plugins: Plugins) -> list[Finding]:
    return [
        Finding(
            check="plugins",
            severity="warning",
            subject=one.name,
            what=f"this plugin is broken and was left out: {one.error}",
            why="what it provides is missing",
            mend="tulle plugins list",
        )
        for one in plugins.infos
        if one.error
    ]
