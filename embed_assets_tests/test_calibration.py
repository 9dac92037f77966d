"""int8: fitted once to a sample of the corpus, the same vectors ever after."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from embed_assets import calibration
from embed_assets.doctor.child import Child
from embed_assets.doctor.examination import examine
from embed_assets.embedding import openvino_int8
from embed_assets.embedding.openvino_encoder import OpenVinoEncoder
from embed_assets.errors import SettingsError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.search import search
from embed_assets.settings import PipelineSettings
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.in_memory import in_memory_tables
from embed_assets.tables.table import Superseded
from embed_assets_tests.small_pipelines import read, run, settings_for, versions, write_files
from embed_assets_tests.tiny_models import TEXTS

FILES = {f"{i}.md": f"# Part {i}\n\n{TEXTS[i % 2]}" for i in range(6)}


def int8_settings(folder: Path, model: Path, **values: object) -> PipelineSettings:
    return settings_for(folder, model, precision="int8", backend="auto", **values)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A folder with a corpus and the int8 tables made from it."""
    folder = tmp_path_factory.mktemp("int8")
    write_files(folder / "corpus", FILES)
    run(int8_settings(folder, tiny_bert))
    return folder


@pytest.fixture
def settings(embedded: Path, tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    """A copy of it, to do something to."""
    shutil.copytree(embedded, tmp_path / "copy")
    return int8_settings(tmp_path / "copy", tiny_bert)


def vectors(settings: PipelineSettings) -> NDArray[np.float32]:
    rows = read(settings, "embeddings").sort("chunk_id")
    return rows["embedding"].list.to_array(32).to_numpy()


def test_int8_vectors_are_near_those_of_fp32_and_are_made_once(
    settings: PipelineSettings, tmp_path: Path, tiny_bert: Path
) -> None:
    exact = settings_for(tmp_path / "copy", tiny_bert, tables=f"{tmp_path}/exact")
    run(exact)
    cosines = np.einsum("ij,ij->i", vectors(settings), vectors(exact))
    assert 0.95 < cosines.min() < 0.9999999
    assert '"precision": "int8"' in read(settings, "embeddings")["provenance"][0]
    before = versions(settings)
    assert run(settings) == []
    # Only the copy's new place is noted.
    assert versions(settings) == before | {"fingerprints": before["fingerprints"] + 1}
    assert isinstance(OpenedPipeline(settings).encoder(), OpenVinoEncoder)


def test_the_sample_is_what_the_model_reads_and_at_most_128_chunks(
    settings: PipelineSettings,
) -> None:
    sample = OpenedPipeline(settings).calibration
    assert sample is not None
    chunks = read(settings, "chunks")["token_ids"].to_list()
    taken = sample.frame["token_ids"].to_list()
    assert 0 < len(taken) <= 128
    assert all(ids in chunks for ids in taken[:20])
    assert [len(ids) for ids in taken] == sample.tokens.lengths.tolist()


def test_a_growing_corpus_leaves_the_sample_and_the_vectors_as_they_are(
    settings: PipelineSettings,
) -> None:
    before = read(settings, "embeddings")
    write_files(Path(settings.corpus), {"new.md": "Something new. " * 60})
    done = run(settings)
    assert len({outcome.shard for outcome in done}) == 1
    kept = read(settings, "embeddings").filter(pl.col("shard").is_in(before["shard"].unique()))
    assert kept.equals(before)


def test_a_lost_sample_is_taken_again_as_it_was(settings: PipelineSettings) -> None:
    fingerprint = OpenedPipeline(settings).fingerprint
    shutil.rmtree(f"{settings.tables}/calibration")
    assert OpenedPipeline(settings).fingerprint == fingerprint
    assert not Path(f"{settings.tables}/calibration").exists()
    assert run(settings) == []
    assert Path(f"{settings.tables}/calibration").exists()


def test_another_chunking_gets_a_sample_of_its_own_and_the_old_one_stays(
    settings: PipelineSettings,
) -> None:
    other = settings.model_copy(update={"max_tokens": 32})
    OpenedPipeline(other).prepare()
    tables = open_delta_tables(settings.tables)
    assert len(calibration.versions(tables)) == 2
    for each in (settings, other):
        pipeline = OpenedPipeline(each)
        kept = calibration.standing(tables, pipeline.chunking_version)
        assert kept is not None
        assert kept.frame.equals(pipeline.calibration.frame)  # type: ignore[union-attr]


def test_a_sample_that_another_run_has_kept_meanwhile_wins(settings: PipelineSettings) -> None:
    sample = OpenedPipeline(settings).calibration
    assert sample is not None
    tables = in_memory_tables()
    calibration.keep(tables, sample)
    calibration.keep(tables, sample)
    assert tables.calibration.version() == 0
    changed = sample.frame.head(3).with_columns(content_version=pl.lit("other"))
    with pytest.raises(Superseded, match="run again"):
        calibration.keep(tables, calibration.Calibration(changed))


def test_other_settings_are_said_to_be_what_makes_shards_stale(settings: PipelineSettings) -> None:
    exact = OpenedPipeline(settings.model_copy(update={"precision": "fp32"}))
    reasons = {stale.reason for stale in exact.stale_shards().values()}
    assert reasons == {"precision int8 -> fp32"}


def test_search_and_doctor_know_int8_tables(settings: PipelineSettings) -> None:
    tables = open_delta_tables(settings.tables)
    text = read(settings, "chunks")["text"][0]
    (best,) = search(tables, text, 1, "cpu")
    assert best.text == text
    with Child() as reader:
        assert examine(settings.tables, reader) == []


def test_without_nncf_a_run_says_what_to_install(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_int8, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"pip install 'embed-assets\[int8\]'"):
        OpenedPipeline(settings).prepare()


def test_int8_with_torch_is_refused(settings: PipelineSettings) -> None:
    with pytest.raises(SettingsError, match="set device cpu and backend auto"):
        OpenedPipeline(settings.model_copy(update={"backend": "torch"})).prepare()


def test_a_corpus_without_text_needs_no_sample(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {"blank.md": " \n"})
    settings = int8_settings(tmp_path, tiny_bert)
    run(settings)
    assert read(settings, "embeddings").is_empty()
