"""What every store must do: a shard is replaced whole, by compare-and-set, and read back."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embed_assets.checksums import is_sound, with_checksums
from embed_assets.frames import checkpoint_frame
from embed_assets.rows import FINGERPRINTS, SHARD_TABLES, SHARDS
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.in_memory import in_memory_tables
from embed_assets.tables.table import CheckpointKey, ShardTable, Superseded, Tables
from embed_assets_tests.tables.example_frames import EXAMPLES, INSTANT, manifest, metrics


@pytest.fixture(params=["delta", "in_memory"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Tables:
    return open_delta_tables(str(tmp_path)) if request.param == "delta" else in_memory_tables()


@pytest.mark.parametrize("name", SHARD_TABLES)
def test_a_shard_reads_back_as_published(tables: Tables, name: str) -> None:
    table, frame = tables.by_shard[name], EXAMPLES[name]("shard-1")
    table.publish("shard-1", frame, None)
    assert table.read("shard-1").equals(frame)
    assert table.read("shard-1").schema == SHARD_TABLES[name]
    columns = frame.columns[::-2]
    assert table.read("shard-1", columns).equals(frame.select(columns))
    assert table.scan().collect().equals(frame)


@pytest.mark.parametrize("name", SHARD_TABLES)
def test_state_tells_versions_and_rows_without_reading(tables: Tables, name: str) -> None:
    table, frame = tables.by_shard[name], EXAMPLES[name]("shard-1")
    assert table.states() == {}
    table.publish("shard-1", frame, None)
    state = table.states()["shard-1"]
    assert state.versions == (frame["input_version"][0], frame["content_version"][0])
    assert state.n_rows == frame.height
    assert state.n_bytes > 0


@pytest.mark.parametrize("name", SHARD_TABLES)
def test_what_is_not_there_reads_as_no_rows(tables: Tables, name: str) -> None:
    table = tables.by_shard[name]
    assert table.read("shard-1").equals(SHARD_TABLES[name].to_frame())
    assert table.scan().collect().is_empty()
    table.publish("shard-1", EXAMPLES[name]("shard-1"), None)
    assert table.read("shard-2").equals(SHARD_TABLES[name].to_frame())
    assert table.read("shard-2", ["content_version"]).columns == ["content_version"]


def test_replacing_a_shard_leaves_the_others(tables: Tables) -> None:
    table = tables.quality_metrics
    for shard in ("shard-1", "shard-2"):
        table.publish(shard, metrics(shard), None)
    table.publish("shard-1", metrics("shard-1", 2.0), table.states()["shard-1"])
    assert table.read("shard-1").equals(metrics("shard-1", 2.0))
    assert table.read("shard-2").equals(metrics("shard-2"))
    assert table.states().keys() == {"shard-1", "shard-2"}


def test_no_rows_remove_the_shard(tables: Tables) -> None:
    table = tables.quality_metrics
    for shard in ("shard-1", "shard-2"):
        table.publish(shard, metrics(shard), None)
    table.publish("shard-1", metrics("shard-1").clear(), table.states()["shard-1"])
    assert table.states().keys() == {"shard-2"}
    assert table.read("shard-1").is_empty()
    assert table.scan().collect()["shard"].unique().to_list() == ["shard-2"]
    table.publish("shard-1", metrics("shard-1").clear(), None)


STALE_WRITES: dict[str, Callable[[], pl.DataFrame]] = {
    "other rows": lambda: metrics("shard-1", 3.0),
    "no rows": lambda: metrics("shard-1").clear(),
}


@pytest.mark.parametrize("late", STALE_WRITES)
@pytest.mark.parametrize("rewrite", [False, True])
def test_a_late_run_cannot_overwrite_a_newer_result(
    tables: Tables, late: str, rewrite: bool
) -> None:
    table = tables.quality_metrics
    table.publish("shard-1", metrics("shard-1", 1.0), None)
    seen = table.states()["shard-1"]
    table.publish("shard-1", metrics("shard-1", 2.0), seen)
    with pytest.raises(Superseded, match="shard-1"):
        table.publish("shard-1", STALE_WRITES[late](), seen, rewrite=rewrite)
    assert table.read("shard-1").equals(metrics("shard-1", 2.0))


def test_a_run_that_finds_its_own_result_there_is_content(tables: Tables) -> None:
    table = tables.quality_metrics
    table.publish("shard-1", metrics("shard-1"), None)
    table.publish("shard-1", metrics("shard-1"), None)
    assert table.read("shard-1").height == 2


def test_a_shard_that_another_run_removed_is_not_brought_back(tables: Tables) -> None:
    table = tables.quality_metrics
    table.publish("shard-1", metrics("shard-1"), None)
    seen = table.states()["shard-1"]
    table.publish("shard-1", metrics("shard-1").clear(), seen)
    with pytest.raises(Superseded):
        table.publish("shard-1", metrics("shard-1", 2.0), seen)


def _publish_mixed_shards(table: ShardTable) -> None:
    table.publish("shard-1", pl.concat([metrics("shard-1"), metrics("shard-2")]), None)


def _publish_another_shard(table: ShardTable) -> None:
    table.publish("shard-1", metrics("shard-2"), None)


def _publish_mixed_versions(table: ShardTable) -> None:
    frame = pl.concat([metrics("shard-1"), metrics("shard-1", 2.0)])
    table.publish("shard-1", frame, None)


def _publish_a_quoted_key(table: ShardTable) -> None:
    table.publish("x' OR '1'='1", metrics("x' OR '1'='1"), None)


@pytest.mark.parametrize(
    ("publish", "message"),
    [
        (_publish_mixed_shards, "'shard' must be constant"),
        (_publish_another_shard, "rows of shard shard-2"),
        (_publish_mixed_versions, "'input_version' must be constant"),
        (_publish_a_quoted_key, "is not usable"),
    ],
)
def test_a_frame_that_is_not_one_shard_is_refused(
    tables: Tables, publish: Callable[[ShardTable], None], message: str
) -> None:
    table = tables.quality_metrics
    table.publish("shard-1", metrics("shard-1", 5.0), None)
    with pytest.raises(ValueError, match=message):
        publish(table)
    assert table.scan().collect().equals(metrics("shard-1", 5.0))


def test_whole_table_reads_back_with_its_counter(tables: Tables) -> None:
    table = tables.manifest
    before = table.read()
    assert before.frame.equals(SHARDS.to_frame())
    assert (before.version, before.counter) == (-1, 0)
    table.replace(manifest("a.txt"), before, 7)
    assert table.read().frame.equals(manifest("a.txt"))
    assert table.read().counter == 7
    table.replace(manifest("b.txt"), table.read(), 7)
    assert table.read().frame.equals(manifest("b.txt"))
    table.replace(SHARDS.to_frame(), table.read(), 8)
    assert table.read().frame.is_empty()
    assert table.read().counter == 8


def test_whole_table_refuses_a_snapshot_of_yesterday(tables: Tables) -> None:
    table = tables.manifest
    nothing = table.read()
    table.replace(manifest("a.txt"), nothing, 1)
    seen = table.read()
    table.replace(manifest("b.txt"), seen, 2)
    for late in (nothing, seen):
        with pytest.raises(Superseded, match="run again"):
            table.replace(manifest("c.txt"), late, 3)
    assert table.read().frame.equals(manifest("b.txt"))
    assert table.read().counter == 2


def test_checkpoints_are_kept_apart_by_shard_and_fingerprint(tables: Tables) -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    texts = pl.Series(["t1", "t2"])
    table = tables.checkpoints
    one, two = CheckpointKey("s", "f1"), CheckpointKey("s", "f2")
    table.clear(one)
    assert table.keys() == {}
    assert table.read(one).is_empty()
    table.add(checkpoint_frame("s", "f1", texts, vectors))
    table.add(checkpoint_frame("s", "f1", texts[:1], vectors[:1] + 1))
    table.add(checkpoint_frame("s", "f2", texts[:1], vectors[:1]))
    assert table.keys().keys() == {one, two}
    assert all(timedelta(minutes=-1) < age < timedelta(minutes=5) for age in table.keys().values())
    rows = table.read(one)
    assert sorted(rows["text_hash"]) == ["t1", "t1", "t2"]
    assert is_sound(rows).all()
    assert rows.filter(pl.col("text_hash") == "t2")["embedding"].to_list() == [[4, 5, 6, 7]]
    table.clear(one)
    assert table.keys().keys() == {two}
    assert table.read(one).is_empty()
    assert table.read(two).height == 1


def test_a_fence_has_the_last_word_before_a_commit(tables: Tables) -> None:
    table = tables.quality_metrics
    table.publish("s", metrics("s"), None)

    def overtaken() -> None:
        raise Superseded("overtaken")

    with pytest.raises(Superseded, match="overtaken"):
        table.publish("s", metrics("s", 2.0), table.states()["s"], fence=overtaken)
    assert table.read("s").equals(metrics("s"))


def test_what_was_made_from_the_same_input_is_the_same_result(tables: Tables) -> None:
    """A run that finds another's result of the same input, with other last bits, is done."""
    table, rows = tables.quality_metrics, metrics("s")
    table.publish("s", rows, None)
    other = metrics("s", 2.0).with_columns(input_version=rows["input_version"])
    table.publish("s", other, None)
    assert table.read("s").equals(rows)


@pytest.mark.parametrize("shard", ["x' OR '1'='1", "", "../x", "a/b", "a\nb", "s" * 129])
def test_a_hostile_shard_key_reaches_no_predicate_and_no_path(tables: Tables, shard: str) -> None:
    table = tables.quality_metrics
    table.publish("s", metrics("s"), None)
    for work in (
        lambda: table.read(shard),
        lambda: table.publish(shard, metrics(shard), None),
        lambda: table.publish(shard, metrics(shard).clear(), None),
        lambda: tables.checkpoints.clear(CheckpointKey(shard, "f")),
    ):
        with pytest.raises(ValueError, match="shard key"):
            work()
    assert table.scan().collect().equals(metrics("s"))


def test_whole_table_keeps_instants(tables: Tables) -> None:
    row = {"fingerprint": ["f"], "dimension": [3], "settings": ["{}"], "format_version": [1]}
    more = {"reading_version": ["r"], "chunking_version": ["c"]}
    instants = {"created_at": [INSTANT], "started_at": [INSTANT]}
    frame = with_checksums(pl.DataFrame(row | more | instants), FINGERPRINTS)
    tables.fingerprints.replace(frame, tables.fingerprints.read(), 1)
    assert tables.fingerprints.read().frame.equals(frame)
