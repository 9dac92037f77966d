"""A sample of vectors kept for each state of the corpus: what the next model is compared with.

Re-embedding replaces vectors shard by shard, and maintenance deletes the old ones, so the report
keeps some. They are those of the texts with the smallest hashes: the same texts under every
fingerprint, however shards are cut, and a uniform sample of the corpus.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from embed_assets.checksums import is_sound, with_checksums
from embed_assets.rows import PROBES
from embed_assets.tables.table import Snapshot, Superseded, Tables

#: Texts in a sample: neighbourhoods of 10 are then of 1% of the texts, and it takes 1.5 MB.
N_PROBES = 1000
_VECTOR = ("text_hash", "embedding")


@dataclass(frozen=True, slots=True)
class Earlier:
    """Samples from before, with text_hash and embedding; empty where there is none.

    `same_model` is of the corpus as it was, `other_model` of the latest other fingerprint.
    """

    same_model: pl.DataFrame
    other_model: pl.DataFrame
    other_fingerprint: str


def least_hashes(frame: pl.DataFrame) -> pl.DataFrame:
    """The N_PROBES texts with the smallest hashes, each once: text_hash and embedding."""
    return frame.select(_VECTOR).unique("text_hash", keep="first").sort("text_hash").head(N_PROBES)


def earlier(snapshot: Snapshot, fingerprint: str, corpus_version: str) -> Earlier:
    """What a snapshot of `probes` holds of other states of the corpus, and under the fingerprint
    before this one.
    """
    kept = _sound(snapshot)
    mine = pl.col("fingerprint") == fingerprint
    same = _latest(kept.filter(mine & (pl.col("corpus_version") != corpus_version)))
    other = _latest(kept.filter(~mine))
    name = str(other["fingerprint"][0]) if other.height else ""
    return Earlier(same.select(_VECTOR), other.select(_VECTOR), name)


def keep(
    tables: Tables,
    snapshot: Snapshot,
    fingerprint: str,
    corpus_version: str,
    probes: pl.DataFrame,
) -> None:
    """Keep a sample and the ones that `earlier` gives of the same snapshot.

    Nothing is written if the sample stands already, or if the table is no longer at `snapshot`.
    """
    kept = _sound(snapshot)
    mine = pl.col("fingerprint") == fingerprint
    this = mine & (pl.col("corpus_version") == corpus_version)
    if probes.is_empty() or kept.filter(this).height == probes.height:
        return
    new = probes.with_columns(
        fingerprint=pl.lit(fingerprint),
        corpus_version=pl.lit(corpus_version),
        taken_at=pl.lit(datetime.now(UTC)),
    )
    before = [_latest(kept.filter(mine & ~this)), _latest(kept.filter(~mine))]
    frame = pl.concat([*before, with_checksums(new, PROBES)])
    try:
        tables.probes.replace(frame, snapshot, snapshot.counter + 1)
    except Superseded:
        # Another report kept its sample meanwhile, of what stood then.
        return


def _sound(snapshot: Snapshot) -> pl.DataFrame:
    """All samples. A damaged row is one text fewer to compare: no reason for having no report."""
    return snapshot.frame.filter(is_sound(snapshot.frame))


def _latest(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.filter(pl.col("taken_at") == pl.col("taken_at").max())
