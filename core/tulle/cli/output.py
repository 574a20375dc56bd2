"""What commands print: aligned columns for people (coloured on a terminal), JSON and YAML for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """`-o text|json|yaml`, as the argument `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        show_default=True,
        help="Format.",
    )(command)


def as_data(value: Any, output: str) -> bool:
    """Print it where the format is one for programs; else return False."""
    if output == "json":
        as_json(value)
    elif output == "yaml":
        from tulle.cli.yamltext import to_yaml

        click.echo(to_yaml(msgspec.to_builtins(value)), nl=False)
    return output != "text"


def as_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def printable(text: object) -> str:
    """What others wrote (a node's name, a message), fit for a terminal: no control characters."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(one if one.isprintable() else "?" for one in shown)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns; on a terminal with a line under the headers."""
    cells = [[printable(one) for one in row] for row in rows]
    if sys.stdout.isatty():
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in cells:
            drawn.add_row(*map(Text, row))  # as text: a name may hold what rich would take for markup
        Console().print(drawn)
        return
    for line in columns(headers, cells):
        click.echo(line)


def columns(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns as wide as they need to be; the last one is not padded, so that lines can be cut."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in ([*headers], *rows)
    ]


def duration(seconds: float | None) -> str:
    """ "2d03h", "23h59m", "4m10s", "12s"; "-" for None."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole >= 48 * 3600:
        return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def size(count: float) -> str:
    """Bytes for people: "1.2 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
