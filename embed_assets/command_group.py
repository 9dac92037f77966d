"""How commands end: with an exit code, and one line instead of a traceback where that is enough."""

import sys

import click

from embed_assets.errors import InputError, SettingsError


class Commands(click.Group):
    """Turns what a user can mend into one line on standard error."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; InputError becomes a message and an exit code."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.params.get("debug") or not _is_expected(error):
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(2 if isinstance(error, SettingsError) else 1)


def _is_expected(error: Exception) -> bool:
    """Whether it is the input's fault, or another run was quicker: no traceback then."""
    if isinstance(error, InputError | click.ClickException | click.exceptions.Exit):
        return isinstance(error, InputError)
    from embed_assets.tables.table import Superseded

    return isinstance(error, Superseded)
