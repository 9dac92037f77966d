"""What --repair mends, what it marks, and that it never deletes."""

import random
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from embed_assets.cli import main
from embed_assets.doctor.child import Child
from embed_assets.doctor.command import run_doctor
from embed_assets.doctor.examination import examine
from embed_assets.doctor.finding import Kind
from embed_assets.doctor.repair import SET_ASIDE
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets_tests.doctor.test_examination import (
    child,
    data_file,
    finished,
    newest_commit,
    settings,
)
from embed_assets_tests.faults.damage import WAYS, Damage, table_files
from embed_assets_tests.faults.truth import assert_as_undisturbed
from embed_assets_tests.small_pipelines import WatchedEncoder, run

__all__ = ["child", "finished", "settings"]


def repair(settings: PipelineSettings) -> list[str]:
    lines: list[str] = []
    run_doctor(settings.tables, lines.append, repair=True, as_json=False)
    return [line for line in lines if line.startswith("repair:")]


def embedded_again(settings: PipelineSettings, child: Child) -> int:
    """How many texts the next run embeds; the tables are right after it."""
    watched = WatchedEncoder(OpenedPipeline(settings).encoder())
    run(settings, encoder=watched)
    assert_as_undisturbed(settings)
    assert examine(settings.tables, child) == []
    return watched.n_texts


def test_a_damaged_vector_costs_one_embedding(settings: PipelineSettings, child: Child) -> None:
    """Its shard is marked, every sound row stays readable, and only that vector is made again."""
    uri = f"{settings.tables}/embeddings"
    rows = pl.read_delta(uri)
    spoilt = pl.when(pl.int_range(pl.len()) == 0).then(pl.col("embedding").list.reverse())
    rows.with_columns(spoilt.otherwise(pl.col("embedding"))).write_delta(uri, mode="overwrite")
    assert repair(settings)
    assert pl.read_delta(uri).height == rows.height - 1
    assert {f.kind for f in examine(settings.tables, child)} == {Kind.NO_VECTOR, Kind.STALE}
    assert embedded_again(settings, child) == 1


@pytest.mark.parametrize("table", ["raw_corpus", "rejected", "chunks", "quality_metrics"])
def test_a_lost_file_is_made_again_without_embedding(
    settings: PipelineSettings, child: Child, table: str
) -> None:
    data_file(settings, table).unlink()
    assert repair(settings)
    assert embedded_again(settings, child) == 0


@pytest.mark.parametrize(
    ("table", "content"),
    [("embeddings", b'{"commitInfo":{"time'), ("chunks", b""), ("shards", b'{"commitInfo":{"time')],
)
def test_a_commit_that_was_never_finished_is_taken_back(
    settings: PipelineSettings, child: Child, table: str, content: bytes
) -> None:
    commit = newest_commit(settings, table)
    commit.write_bytes(content)
    assert any(commit.name in line for line in repair(settings))
    embedded_again(settings, child)


def test_a_damaged_commit_amid_others_is_put_behind_a_checkpoint(
    settings: PipelineSettings, child: Child
) -> None:
    log = Path(settings.tables) / "quality_metrics" / "_delta_log"
    (log / f"{2:020}.json").write_bytes(b"")
    assert repair(settings)
    assert embedded_again(settings, child) == 0


def test_a_damaged_commit_behind_a_checkpoint_is_named_and_moved_away(
    settings: PipelineSettings, child: Child
) -> None:
    DeltaTable(f"{settings.tables}/chunks").create_checkpoint()
    commit = Path(settings.tables) / "chunks" / "_delta_log" / f"{1:020}.json"
    commit.write_bytes(b"")
    assert [f.kind for f in examine(settings.tables, child)] == [Kind.COMMIT]
    assert any(commit.name in line for line in repair(settings))
    assert examine(settings.tables, child) == []


def test_a_corrupt_log_checkpoint_is_done_without(settings: PipelineSettings, child: Child) -> None:
    uri = f"{settings.tables}/chunks"
    rows = pl.read_delta(uri)
    DeltaTable(uri).create_checkpoint()
    (checkpoint,) = Path(uri).glob("_delta_log/*.checkpoint.parquet")
    checkpoint.write_bytes(b"PAR1" + bytes(100))
    repair(settings)
    assert pl.read_delta(uri).equals(rows)
    assert examine(settings.tables, child) == []


