"""A group of words that helps whoever mistypes one."""

from __future__ import annotations

import click


class Words(click.Group):
    """Names the word that was meant, else all that there are."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if not ctx.resilient_parsing and not word.startswith("-") and self.get_command(ctx, word) is None:
            from difflib import get_close_matches

            words = self.list_commands(ctx)
            meant = get_close_matches(word, words, 1)
            advice = f"Did you mean {meant[0]}?" if meant else f"There are: {', '.join(words)}."
            ctx.fail(f"There is no word {word!r}. {advice}")
        return super().resolve_command(ctx, args)
