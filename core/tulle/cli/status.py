"""`tulle status`: what the tulled of this node does and what is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from shutil import get_terminal_size
from urllib.parse import urlencode

import click
import msgspec

from tulle.cli import statustext
from tulle.cli.output import as_data, output_option
from tulle.cli.rundir import run_dir_option
from tulle.node.answers import StatusAnswer
from tulle.node.client import Client, NotRunning

REFRESH_S = 2.0


@click.command()
@run_dir_option
@click.option("--peer", default="", help="One peer in full: its name, lease key, subnet or address.")
@click.option("--problems", is_flag=True, help="Only what is wrong.")
@click.option("--all", "everything", is_flag=True, help="All peers and problems, however many.")
@click.option("--watch", is_flag=True, help=f"Again every {REFRESH_S:g} s, in place on a terminal.")
@output_option
def status(run_dir: Path, peer: str, problems: bool, everything: bool, watch: bool, output: str) -> None:
    """What this node does and what is wrong. Exit status 1 where it is not ready."""
    query = f"?{urlencode({'peer': peer})}" if peer else ""

    def ask() -> StatusAnswer:
        found = Client(run_dir).get(f"status{query}")
        try:
            return msgspec.convert(found, StatusAnswer)
        except msgspec.ValidationError as error:
            advice = "it is of another version: restart tulled, or use the tulle that it came with"
            raise click.ClickException(f"tulled's answer is not understood ({error}); {advice}") from error

    def lines(answer: StatusAnswer) -> list[str]:
        if peer:
            return _named(answer, peer)
        if problems:
            return list(statustext.only_problems(answer))
        return list(statustext.overview(answer, time.time(), everything=everything))

    if watch:
        _watch(ask, lines, output)
        return
    answer = ask()
    if not as_data(answer, output):
        _show(lines(answer))
    if not answer.ready or (peer and not answer.peers):
        raise SystemExit(1)


def _named(answer: StatusAnswer, peer: str) -> list[str]:
    if not answer.peers:
        return [
            f"no peer of {answer.node} is called {peer!r}; `tulle status --all` lists all {answer.peer_count}"
        ]
    blocks = [[*statustext.in_full(answer, one), ""] for one in answer.peers]
    return [line for block in blocks for line in block][:-1]


def _show(lines: list[str]) -> None:
    text = "\n".join(lines)
    if sys.stdout.isatty() and len(lines) >= get_terminal_size().lines:
        click.echo_via_pager(text)
    else:
        click.echo(text)


def _watch(ask: Callable[[], StatusAnswer], lines: Callable[[StatusAnswer], list[str]], output: str) -> None:
    """Until interrupted, also while no tulled answers: it may be on its way."""

    def block() -> list[str]:
        try:
            return lines(ask())
        except NotRunning as error:
            return [str(error)]

    try:
        if output != "text":
            _repeat(lambda: as_data(ask(), output))
        elif sys.stdout.isatty():
            _in_place(block)
        else:
            _repeat(lambda: click.echo("\n".join([*block(), ""])))
    except KeyboardInterrupt:
        return


def _repeat(work: Callable[[], object]) -> None:
    while True:
        work()
        sys.stdout.flush()
        time.sleep(REFRESH_S)


def _in_place(block: Callable[[], list[str]]) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False, screen=True, vertical_overflow="ellipsis") as live:
        while True:
            when = time.strftime("%H:%M:%S")
            shown = [f"{when}, again every {REFRESH_S:g} s, Ctrl-C ends", *block()]
            live.update(Text.from_ansi("\n".join(shown), no_wrap=True), refresh=True)
            time.sleep(REFRESH_S)