@pytest.mark.parametrize("is_there", [True, False], ids=["broken", "missing"])
def test_vectors_outlive_a_log_that_is_lost(
    settings: PipelineSettings, child: Child, is_there: bool
) -> None:
    """Without a log there is no table; what is in its files is saved, and embedded by nobody."""
    log = Path(settings.tables) / "embeddings" / "_delta_log"
    if is_there:
        (log / f"{0:020}.json").write_bytes(b"{")
    else:
        shutil.rmtree(log)
    lines = repair(settings)
    assert any("sound vectors saved" in line for line in lines)
    assert embedded_again(settings, child) == 0


def test_a_log_that_lies_about_its_data_is_written_again(
    settings: PipelineSettings, child: Child
) -> None:
    commit = newest_commit(settings, "embeddings")
    text = commit.read_text()
    version = pl.read_delta(f"{settings.tables}/embeddings")
    number = 'numRecords\\":'
    assert number in text
    commit.write_text(text.replace(number, number + "1", 1))
    assert Kind.LOG_ENTRY in {f.kind for f in examine(settings.tables, child)}
    repair(settings)
    assert examine(settings.tables, child) == []
    assert (
        pl.read_delta(f"{settings.tables}/embeddings")
        .sort("chunk_id")
        .equals(version.sort("chunk_id"))
    )


def test_a_log_that_lies_about_the_columns_costs_no_vector(
    settings: PipelineSettings, child: Child
) -> None:
    (commit,) = (Path(settings.tables) / "embeddings" / "_delta_log").glob("0*0.json")
    text = commit.read_text()
    assert '\\"input_version\\"' in text
    commit.write_text(text.replace('\\"input_version\\"', '\\"input_versioN\\"', 1))
    assert Kind.FOREIGN_TABLE in {f.kind for f in examine(settings.tables, child)}
    lines = repair(settings)
    assert any("sound vectors saved" in line for line in lines)
    assert embedded_again(settings, child) == 0


def test_nothing_is_ever_deleted(settings: PipelineSettings, child: Child) -> None:
    root = Path(settings.tables)
    (shard, *_) = sorted((root / "chunks").glob("shard=*"))
    (shard / "part-0-orphan.parquet").write_bytes(b"orphan")
    (shard / "notes.txt").write_bytes(b"mine")
    data_file(settings, "embeddings").write_bytes(b"damaged")
    before = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert repair(settings)
    after = [path.name for path in root.rglob("*") if path.is_file()]
    assert set(before) <= set(after)
    assert (shard / "notes.txt").read_bytes() == b"mine"
    (orphan,) = (root / SET_ASIDE).rglob("part-0-orphan.parquet")
    assert orphan.read_bytes() == b"orphan"


def test_the_command_says_what_it_did_and_what_is_left(
    settings: PipelineSettings, child: Child
) -> None:
    data_file(settings, "embeddings").unlink()
    result = CliRunner().invoke(main, ["doctor", "--tables", settings.tables, "--repair"])
    assert result.exit_code == 1
    assert "marked to be made again" in result.output
    assert "embed-assets run makes" in result.output
    run(settings)
    again = CliRunner().invoke(main, ["doctor", "--tables", settings.tables, "--repair"])
    assert (again.exit_code, "clean" in again.output) == (0, True), again.output


@pytest.mark.parametrize(
    "n_damages", [1, pytest.param(100, marks=pytest.mark.soak)], ids=["quick", "soak"]
)
def test_any_damage_is_mended_by_repair_and_a_run(
    settings: PipelineSettings, child: Child, n_damages: int
) -> None:
    root, good = Path(settings.tables), Path(settings.tables).parent / "good"
    shutil.copytree(root, good)
    rng, files = random.Random(n_damages), table_files(root)
    for _ in range(n_damages):
        path = rng.choice(files)
        size = (root / path).stat().st_size
        damage = Damage(path, rng.choice(WAYS), rng.randrange(size), rng.randrange(8))
        damage.apply(root)
        try:
            if examine(settings.tables, child):
                repair(settings)
            run(settings)
            assert_as_undisturbed(settings)
            assert examine(settings.tables, child) == []
        except Exception as error:
            raise AssertionError(f"not mended: {damage}") from error
        shutil.rmtree(root)
        shutil.copytree(good, root)
