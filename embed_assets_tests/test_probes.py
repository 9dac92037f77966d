"""Kept vectors: the same texts for every model, few states, nothing written without a change."""

import numpy as np
import polars as pl

from embed_assets import probes
from embed_assets.tables.in_memory import in_memory_tables
from embed_assets.tables.table import Tables


def vectors(first: int, n: int = 50) -> pl.DataFrame:
    rows = {
        "text_hash": [f"{first + i:032x}" for i in range(n)],
        "embedding": np.full((n, 4), float(first), np.float32).tolist(),
    }
    return pl.DataFrame(rows, schema={"text_hash": pl.String, "embedding": pl.List(pl.Float32)})


def keep(tables: Tables, fingerprint: str, corpus_version: str, sample: pl.DataFrame) -> None:
    probes.keep(tables, tables.probes.read(), fingerprint, corpus_version, sample)


def test_the_texts_of_a_sample_do_not_depend_on_how_shards_are_cut() -> None:
    everything = vectors(0, 3000).sample(fraction=1.0, shuffle=True, seed=1)
    at_once = probes.least_hashes(everything)
    by_shard = probes.least_hashes(everything[:1000])
    for start in (1000, 2000):
        by_shard = probes.least_hashes(pl.concat([by_shard, everything[start : start + 1000]]))
    assert by_shard.equals(at_once)
    assert at_once.height == probes.N_PROBES


def test_earlier_states_are_there_for_the_next_report() -> None:
    tables = in_memory_tables()
    assert probes.earlier(tables.probes.read(), "old", "v1").same_model.is_empty()
    keep(tables, "old", "v1", vectors(1))
    keep(tables, "old", "v2", vectors(2))
    # The report of the same state again still compares with the one before.
    assert probes.earlier(tables.probes.read(), "old", "v2").same_model.equals(vectors(1))
    found = probes.earlier(tables.probes.read(), "new", "v3")
    assert found.same_model.is_empty()
    assert (found.other_fingerprint, found.other_model.equals(vectors(2))) == ("old", True)


def test_no_more_is_kept_than_is_compared() -> None:
    tables = in_memory_tables()
    for number, (fingerprint, version) in enumerate(
        [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("c", "5"), ("c", "6")]
    ):
        keep(tables, fingerprint, version, vectors(number))
    kept = tables.probes.read().frame.select("fingerprint", "corpus_version").unique()
    assert sorted(kept.rows()) == [("b", "3"), ("c", "5"), ("c", "6")]


def test_the_same_state_again_writes_nothing() -> None:
    tables = in_memory_tables()
    keep(tables, "a", "1", vectors(1))
    before = tables.probes.version()
    keep(tables, "a", "1", vectors(1))
    assert tables.probes.version() == before


def test_a_damaged_row_is_left_out() -> None:
    tables = in_memory_tables()
    keep(tables, "a", "1", vectors(1))
    snapshot = tables.probes.read()
    spoilt = snapshot.frame.with_columns(
        checksum=pl.when(pl.int_range(pl.len()) == 0).then(0).otherwise(pl.col("checksum"))
    )
    tables.probes.replace(spoilt, snapshot, snapshot.counter + 1)
    assert probes.earlier(tables.probes.read(), "b", "1").other_model.height == 49


def test_a_sample_kept_by_another_report_meanwhile_stands() -> None:
    tables = in_memory_tables()
    before = tables.probes.read()
    keep(tables, "a", "1", vectors(1))
    probes.keep(tables, before, "b", "1", vectors(2))
    assert tables.probes.read().frame["fingerprint"].unique().to_list() == ["a"]
