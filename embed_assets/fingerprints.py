"""What each fingerprint means: the settings that made its vectors, noted beside the tables."""

import json
from datetime import UTC, datetime

import polars as pl

from embed_assets.errors import InputError
from embed_assets.rows import FINGERPRINTS, FORMAT_VERSION
from embed_assets.settings import PipelineSettings
from embed_assets.tables.table import Superseded, Tables

# Attempts to note a fingerprint while other runs note theirs.
_ATTEMPTS = 20


def register(tables: Tables, fingerprint: str, dimension: int, settings: PipelineSettings) -> None:
    """Note a fingerprint's settings; nothing is written if they stand there already."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _register_once(tables, fingerprint, dimension, settings)
            return
        except Superseded:
            # Another run of this pipeline noted its fingerprint at the same time.
            if attempt == _ATTEMPTS:
                raise


def _register_once(
    tables: Tables, fingerprint: str, dimension: int, settings: PipelineSettings
) -> None:
    snapshot = tables.fingerprints.read()
    text = settings.model_dump_json(exclude_unset=True)
    standing = dict(snapshot.frame.select("fingerprint", "settings").iter_rows())
    if standing.get(fingerprint) == text:
        return
    row = {
        "fingerprint": [fingerprint],
        "dimension": [dimension],
        "settings": [text],
        "format_version": [FORMAT_VERSION],
        "created_at": [datetime.now(UTC)],
    }
    # Same fingerprint, other settings: the model's folder moved, say. The newest are right.
    others = snapshot.frame.filter(
        (pl.col("dimension") == dimension) & (pl.col("fingerprint") != fingerprint)
    )
    frame = pl.concat([others, pl.DataFrame(row, schema=FINGERPRINTS)])
    tables.fingerprints.replace(frame, snapshot, snapshot.counter + 1)


def check_fits(tables: Tables, dimension: int, model: str) -> None:
    """Raise InputError if the tables were made by a newer version or for another dimension."""
    standing = tables.fingerprints.read().frame
    newest = standing["format_version"].max()
    if isinstance(newest, int) and newest > FORMAT_VERSION:
        raise InputError(
            f"the tables under {tables.root} have format {newest}, this version writes "
            f"{FORMAT_VERSION}; upgrade embed-assets"
        )
    others = [d for d in standing["dimension"].unique().to_list() if d != dimension]
    # A fingerprint is noted before its first vectors: what failed then is in nobody's way.
    if others and tables.embeddings.states():
        raise InputError(
            f"the tables under {tables.root} hold vectors of {others[0]} dimensions, the model "
            f"{model} gives {dimension}; a model of another dimension needs a tables folder of "
            "its own: set tables"
        )


def recorded_settings(tables: Tables) -> dict[str, PipelineSettings]:
    """Fingerprint -> the settings that it stands for, oldest first."""
    frame = tables.fingerprints.read().frame.sort("created_at")
    return {
        fingerprint: PipelineSettings.model_validate(json.loads(settings))
        for fingerprint, settings in frame.select("fingerprint", "settings").iter_rows()
    }
