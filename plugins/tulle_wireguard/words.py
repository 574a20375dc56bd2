"""`tulle wireguard`: its words, whose code is imported when one is used."""

from __future__ import annotations

import click

from tulle.cli.words import Words

WORDS = ("add-peer", "peer-config", "peers", "remove-peer", "rotate-key")


class Wireguard(Words):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(WORDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from tulle_wireguard import commands

        return commands.COMMANDS.get(cmd_name)


wireguard = Wireguard("wireguard", help="This node's key, and peers that are stock WireGuard.")
