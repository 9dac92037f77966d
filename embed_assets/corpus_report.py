"""The whole corpus at a look: gather every shard's metrics and a sample of its vectors."""

import polars as pl

from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.quality.report import Report, corpus_report
from embed_assets.tables.delta_files import reading

# Rows of the whole report's sample: what the pictures and corpus metrics are made from. Beyond
# some thousand points a map only gets darker.
_SAMPLED_ROWS = 8_000
# A shard's mean says little from fewer vectors than this.
_ROWS_PER_SHARD = 100


def report_corpus(pipeline: OpenedPipeline) -> Report:
    """Report on all shards, read one at a time. Raises InputError where there are none."""
    tables = pipeline.tables
    shards = sorted(tables.embeddings.states())
    if not shards:
        raise InputError(
            f"{tables.embeddings.uri} has no vectors yet; materialise some shards first"
        )
    metrics = reading(
        tables.quality_metrics.uri,
        lambda: tables.quality_metrics.scan().select("shard", "metric", "value").collect(),
    )
    rows = max(_ROWS_PER_SHARD, _SAMPLED_ROWS // len(shards))
    sample = pl.concat([_sample(pipeline, shard, rows) for shard in shards])
    if sample.is_empty():
        raise InputError(
            f"{tables.embeddings.uri} has no vectors of the current model and settings yet; "
            "materialise some shards first"
        )
    return corpus_report(metrics, sample, pipeline.settings)


def _sample(pipeline: OpenedPipeline, shard: str, n_rows: int) -> pl.DataFrame:
    """Evenly spaced chunks of a shard: shard, source_group, n_tokens, embedding."""
    tables = pipeline.tables
    vectors = tables.embeddings.read(shard, ["chunk_id", "doc_id", "embedding", "fingerprint"])
    # Half-way through a change of model, old and new vectors have nothing to do with each other.
    vectors = vectors.filter(pl.col("fingerprint") == pipeline.fingerprint).sort("chunk_id")
    vectors = vectors.gather_every(max(1, vectors.height // n_rows)).head(n_rows)
    tokens = tables.chunks.read(shard, ["chunk_id", "n_tokens"])
    sources = tables.raw_corpus.read(shard, ["doc_id", "source"])
    return (
        vectors.join(tokens, on="chunk_id", how="inner")
        .join(sources, on="doc_id", how="left")
        .select(
            pl.lit(shard).alias("shard"),
            _top_folder(pl.col("source")).alias("source_group"),
            "n_tokens",
            "embedding",
        )
    )


def _top_folder(source: pl.Expr) -> pl.Expr:
    """The first folder of a path; one group for all files at the top."""
    parts = source.fill_null("").str.split("/")
    return pl.when(parts.list.len() > 1).then(parts.list.first()).otherwise(pl.lit("(top)"))
