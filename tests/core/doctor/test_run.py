"""Running checks: what they do wrong is a finding."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.specs import DoctorCheck
from tulle.doctor.run import UnknownCheck, examine, run_one
from tulle.hookspecs import hookimpl
from tulle.plugins import PluginInfo, Plugins, load_plugins


async def fine(ctx: DoctorContext) -> list[Finding]:
    return [Finding(severity="ok", subject=ctx.node, what="good")]


async def crashes(ctx: DoctorContext) -> list[Finding]:
    raise RuntimeError("a bug")


async def hangs(ctx: DoctorContext) -> list[Finding]:
    await asyncio.sleep(3600)
    return []


async def complains(ctx: DoctorContext) -> list[Finding]:
    return [
        Finding(severity="error", subject="x", what="bad", why="y", mend="z"),
        Finding(severity="warning", subject="x", what="not good", why="y", mend="z"),
    ]


class Checks:
    """A plugin."""

    def __init__(self, *names: str) -> None:
        self._names = names

    @hookimpl
    def tulle_doctor_checks(self) -> Sequence[DoctorCheck]:
        return [DoctorCheck(name=name, factory=f"{__name__}:{name}") for name in self._names]


def plugins(*names: str) -> Plugins:
    made = Plugins()
    made.add(PluginInfo(name="mine", version="1"), Checks(*names))
    return made


@pytest.mark.parametrize(
    ("name", "said"),
    [("crashes", "RuntimeError: a bug"), ("missing", "AttributeError"), ("hangs", "did not end")],
)
def test_a_check_that_crashes_hangs_or_is_missing_is_a_finding(
    context: DoctorContext, name: str, said: str
) -> None:
    check = DoctorCheck(name=name, factory=f"{__name__}:{name}")
    (found,) = asyncio.run(run_one(check, context, 0.05))
    assert (found.check, found.severity) == (name, "warning")
    assert said in found.what


def test_the_others_go_on_and_errors_and_warnings_are_counted(context: DoctorContext) -> None:
    report = asyncio.run(examine(context, plugins("crashes", "fine", "complains")))
    assert [(one.check, one.severity) for one in report.findings] == [
        ("crashes", "warning"),
        ("fine", "ok"),
        ("complains", "error"),
        ("complains", "warning"),
    ]
    assert (report.node, report.errors, report.warnings) == ("n1", 1, 2)


def test_only_what_is_asked_for_is_run(context: DoctorContext) -> None:
    report = asyncio.run(examine(context, plugins("crashes", "fine"), ["fine"]))
    assert [one.check for one in report.findings] == ["fine"]


def test_a_check_that_nobody_provides_is_named_with_those_there_are(context: DoctorContext) -> None:
    with pytest.raises(UnknownCheck, match="'no'; there are: fine"):
        asyncio.run(examine(context, plugins("fine"), ["no"]))


def test_a_broken_plugin_is_a_finding(context: DoctorContext) -> None:
    broken = plugins("fine")
    broken.add_broken(PluginInfo(name="theirs", version="1"), ImportError("no module"))
    found = asyncio.run(examine(context, broken)).findings[-1]
    assert (found.check, found.severity, found.subject) == ("plugins", "warning", "theirs")


def test_the_built_in_checks_are_registered_like_anybodys_and_can_all_be_loaded() -> None:
    from tulle.contracts.specs import load

    checks = [one for _, one in load_plugins().collect("tulle_doctor_checks")]
    assert {"tulled", "firewall", "leases", "disk", "clock"} <= {one.name for one in checks}
    assert all(one.summary.endswith(".") and callable(load(one.factory)) for one in checks)
