"""The options of a command that works on tables which stand: where they are."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from embed_assets.errors import SettingsError
from embed_assets.locations import absolute_location
from embed_assets.setting_options import declared_settings


def tables_option(
    command: Callable[..., None], *, with_settings: bool = False
) -> Callable[..., None]:
    """The root of the tables as `tables`: given, or that of a declared pipeline; `with_settings`
    also those of the pipeline as `settings`, or None.
    """

    @wraps(command)
    def with_tables(*, tables: str | None, pipeline: str | None, **values: object) -> None:
        if tables is not None and pipeline is not None:
            raise SettingsError("--tables and --pipeline both say which tables; give one of them")
        if tables is None and pipeline is None:
            raise SettingsError(
                "which tables? give --tables URI, or --pipeline NAME for a declared pipeline's"
            )
        settings = None if tables else declared_settings(pipeline)
        root = settings.tables_root if settings else absolute_location(tables or "", Path.cwd())
        if with_settings:
            values["settings"] = settings
        command(tables=root, **values)

    options = (
        click.option("--tables", metavar="URI", help="Folder or URI of the tables."),
        click.option("--pipeline", metavar="NAME", help="Or those of a declared pipeline."),
    )
    return options[0](options[1](with_tables))
