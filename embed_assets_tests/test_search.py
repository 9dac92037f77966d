"""Search finds the chunk that says the query, with its source, whatever else stands there."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embed_assets.checksums import with_checksums
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.pipeline import chunk_shard
from embed_assets.rows import FINGERPRINTS
from embed_assets.search import search
from embed_assets.settings import PipelineSettings
from embed_assets.tables.delta import open_delta_tables
from embed_assets_tests.small_pipelines import read, run, run_shard, settings_for, write_files
from embed_assets_tests.tiny_models import bert_model

FILES = {
    f"folder/{word}.md": f"# About {word}\n\n{word} " * 40 for word in ("apples", "zinc", "fog")
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> PipelineSettings:
    folder = tmp_path_factory.mktemp("searched")
    write_files(folder / "corpus", {**FILES, "odd.txt": "Quite another thing: 42!"})
    settings = settings_for(folder, tiny_bert, shard_bytes=1024)
    run(settings)
    return settings


def test_the_text_of_a_chunk_finds_that_chunk(searched: PipelineSettings) -> None:
    tables = open_delta_tables(searched.tables)
    assert read(searched, "chunks")["shard"].n_unique() > 1
    best, *_ = search(tables, "Quite another thing: 42!", 3, "cpu")
    assert best.score == pytest.approx(1, abs=1e-5)
    assert (best.source, best.title) == ("odd.txt", "odd")
    assert best.text == "Quite another thing: 42!"
    row = read(searched, "chunks").filter(pl.col("chunk_id") == best.chunk_id)
    assert row["shard"].item() == best.shard


@pytest.mark.parametrize("k", [1, 2, 1000])
def test_hits_are_the_k_best_of_all_shards_in_order(searched: PipelineSettings, k: int) -> None:
    tables, query = open_delta_tables(searched.tables), "fog and zinc"
    hits = search(tables, query, k, "cpu")
    rows = read(searched, "embeddings")
    vector = OpenedPipeline(searched).encoder().encode_query(query)
    scores = rows["embedding"].list.to_array(32).to_numpy() @ vector
    expected = sorted(scores.tolist(), reverse=True)[:k]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)
    assert len({hit.chunk_id for hit in hits}) == len(hits) == min(k, rows.height)
    for hit in hits:
        row = rows.filter(pl.col("chunk_id") == hit.chunk_id)
        own = row["embedding"].list.to_array(32).to_numpy()[0] @ vector
        assert hit.score == pytest.approx(own, abs=1e-5)


def test_empty_tables_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"embed-assets run --corpus FOLDER --tables .*nothing"):
        search(open_delta_tables(str(tmp_path / "nothing")), "query", 3, "cpu")


def test_half_way_to_a_new_model_only_its_vectors_are_compared(
    tmp_path: Path, tiny_bert: Path
) -> None:
    write_files(tmp_path / "corpus", FILES)
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    folder = bert_model(tmp_path / "new-model", pooling="cls")
    new = OpenedPipeline(settings.model_copy(update={"model": str(folder)}))
    done = min(new.pieces)
    new.claim()
    run_shard(done, new)
    chunk = read(settings, "chunks").filter(pl.col("shard") == done).row(0, named=True)
    hits = search(new.tables, chunk["text"], 500, "cpu")
    assert {hit.shard for hit in hits} == {done}
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_old_vectors_keep_their_texts_while_the_new_chunks_have_none(
    tmp_path: Path, tiny_bert: Path
) -> None:
    write_files(tmp_path / "corpus", FILES)
    settings = settings_for(tmp_path, tiny_bert, max_tokens=64)
    run(settings)
    before = search(open_delta_tables(settings.tables), "fog", 500, "cpu")
    finer = OpenedPipeline(settings.model_copy(update={"max_tokens": 16}))
    finer.claim()
    for shard in finer.pieces:
        chunk_shard(shard, finer)
    rows, chunks = read(settings, "embeddings"), read(settings, "chunks")
    assert not set(rows["chunk_id"]) <= set(chunks["chunk_id"])
    assert all(hit.text for hit in before)
    assert search(finer.tables, "fog", 500, "cpu") == before


def test_a_model_that_was_changed_in_place_is_not_compared_with_old_vectors(
    tmp_path: Path, tiny_bert: Path
) -> None:
    write_files(tmp_path / "corpus", {"a.txt": "Some words."})
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    settings = settings_for(tmp_path, folder)
    run(settings)
    tables = open_delta_tables(settings.tables)
    assert search(tables, "Some words.", 1, "cpu")[0].score == pytest.approx(1, abs=1e-5)
    shutil.rmtree(folder)
    bert_model(tmp_path / "tuned", pooling="cls").rename(folder)
    with pytest.raises(InputError, match=r"is not what it was .* run the pipeline again"):
        search(tables, "Some words.", 1, "cpu")
    run(settings)
    assert search(tables, "Some words.", 1, "cpu")[0].score == pytest.approx(1, abs=1e-5)


def test_a_damaged_table_is_an_input_error(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {"a.txt": "Some words."})
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    for file in Path(settings.tables).glob("embeddings/*/*.parquet"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="embeddings cannot be read"):
        search(open_delta_tables(settings.tables), "query", 1, "cpu")


def test_vectors_of_a_newer_version_ask_for_an_upgrade(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {"a.txt": "Some words."})
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    tables = open_delta_tables(settings.tables)
    snapshot = tables.fingerprints.read()
    noted = snapshot.frame.with_columns(settings=pl.lit('{"a_setting_of_tomorrow": 1}'))
    tables.fingerprints.replace(with_checksums(noted, FINGERPRINTS), snapshot, snapshot.counter + 1)
    with pytest.raises(InputError, match="does not know; upgrade embed-assets"):
        search(tables, "query", 1, "cpu")


def test_vectors_of_any_length_are_compared_by_direction(tmp_path: Path) -> None:
    folder = bert_model(tmp_path / "unscaled", normalize=False)
    write_files(tmp_path / "corpus", FILES)
    settings = settings_for(tmp_path, folder)
    run(settings)
    rows = read(settings, "embeddings")
    norms = np.linalg.norm(rows["embedding"].list.to_array(32).to_numpy(), axis=1)
    assert norms.max() > 1.5
    text = read(settings, "chunks")["text"][0]
    best = search(open_delta_tables(settings.tables), text, 1, "cpu")[0]
    assert best.text == text
    assert best.score == pytest.approx(1, abs=1e-5)
