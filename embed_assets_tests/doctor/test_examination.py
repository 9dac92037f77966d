"""The doctor finds what changes what a reader sees, names it, and is quiet otherwise."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from embed_assets.cli import main
from embed_assets.doctor.child import Child, Crashed
from embed_assets.doctor.examination import examine
from embed_assets.doctor.finding import Finding, Kind
from embed_assets.doctor.leftovers import leftovers
from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings
from embed_assets.tables.durable import LOCK_FILE
from embed_assets_tests.faults.damage import flips, view
from embed_assets_tests.small_pipelines import run, settings_for, write_files


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> PipelineSettings:
    """A corpus of four shards that was run, changed, and run again."""
    folder = tmp_path_factory.mktemp("finished")
    files = {f"{n}.txt": "".join(f"file {n} says {i}. " for i in range(99)) for n in range(3)}
    write_files(folder / "corpus", files | {"bad.jsonl": "{\n" * 300})
    settings = settings_for(folder, tiny_bert)
    run(settings)
    write_files(folder / "corpus", {"1.txt": "".join(f"now it is {i}. " for i in range(99))})
    run(settings)
    return settings


@pytest.fixture
def settings(finished: PipelineSettings, tmp_path: Path) -> PipelineSettings:
    """The same, with tables to be damaged."""
    shutil.copytree(finished.tables, tmp_path / "tables")
    return finished.model_copy(update={"tables": str(tmp_path / "tables")})


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child() as reader:
        yield reader


def kinds(findings: list[Finding]) -> set[Kind]:
    return {finding.kind for finding in findings}


def data_file(settings: PipelineSettings, table: str) -> Path:
    """A file that holds rows of the last shard."""
    handle = DeltaTable(f"{settings.tables}/{table}")
    return Path(max(handle.file_uris()))


def newest_commit(settings: PipelineSettings, table: str) -> Path:
    return max((Path(settings.tables) / table / "_delta_log").glob("*.json"))


def test_sound_tables_are_clean(settings: PipelineSettings, child: Child) -> None:
    assert examine(settings.tables, child) == []


def test_to_look_needs_no_right_to_write(settings: PipelineSettings, child: Child) -> None:
    """A lock that cannot be opened, as on a read-only disk, keeps nobody from looking."""
    (Path(settings.tables) / LOCK_FILE).unlink()
    (Path(settings.tables) / LOCK_FILE).mkdir()
    assert examine(settings.tables, child) == []


@pytest.mark.parametrize(
    "per_file", [1, pytest.param(25, marks=pytest.mark.soak)], ids=["quick", "soak"]
)
def test_every_flipped_bit_that_a_reader_could_see_is_found(
    settings: PipelineSettings, child: Child, per_file: int
) -> None:
    root = Path(settings.tables)
    sound, n_seen = view(root), 0
    for damage in flips(root, per_file, seed=per_file):
        before = damage.apply(root)
        if view(root) != sound:
            n_seen += 1
            assert examine(settings.tables, child), f"not found: {damage}"
        (root / damage.path).write_bytes(before)
    assert n_seen > 10
    assert examine(settings.tables, child) == []


@pytest.mark.parametrize("table", ["rejected", "embeddings", "shards"])
@pytest.mark.parametrize("way", ["missing", "truncated", "empty"])
def test_a_data_file_that_is_not_whole_is_named(
    settings: PipelineSettings, child: Child, table: str, way: str
) -> None:
    file = data_file(settings, table)
    if way == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 100 * (way == "truncated")])
    found = [f for f in examine(settings.tables, child) if f.kind is Kind.FILE]
    assert {f.table for f in found} == {table}
    assert table == "shards" or file.name in found[0].detail


@pytest.mark.parametrize("content", [b"", b'{"commitInfo":{"time', b"\xff\xfe"])
def test_a_commit_that_is_empty_or_half_written_is_named(
    settings: PipelineSettings, child: Child, content: bytes
) -> None:
    commit = newest_commit(settings, "embeddings")
    commit.write_bytes(content)
    found = [f for f in examine(settings.tables, child) if f.kind is Kind.COMMIT]
    assert [f.where for f in found] == [f"_delta_log/{commit.name}"]


def test_a_corrupt_log_checkpoint_is_named(settings: PipelineSettings, child: Child) -> None:
    DeltaTable(f"{settings.tables}/chunks").create_checkpoint()
    assert examine(settings.tables, child) == []
    (checkpoint,) = (Path(settings.tables) / "chunks" / "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    found = examine(settings.tables, child)
    assert Kind.LOG_CHECKPOINT in kinds(found)
    assert any(checkpoint.name in f.where for f in found)


def test_leftovers_are_named_and_other_files_left_alone(
    settings: PipelineSettings, child: Child
) -> None:
    folder = Path(settings.tables) / "embeddings"
    (shard, *_) = sorted(folder.glob("shard=*"))
    for name in ("part-0-a.zstd.parquet", "part-0-b.zstd.parquet#1", "notes.txt"):
        (shard / name).write_bytes(b"x")
    (folder / "_delta_log" / "_commit_1f.json.tmp").write_bytes(b"x")
    found = examine(settings.tables, child)
    assert kinds(found) == {Kind.LEFTOVER}
    assert sorted(Path(f.where).name for f in found) == [
        "_commit_1f.json.tmp",
        "part-0-a.zstd.parquet",
        "part-0-b.zstd.parquet#1",
    ]


def test_files_that_only_a_checkpoint_of_the_log_names_are_no_leftovers(
    settings: PipelineSettings, child: Child
) -> None:
    DeltaTable(f"{settings.tables}/shards").vacuum(
        retention_hours=0, enforce_retention_duration=False, dry_run=False
    )
    DeltaTable(f"{settings.tables}/shards").create_checkpoint()
    for commit in (Path(settings.tables) / "shards" / "_delta_log").glob("*.json"):
        commit.unlink()
    assert examine(settings.tables, child) == []


def test_what_was_committed_since_is_no_leftover(settings: PipelineSettings) -> None:
    committed = data_file(settings, "embeddings")
    orphan = committed.with_name("part-0-orphan.parquet")
    orphan.write_bytes(b"x")
    gone = committed.with_name("part-0-gone.parquet")
    folder = Path(settings.tables) / "embeddings"
    assert list(leftovers(folder, [committed, orphan, gone], nobody_writes=True)) == [orphan]
    assert list(leftovers(folder, [committed, orphan, gone], nobody_writes=False)) == []


def rewrite(
    settings: PipelineSettings, table: str, change: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    """Replace a table's rows behind everybody's back, checksums of the changed rows included."""
    uri = f"{settings.tables}/{table}"
    rows = change(pl.read_delta(uri))
    rows.write_delta(uri, mode="overwrite")


def test_chunks_without_vectors_and_the_reverse_are_named(
    settings: PipelineSettings, child: Child
) -> None:
    shard = pl.read_delta(f"{settings.tables}/chunks")["shard"].min()
    mine = pl.col("shard") == shard
    gone = pl.read_delta(f"{settings.tables}/embeddings").filter(mine)["chunk_id"][0]
    rewrite(settings, "embeddings", lambda rows: rows.filter(pl.col("chunk_id") != gone))
    found = examine(settings.tables, child)
    assert Kind.NO_VECTOR in kinds(found)
    assert any(gone in f.detail and f.where == shard for f in found)
    rewrite(settings, "chunks", lambda rows: rows.filter(~mine))
    assert Kind.NO_CHUNK in kinds(examine(settings.tables, child))


def test_rows_that_stand_twice_are_named(settings: PipelineSettings, child: Child) -> None:
    rewrite(settings, "rejected", lambda rows: pl.concat([rows, rows.head(1)]))
    (finding,) = [f for f in examine(settings.tables, child) if f.kind is Kind.ROWS]
    assert "twice" in finding.detail


def test_mixed_fingerprints_are_named(settings: PipelineSettings, child: Child) -> None:
    def mix(rows: pl.DataFrame) -> pl.DataFrame:
        other = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("other"))
        return rows.with_columns(fingerprint=other.otherwise(pl.col("fingerprint")))

    rewrite(settings, "embeddings", mix)
    assert Kind.MIXED_FINGERPRINTS in kinds(examine(settings.tables, child))


def test_stale_shards_are_named_with_the_stage(settings: PipelineSettings, child: Child) -> None:
    shutil.rmtree(Path(settings.tables) / "quality_metrics")
    found = examine(settings.tables, child)
    assert kinds(found) == {Kind.STALE}
    assert {f.table for f in found} == {"quality_metrics"}


def test_somebody_elses_table_is_named_and_nothing_of_it_read(
    settings: PipelineSettings, child: Child
) -> None:
    shutil.rmtree(Path(settings.tables) / "rejected")
    pl.DataFrame({"x": [1]}).write_delta(f"{settings.tables}/rejected")
    assert Kind.FOREIGN_TABLE in kinds(examine(settings.tables, child))


def test_no_tables_are_an_error_that_names_the_place(tmp_path: Path, child: Child) -> None:
    with pytest.raises(InputError, match="there are no tables under"):
        examine(str(tmp_path), child)


def test_the_command_exits_with_1_and_names_each_finding(settings: PipelineSettings) -> None:
    file = data_file(settings, "embeddings")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    result = CliRunner().invoke(main, ["doctor", "--tables", settings.tables])
    assert result.exit_code == 1
    assert f"missing or damaged file: embeddings/{file.parent.name[6:]}: " in result.output
    as_json = CliRunner().invoke(main, ["doctor", "--tables", settings.tables, "--json"])
    assert as_json.exit_code == 1
    assert '"kind": "missing or damaged file"' in as_json.output
    file.write_bytes(data)
    assert CliRunner().invoke(main, ["doctor", "--tables", settings.tables]).exit_code == 0


def test_a_reader_that_dies_takes_nobody_with_it() -> None:
    with Child() as child:
        with pytest.raises(Crashed):
            child.call(os._exit, 1)
        assert child.call(len, [1, 2]) == 2
