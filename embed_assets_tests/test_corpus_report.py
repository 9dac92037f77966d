"""The report over the tables: pictures beside them, replaced whole, and no report of nothing."""

from pathlib import Path

import polars as pl
import pytest

from embed_assets.corpus_report import report_corpus
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.quality.report import Report, report_markdown
from embed_assets.quality.saved_plots import save_plots
from embed_assets_tests.small_pipelines import read, run, settings_for, write_files

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
    assert "xylophone" not in report_markdown(report)


def test_no_vectors_no_report(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="has no vectors yet; materialise some shards first"):
        report_corpus(OpenedPipeline(settings_for(tmp_path, tiny_bert)))


def report(**plots: bytes) -> Report:
    return Report(summary={}, plots=plots, worst_shards=pl.DataFrame(), findings=())


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
