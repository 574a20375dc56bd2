"""`tulle forwarder replace`: a new forwarder process takes over from the one that runs."""

from __future__ import annotations

import click
import msgspec

from tulle.cli.output import as_data, output_option
from tulle.cli.store import StoreAccess, node_options
from tulle.node.answers import ReplaceAnswer, Replaced
from tulle.node.client import Client

REPLACE_S = 60.0
"""tulled itself gives a successor 30 s to take over."""


@click.group()
def forwarder() -> None:
    """The process that carries the packets."""


@forwarder.command()
@output_option
@node_options
def replace(access: StoreAccess, output: str) -> None:
    """Start a new forwarder, hand it all that the running one has, and end that. No packet is lost. For the time after
    a plugin, or the library under it, was replaced; at an upgrade of tulle itself tulled does it by its own."""
    client = Client(access.config.run_dir, timeout=REPLACE_S)
    answer = msgspec.convert(client.post("forwarder/replace"), ReplaceAnswer)
    if not as_data(answer, output):
        each: list[ReplaceAnswer | Replaced] = [answer, *answer.second]
        for one in each:
            paused = f"packets waited for {one.pause_ms:g} ms at most"
            click.echo(f"forwarder {one.new_pid} took over from {one.old_pid}; {paused}")
