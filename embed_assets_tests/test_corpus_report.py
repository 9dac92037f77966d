"""The report over the tables: pictures beside them, replaced whole, and no report of nothing."""

from pathlib import Path

import polars as pl
import pytest

from embed_assets.corpus_report import report_corpus
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS
from embed_assets.quality.report import Report
from embed_assets.quality.report_markdown import report_markdown
from embed_assets.quality.saved_plots import save_plots
from embed_assets_tests.small_pipelines import (
    read,
    run,
    run_shard,
    settings_for,
    write_files,
)

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_report_counts_what_the_tables_hold(tmp_path: Path, tiny_bert: Path) -> None:
    texts = {f"{name}/x.txt": f"xylophone {name}. " * 90 for name in ("one", "two", "three")}
    write_files(tmp_path / "corpus", texts)
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    report = report_corpus(OpenedPipeline(settings))
    assert report.summary["shards"] == read(settings, "embeddings")["shard"].n_unique()
    assert report.summary["chunks"] == read(settings, "chunks").height
    assert report.summary["documents"] == 3
    assert report.summary["coverage"] == 1
    assert report.plots.keys() >= {"vector_map", "token_lengths"}
    assert all(png.startswith(PNG) for png in report.plots.values())
    assert "xylophone" not in report_markdown(report, "notes")
    assert all(check.passed and check.n_shards == 3 for check in report.checks if check.is_blocking)
    assert len(report.checks) == len(BLOCKING_CHECKS) + len(WARNING_CHECKS)


def test_a_new_model_is_compared_with_the_one_before(tmp_path: Path, tiny_bert: Path) -> None:
    sentences = [f"Sentence {n} says {n * n} things about {n % 7}." for n in range(400)]
    write_files(tmp_path / "corpus", {"a.txt": " ".join(sentences)})
    before = settings_for(tmp_path, tiny_bert, max_tokens=16)
    run(before)
    first = report_corpus(OpenedPipeline(before))
    assert not any(name.startswith("drift") for name in first.summary)
    assert "drift" not in first.plots

    now = settings_for(tmp_path, tiny_bert, max_tokens=16, precision="bf16")
    run(now)
    # Twice: what the first report keeps must not stand in for the model before.
    for _ in range(2):
        report = report_corpus(OpenedPipeline(now))
        assert report.summary["drift_neighbour_overlap"] > 0.7
        assert report.summary["drift_similarity_correlation"] > 0.98
        assert report.summary["drift_texts"] > 100
        assert report.plots["drift"].startswith(PNG)


@pytest.mark.usefixtures("without_pictures")
def test_new_files_move_the_mean_and_are_counted(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {"a.txt": "Apples are red. " * 90})
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    report_corpus(OpenedPipeline(settings))
    write_files(tmp_path / "corpus", {"b.txt": "The moon turns blue tonight. " * 90})
    run(settings)
    summary = report_corpus(OpenedPipeline(settings)).summary
    assert summary["drift_centroid_distance"] > 0
    assert 0 < summary["drift_new_text_share"] <= 1
    assert "drift_texts" not in summary


@pytest.mark.usefixtures("without_pictures")
def test_damage_to_what_stands_shows_in_the_report(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {"a.txt": "Apples are red. " * 90})
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    table = OpenedPipeline(settings).tables.embeddings
    (shard,) = table.states()
    spoilt = table.read(shard).with_columns(doc_id=pl.lit("another"))
    table.publish(shard, spoilt, table.states()[shard], rewrite=True)
    report = report_corpus(OpenedPipeline(settings))
    (failed,) = [check for check in report.checks if not check.passed and check.is_blocking]
    assert failed.check == "rows_as_written"
    assert spoilt["chunk_id"].sort()[0] in failed.sentence


@pytest.mark.usefixtures("without_pictures")
def test_shards_that_wait_for_another_model_are_not_failures(
    tmp_path: Path, tiny_bert: Path
) -> None:
    texts = {f"{name}.txt": f"Fruit {name}. " * 90 for name in ("one", "two")}
    write_files(tmp_path / "corpus", texts)
    run(settings_for(tmp_path, tiny_bert))
    pipeline = OpenedPipeline(settings_for(tmp_path, tiny_bert, document_prompt="passage: "))
    pipeline.prepare()
    run_shard(next(iter(pipeline.stale_shards())), pipeline)
    report = report_corpus(pipeline)
    assert all(check.passed and check.n_shards == 1 for check in report.checks if check.is_blocking)
    # Half a corpus is no sample of it.
    assert pipeline.tables.probes.read().frame.is_empty()


def test_no_vectors_no_report(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="has no vectors yet; materialise some shards first"):
        report_corpus(OpenedPipeline(settings_for(tmp_path, tiny_bert)))


def report(**plots: bytes) -> Report:
    return Report(summary={}, checks=(), plots=plots, worst_shards=pl.DataFrame())


def test_pictures_are_written_and_replaced_whole(tmp_path: Path) -> None:
    folder = save_plots(
        report(norms=PNG + b"old", vector_map=PNG).plots, str(tmp_path), "quality_report"
    )
    assert folder == str(tmp_path / "quality_report")
    with (tmp_path / "quality_report" / "norms.png").open("rb") as viewer:
        save_plots(report(norms=PNG + b"new").plots, str(tmp_path), "quality_report")
        # Who has the old picture open still reads the old one, to the end.
        assert viewer.read() == PNG + b"old"
    assert (tmp_path / "quality_report" / "norms.png").read_bytes() == PNG + b"new"
    names = sorted(file.name for file in (tmp_path / "quality_report").iterdir())
    assert names == ["norms.png", "vector_map.png"]
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "quality_report").iterdir()}
    assert modes == {0o644}


def test_no_pictures_are_written_for_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert save_plots(report(norms=PNG).plots, "s3://bucket/tables", "quality_report") is None
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "quality_report").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written to .*quality_report: File exists"):
        save_plots(report(norms=PNG).plots, str(tmp_path), "quality_report")
