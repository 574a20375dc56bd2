"""`tulle doctor`: findings for people, or as JSON; exit status 1 where one is an error."""

from __future__ import annotations

import click

from tulle.cli.output import as_data, output_option, printable
from tulle.cli.store import StoreAccess, node_options
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.store import Store
from tulle.doctor.run import Report, UnknownCheck, examine
from tulle.doctor.survey import survey

COLOURS = {"ok": "green", "skipped": "blue", "warning": "yellow", "error": "red"}


@click.command()
@click.option("--check", "only", multiple=True, metavar="NAME", help="Only this check; repeatable.")
@click.option("--problems", is_flag=True, help="Leave out what is ok or was skipped.")
@output_option
@node_options
def doctor(access: StoreAccess, only: tuple[str, ...], problems: bool, output: str) -> None:
    """What is wrong with this node, why it matters, and the command that mends it. Exit status 1 where something is.

    It changes nothing, but for one key that it writes into the store and deletes again, and needs no running tulled.
    """
    report = asked(access, only)
    if not as_data(report, output):
        show(report, problems)
    if report.errors:
        raise SystemExit(1)


def asked(access: StoreAccess, only: tuple[str, ...]) -> Report:
    """A store that cannot even be opened is a finding as well."""

    async def work(store: Store | None, error: str) -> Report:
        at = f"{access.place}, {store.location}" if store else access.place
        context: DoctorContext = await survey(access.config, access.plugins, store, at, error)
        return await examine(context, access.plugins, only)

    try:
        return access.run_without(work)
    except UnknownCheck as error:
        raise click.BadParameter(str(error), param_hint="--check") from error


def show(report: Report, problems: bool) -> None:
    for finding in report.findings:
        if not problems or finding.severity in ("warning", "error"):
            _show(finding)
    click.echo(f"{report.node}: {_counted(report.errors, 'error')}, {_counted(report.warnings, 'warning')}")


def _show(finding: Finding) -> None:
    word = click.style(finding.severity.ljust(8), fg=COLOURS[finding.severity])
    click.echo(f"{word} {finding.check.ljust(10)} {printable(finding.subject)}: {printable(finding.what)}")
    if finding.severity in ("warning", "error"):
        for name, text in (("why", finding.why), ("mend", finding.mend)):
            if text:
                click.echo(f"{'':19} {name.ljust(4)}  {printable(text)}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
