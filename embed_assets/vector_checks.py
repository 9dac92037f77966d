"""The blocking checks on a shard's vectors, with what an opened pipeline expects of them."""

import polars as pl

from embed_assets.checksums import is_sound
from embed_assets.embedding.model import vectors_are_unit
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.quality.checks import Finding, blocking_findings


class BadVectors(InputError):
    """Vectors that a blocking check refused before they were published; `findings` are of all
    checks.
    """

    def __init__(self, message: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(message)
        self.findings = findings


def check_new_vectors(
    shard: str, pipeline: OpenedPipeline, chunks: pl.DataFrame, rows: pl.DataFrame
) -> tuple[Finding, ...]:
    """What the checks find in rows of `embeddings` that were made just now from `chunks`.

    Raises BadVectors if one does not pass.
    """
    findings = _findings(shard, pipeline, chunks, rows, None)
    for finding in findings:
        if not finding.passed:
            raise BadVectors(
                f"shard {finding.shard}: {finding.check}: {finding.detail} "
                f"({', '.join(finding.chunk_ids)}); nothing was published, its old vectors stand",
                findings,
            )
    return findings


def check_standing_vectors(
    shard: str, pipeline: OpenedPipeline, chunks: pl.DataFrame, rows: pl.DataFrame
) -> tuple[Finding, ...]:
    """What they find in rows that were read back: the disk may have damaged some."""
    damaged = rows["chunk_id"].filter(~is_sound(rows))
    return _findings(shard, pipeline, chunks, rows, damaged)


def _findings(
    shard: str,
    pipeline: OpenedPipeline,
    chunks: pl.DataFrame,
    rows: pl.DataFrame,
    damaged: pl.Series | None,
) -> tuple[Finding, ...]:
    return blocking_findings(
        shard,
        chunks,
        rows,
        dimension=pipeline.dimension,
        fingerprint=pipeline.fingerprint,
        unit_length=vectors_are_unit(pipeline.settings, pipeline.model),
        damaged=damaged,
    )
