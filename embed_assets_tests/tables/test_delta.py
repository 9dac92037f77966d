"""Delta tables under races, damage and odd places; and what their log gives away."""

import json
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from embed_assets.errors import InputError, SettingsError
from embed_assets.tables import delta_files, delta_whole
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.delta_files import open_table, reading
from embed_assets.tables.table import ShardTable, Superseded
from embed_assets_tests.tables.example_frames import (
    EXAMPLES,
    SECRET,
    embeddings,
    manifest,
    metrics,
    raw_corpus,
)


def quality_metrics(root: Path) -> ShardTable:
    return open_delta_tables(str(root)).quality_metrics


def version(root: Path) -> int:
    return DeltaTable(str(root / "quality_metrics")).version()


def at_once(works: Sequence[Callable[[], object]]) -> list[str]:
    """Run the works in threads that start together; "done", or the name of what each raised."""
    results = [""] * len(works)
    barrier = threading.Barrier(len(works))

    def go(i: int) -> None:
        barrier.wait()
        try:
            works[i]()
            results[i] = "done"
        except BaseException as error:
            results[i] = type(error).__name__

    threads = [threading.Thread(target=go, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(results)


def test_the_same_result_again_writes_nothing_unless_asked(tmp_path: Path) -> None:
    table = quality_metrics(tmp_path)
    table.publish("s", metrics("s"), None)
    before = version(tmp_path)
    table.publish("s", metrics("s"), table.states()["s"])
    table.publish("gone", metrics("gone").clear(), None)
    assert version(tmp_path) == before
    table.publish("s", metrics("s"), table.states()["s"], rewrite=True)
    assert version(tmp_path) == before + 1
    assert table.read("s").equals(metrics("s"))


@pytest.mark.parametrize("there", [True, False], ids=["old table", "new table"])
def test_of_two_runs_on_one_shard_one_result_stands_whole(tmp_path: Path, there: bool) -> None:
    for round_ in range(3):
        root = tmp_path / str(round_)
        seen = None
        if there:
            quality_metrics(root).publish("s", metrics("s"), None)
            seen = quality_metrics(root).states()["s"]
        frames = [metrics("s", value) for value in (1.5, 2.5, 3.5)]
        tables = [quality_metrics(root) for _ in frames]
        results = at_once(
            [
                partial(table.publish, "s", frame, seen)
                for table, frame in zip(tables, frames, strict=True)
            ]
        )
        assert results == ["Superseded", "Superseded", "done"]
        standing = quality_metrics(root).read("s")
        assert any(standing.equals(frame) for frame in frames)


def test_two_runs_with_the_same_result_both_succeed(tmp_path: Path) -> None:
    tables = [quality_metrics(tmp_path) for _ in range(2)]
    results = at_once([partial(t.publish, "s", metrics("s"), None) for t in tables])
    assert results == ["done", "done"]
    assert quality_metrics(tmp_path).read("s").equals(metrics("s"))


def test_of_runs_that_replace_a_whole_table_at_once_one_stands(tmp_path: Path) -> None:
    """Also when it does not exist yet: then both create it, and one must still win."""
    for round_ in range(4):
        tables = [open_delta_tables(str(tmp_path / str(round_))).manifest for _ in range(3)]
        for _ in range(2):
            seen = tables[0].read()
            results = at_once(
                [partial(t.replace, manifest(f"{n}.txt"), seen, 5) for n, t in enumerate(tables)]
            )
            assert results == ["Superseded", "Superseded", "done"]
            assert tables[0].read().frame.height == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_table_that_another_process_creates_first_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """delta-rs lets some of those that lose the race fail, and some commit a second creation."""

    class RacingDeltaTable(DeltaTable):
        @classmethod
        def create(cls, *arguments: Any, **options: Any) -> DeltaTable:  # noqa: ANN401
            DeltaTable.create(*arguments, **options)
            if times == 2:
                table = DeltaTable(arguments[0])
                table.alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
            raise CommitFailedError("Protocol changed since last commit")

    monkeypatch.setattr(delta_files, "DeltaTable", RacingDeltaTable)
    tables = open_delta_tables(str(tmp_path))
    tables.quality_metrics.publish("s", metrics("s"), None)
    assert tables.quality_metrics.read("s").equals(metrics("s"))
    tables.manifest.replace(manifest("a.txt"), tables.manifest.read(), 4)
    assert tables.manifest.read().frame.equals(manifest("a.txt"))


def test_two_commits_of_the_counter_conflict_even_with_the_same_number(tmp_path: Path) -> None:
    """`replace` rests on this: without it a whole-table overwrite of an empty table passes."""
    table = open_delta_tables(str(tmp_path)).manifest
    table.replace(manifest("a.txt").clear(), table.read(), 1)
    stale = DeltaTable(table.uri)
    table.replace(manifest("b.txt"), table.read(), 1)
    properties = CommitProperties(app_transactions=[Transaction(delta_whole._COUNTER, 1)])
    with pytest.raises(CommitFailedError):
        write_deltalake(stale, manifest("c.txt"), mode="overwrite", commit_properties=properties)


def _publish_many(root: str, shard: str, start: "threading.Barrier") -> None:
    table = open_delta_tables(root).quality_metrics
    start.wait()
    for value in (1.0, 2.0, 3.0):
        table.publish(shard, metrics(shard, value), table.states().get(shard))


def test_four_processes_fill_four_shards_of_a_new_table_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    shards = [f"shard-{i}" for i in range(4)]
    with context.Manager() as manager:
        start = manager.Barrier(len(shards))
        processes = [
            context.Process(target=_publish_many, args=(str(tmp_path), shard, start))
            for shard in shards
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    table = quality_metrics(tmp_path)
    assert sorted(table.states()) == shards
    for shard in shards:
        assert table.read(shard).equals(metrics(shard, 3.0))


def test_the_log_holds_no_corpus_text_and_no_statistics_of_vectors(tmp_path: Path) -> None:
    tables = open_delta_tables(str(tmp_path))
    for name, example in EXAMPLES.items():
        tables.by_shard[name].publish("s", example("s"), None)
    allowed = {"input_version", "content_version", "fingerprint"}
    n_adds = 0
    for log in tmp_path.glob("*/_delta_log/*.json"):
        text = log.read_text()
        assert SECRET not in text
        for line in map(json.loads, text.splitlines()):
            if "add" in line:
                n_adds += 1
                statistics = json.loads(line["add"]["stats"])
                assert statistics["numRecords"] >= 1
                for kind in ("minValues", "maxValues", "nullCount"):
                    assert statistics[kind].keys() <= allowed
                assert {"input_version", "content_version"} <= statistics["minValues"].keys()
    assert n_adds == len(EXAMPLES)


def test_vectors_come_back_bit_for_bit_with_polars_alone(tmp_path: Path) -> None:
    frame = embeddings("s")
    open_delta_tables(str(tmp_path)).embeddings.publish("s", frame, None)
    read = pl.read_delta(str(tmp_path / "embeddings"))
    assert read.schema["embedding"] == pl.List(pl.Float32)
    bits = [row["embedding"].list.to_array(8).to_numpy().tobytes() for row in (read, frame)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize(
    "folder",
    ["My Documents", "Bücher", "日本語", "100% wool", "a#b?c{d}", "date=2024", "shard=x", "a*"],
)
def test_tables_may_stand_in_any_folder(tmp_path: Path, folder: str) -> None:
    tables = open_delta_tables(str(tmp_path / folder))
    tables.raw_corpus.publish("s", raw_corpus("s"), None)
    assert (tmp_path / folder / "raw_corpus" / "_delta_log").is_dir()
    assert tables.raw_corpus.read("s").equals(raw_corpus("s"))
    assert tables.raw_corpus.scan().collect()["shard"].to_list() == ["s", "s"]
    tables.manifest.replace(manifest("a"), tables.manifest.read(), 3)
    assert tables.manifest.read().frame.equals(manifest("a"))


@pytest.mark.parametrize("folder", ["a[1]", "a|b", "a^b", "a\\b", "my%20notes", "a\nb"])
def test_a_folder_that_delta_cannot_take_is_refused_by_name(tmp_path: Path, folder: str) -> None:
    table = quality_metrics(tmp_path / folder)
    for work in (table.states, lambda: table.publish("s", metrics("s"), None)):
        with pytest.raises(InputError, match=r"has .* in it, which Delta tables cannot stand"):
            work()
    assert list(tmp_path.iterdir()) == []


def test_tables_are_found_by_file_uri_too(tmp_path: Path) -> None:
    quality_metrics(tmp_path / "my tables").publish("s", metrics("s"), None)
    by_uri = open_delta_tables((tmp_path / "my tables").as_uri()).quality_metrics
    assert by_uri.read("s").equals(metrics("s"))


@pytest.mark.parametrize("place", [".", "quality_metrics", "quality_metrics/_delta_log"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, place: str) -> None:
    file = tmp_path / "tables" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("in the way")
    with pytest.raises(InputError, match="tables/quality_metrics cannot be"):
        quality_metrics(tmp_path / "tables").publish("s", metrics("s"), None)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "overwritten": lambda file: file.write_bytes(b"\xff" * file.stat().st_size),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_data_file_is_an_input_error_that_names_the_table(
    tmp_path: Path, damage: str
) -> None:
    table = quality_metrics(tmp_path)
    for shard in ("s", "other"):
        table.publish(shard, metrics(shard), None)
    (file,) = (tmp_path / "quality_metrics" / "shard=s").glob("*.parquet")
    DAMAGES[damage](file)
    with pytest.raises(InputError, match=r"quality_metrics cannot be read: \S"):
        table.read("s")
    with pytest.raises(InputError, match=r"quality_metrics cannot be read: \S"):
        reading(table.uri, lambda: table.scan().collect())
    assert table.read("other").equals(metrics("other"))
    # Computing the shard again mends it.
    table.publish("s", metrics("s"), table.states()["s"], rewrite=True)
    assert table.read("s").equals(metrics("s"))


@pytest.mark.parametrize("content", ["{", "no json\n", '{"add":{}}\n', "\x00\x00"])
def test_a_corrupt_log_is_an_input_error_that_names_the_table(tmp_path: Path, content: str) -> None:
    table = quality_metrics(tmp_path)
    table.publish("s", metrics("s"), None)
    newest = max((tmp_path / "quality_metrics" / "_delta_log").glob("*.json"))
    newest.write_text(content)
    for work in (
        table.states,
        lambda: table.read("s"),
        table.scan,
        lambda: table.publish("s", metrics("s"), None),
    ):
        with pytest.raises(InputError, match="quality_metrics cannot be opened"):
            work()


def test_a_store_without_credentials_says_what_is_missing_and_where_it_comes_from() -> None:
    with pytest.raises(InputError) as told:
        open_table("az://container/notes/chunks")
    message = str(told.value)
    assert message.startswith("the table at az://container/notes/chunks cannot be opened: ")
    assert "Account must be specified; credentials, region and endpoint" in message
    assert message.isprintable()


def test_a_scheme_that_is_no_stores_is_not_taken_for_a_table_that_is_not_there_yet() -> None:
    with pytest.raises(SettingsError, match="no store is called s4://"):
        open_table("s4://bucket/notes/chunks")


def test_somebody_elses_delta_table_is_not_overwritten(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "quality_metrics"), pl.DataFrame({"x": [1]}))
    with pytest.raises(InputError, match="quality_metrics cannot be read"):
        quality_metrics(tmp_path).publish("s", metrics("s"), None)
    assert pl.read_delta(str(tmp_path / "quality_metrics")).columns == ["x"]


def test_a_commit_of_another_shard_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both conflicts and harmless company land between the check and the commit."""
    table = quality_metrics(tmp_path)
    table.publish("s", metrics("s"), None)
    seen, write = table.states()["s"], write_deltalake
    meanwhile = iter(["other", "s"])

    def interrupted(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(delta_files, "write_deltalake", write)
        shard = next(meanwhile)
        quality_metrics(tmp_path).publish(
            shard, metrics(shard, 9.0), quality_metrics(tmp_path).states().get(shard)
        )
        write(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(delta_files, "write_deltalake", interrupted)
    table.publish("s", metrics("s", 2.0), seen)
    assert table.read("s").equals(metrics("s", 2.0))

    monkeypatch.setattr(delta_files, "write_deltalake", interrupted)
    with pytest.raises(Superseded):
        table.publish("s", metrics("s", 3.0), table.states()["s"])
    assert table.read("s").equals(metrics("s", 9.0))
