"""The whole corpus at a look: gather every shard's metrics, check what stands, sample its vectors.

What the report is made from goes by once, one shard at a time.
"""

from dataclasses import dataclass

import polars as pl

from embed_assets import probes, staleness
from embed_assets.digests import digest_of
from embed_assets.errors import NothingYet
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.quality.checks import Finding
from embed_assets.quality.drift import corpus_drift, model_drift
from embed_assets.quality.report import Drift, Report, corpus_report
from embed_assets.tables.delta_files import reading
from embed_assets.tables.table import ShardState
from embed_assets.vector_checks import check_standing_vectors

# Rows of the whole report's sample: what the pictures and corpus metrics are made from. Beyond
# some thousand points a map only gets darker.
_SAMPLED_ROWS = 8_000
# A shard's mean says little from fewer vectors than this.
_ROWS_PER_SHARD = 100


@dataclass(frozen=True)
class _Gathered:
    """Of one shard: sampled chunks, the vectors to keep, and what the blocking checks found."""

    sample: pl.DataFrame
    probes: pl.DataFrame
    findings: tuple[Finding, ...]
    is_current: bool


def report_corpus(pipeline: OpenedPipeline) -> Report:
    """Report on all shards, read one at a time, and keep some vectors for later comparisons.

    Raises NothingYet where there are none.
    """
    tables = pipeline.tables
    states = tables.embeddings.states()
    if not states:
        raise NothingYet(
            f"{tables.embeddings.uri} has no vectors yet; materialise some shards first"
        )
    metrics = reading(
        tables.quality_metrics.uri,
        lambda: tables.quality_metrics.scan().select("shard", "metric", "value").collect(),
    )
    chunks = tables.chunks.states()
    n_rows = max(_ROWS_PER_SHARD, _SAMPLED_ROWS // len(states))
    samples: list[pl.DataFrame] = []
    findings: list[Finding] = []
    least: pl.DataFrame | None = None
    is_whole = True
    for shard in sorted(states):
        gathered = _gathered(pipeline, shard, chunks.get(shard), n_rows)
        samples.append(gathered.sample)
        findings += gathered.findings
        is_whole &= gathered.is_current
        both = gathered.probes if least is None else pl.concat([least, gathered.probes])
        least = probes.least_hashes(both)
    sample = pl.concat(samples)
    if sample.is_empty() or least is None:
        raise NothingYet(
            f"{tables.embeddings.uri} has no vectors of the current model and settings yet; "
            "materialise some shards first"
        )
    corpus_version = digest_of(sorted(state.content_version for state in states.values()))
    # Half-way through a change of model the sample would be of half the corpus.
    drift = _drift(pipeline, corpus_version, least, keep=is_whole)
    return corpus_report(metrics, sample, pipeline.settings, findings=findings, drift=drift)


def _drift(
    pipeline: OpenedPipeline, corpus_version: str, now: pl.DataFrame, *, keep: bool
) -> Drift:
    """The sample against what was kept of earlier states; `keep` keeps it for later ones."""
    tables, fingerprint = pipeline.tables, pipeline.fingerprint
    snapshot = tables.probes.read()
    before = probes.earlier(snapshot, fingerprint, corpus_version)
    drift = Drift(
        corpus_drift(before.same_model, now, probes.N_PROBES),
        model_drift(before.other_fingerprint, before.other_model, now),
    )
    if keep:
        probes.keep(tables, snapshot, fingerprint, corpus_version, now)
    return drift


def _gathered(
    pipeline: OpenedPipeline, shard: str, chunks: ShardState | None, n_rows: int
) -> _Gathered:
    tables = pipeline.tables
    rows = tables.embeddings.read(shard)
    tokens = tables.chunks.read(shard, ["chunk_id", "n_tokens"])
    sources = tables.raw_corpus.read(shard, ["doc_id", "source"])
    # Half-way through a change of model, old and new vectors have nothing to do with each other,
    # and half-way through a change of files chunks have no vectors yet: that shard is only waiting.
    version = staleness.embeddings_version(staleness.content_of(chunks), pipeline.fingerprint)
    is_current = set(rows["input_version"].unique()) == {version}
    findings = check_standing_vectors(shard, pipeline, tokens, rows) if is_current else ()
    vectors = rows.filter(pl.col("fingerprint") == pipeline.fingerprint).sort("chunk_id")
    sampled = vectors.gather_every(max(1, vectors.height // n_rows)).head(n_rows)
    sample = (
        sampled.join(tokens, on="chunk_id", how="inner")
        .join(sources.unique("doc_id", keep="first"), on="doc_id", how="left")
        .select(
            pl.lit(shard).alias("shard"),
            _top_folder(pl.col("source")).alias("source_group"),
            "n_tokens",
            "embedding",
        )
    )
    return _Gathered(sample, probes.least_hashes(vectors), findings, is_current)


def _top_folder(source: pl.Expr) -> pl.Expr:
    """The first folder of a path; one group for all files at the top."""
    parts = source.fill_null("").str.split("/")
    return pl.when(parts.list.len() > 1).then(parts.list.first()).otherwise(pl.lit("(top)"))
