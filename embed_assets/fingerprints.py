"""The configuration in force, and what each fingerprint means, noted beside the tables.

A run claims the tables for its configuration before it writes. A run of another configuration
that started earlier, and was paused or slow, is told so and stops: it never replaces what a later
one made. Runs of one configuration share the claim.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from pydantic import ValidationError

from embed_assets.checksums import sound_or_refused, with_checksums
from embed_assets.errors import InputError
from embed_assets.rows import FINGERPRINTS, FORMAT_VERSION
from embed_assets.settings import PipelineSettings
from embed_assets.tables.table import Superseded, Tables

# Attempts to note a configuration while other runs note theirs.
_ATTEMPTS = 20
# The row of the configuration in force is the one noted last.
_NOTED = "created_at"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything in the settings that changes rows: how files are read, chunked and embedded."""

    reading_version: str
    chunking_version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A configuration that was in force once, and the settings that it came from.

    None for those of a newer version of this program, which are not known here.
    """

    configuration: Configuration
    settings: PipelineSettings | None


def claim(
    tables: Tables,
    configuration: Configuration,
    dimension: int,
    settings: PipelineSettings,
    started_at: datetime,
) -> None:
    """Put a configuration in force; nothing is written if it is already.

    `started_at` is when the caller's run started. Raises Superseded if a run of another
    configuration started later than that.
    """
    row = {
        "fingerprint": configuration.fingerprint,
        "dimension": dimension,
        "settings": settings.model_dump_json(exclude_unset=True),
        "format_version": FORMAT_VERSION,
        "reading_version": configuration.reading_version,
        "chunking_version": configuration.chunking_version,
        "started_at": started_at,
    }
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _claim_once(tables, configuration, row)
            return
        except _Overtaken:
            raise
        except Superseded:
            # Another run noted its configuration at the same time: look again.
            if attempt == _ATTEMPTS:
                raise


class _Overtaken(Superseded):
    """A later run has claimed the tables."""


def _claim_once(tables: Tables, configuration: Configuration, row: dict[str, object]) -> None:
    snapshot = tables.fingerprints.read()
    notes = _sound(snapshot.frame, tables).sort(_NOTED)
    latest = notes.row(-1, named=True) if notes.height else None
    if latest is not None:
        if _configuration(latest) == configuration:
            if latest["settings"] == row["settings"]:
                return
        elif latest["started_at"] > row["started_at"]:
            raise _Overtaken(
                f"the tables under {tables.root} were taken over by a run with other settings that "
                f"started at {latest['started_at']:%Y-%m-%d %H:%M:%S} UTC, after this one; what it "
                "publishes stands. Run again to go back to these settings"
            )
    others = notes.filter(
        (pl.col("dimension") == row["dimension"])
        & (pl.col("fingerprint") != configuration.fingerprint)
    )
    noted = pl.DataFrame([{**row, _NOTED: datetime.now(UTC)}], schema_overrides=FINGERPRINTS)
    frame = pl.concat([others, with_checksums(noted, FINGERPRINTS)])
    tables.fingerprints.replace(frame, snapshot, snapshot.counter + 1)


def in_force(tables: Tables) -> Configuration | None:
    """The configuration that was claimed last; None where nothing ran yet."""
    notes = _notes(tables)
    return _configuration(notes.row(-1, named=True)) if notes.height else None


def _configuration(row: dict[str, str]) -> Configuration:
    return Configuration(row["reading_version"], row["chunking_version"], row["fingerprint"])


def check_fits(tables: Tables, dimension: int, model: str) -> None:
    """Raise InputError if the tables have another format, or vectors of another dimension."""
    standing = tables.fingerprints.read().frame
    for found in standing["format_version"].drop_nulls().unique():
        if found != FORMAT_VERSION:
            newer = found > FORMAT_VERSION
            remedy = (
                "upgrade embed-assets" if newer else "choose another folder, or delete this one"
            )
            raise InputError(
                f"the tables under {tables.root} have format {found}, this version writes "
                f"{FORMAT_VERSION}; {remedy}"
            )
    others = [d for d in _sound(standing, tables)["dimension"].unique().to_list() if d != dimension]
    # A fingerprint is noted before its first vectors: what failed then is in nobody's way.
    if others and tables.embeddings.states():
        raise InputError(
            f"the tables under {tables.root} hold vectors of {others[0]} dimensions, the model "
            f"{model} gives {dimension}; a model of another dimension needs a tables folder of "
            "its own: set tables"
        )


def check_documents(tables: Tables, documents_of: str | None) -> None:
    """Raise InputError if the tables were made from the documents of another pipeline, or from a
    corpus of their own where they should not be: a run would remove their vectors.
    """
    noted = next((r.settings for r in recorded_configurations(tables) if r.settings), None)
    if noted is None or noted.documents_of == documents_of or not tables.embeddings.states():
        return
    names = [
        f"the documents of the pipeline {name!r}" if name else "a corpus of their own"
        for name in (noted.documents_of, documents_of)
    ]
    raise InputError(
        f"the tables under {tables.root} were made from {names[0]}, and not from {names[1]}; "
        "running would remove their vectors: choose another folder for tables, or delete this one"
    )


def recorded_configurations(tables: Tables) -> list[Recorded]:
    """The latest configuration of each fingerprint, latest first."""
    rows = _notes(tables).reverse().iter_rows(named=True)
    return [Recorded(_configuration(row), _settings(row["settings"])) for row in rows]


def _settings(noted: str) -> PipelineSettings | None:
    try:
        return PipelineSettings.model_validate_json(noted)
    except ValidationError:
        return None


def _notes(tables: Tables) -> pl.DataFrame:
    """What is noted, oldest first."""
    return _sound(tables.fingerprints.read().frame, tables).sort(_NOTED)


def _sound(frame: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    return sound_or_refused(frame, tables.fingerprints.uri, tables.root)
