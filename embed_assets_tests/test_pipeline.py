"""The whole flow on small folders: what stands afterwards, what is computed again, what is refused.

A tiny random BERT, real files, real Delta tables; no Dagster.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embed_assets import opened_pipeline
from embed_assets.checksums import row_checksums
from embed_assets.errors import InputError, SettingsError
from embed_assets.fingerprints import recorded_configurations
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.pipeline import chunk_shard, embed_shard, ingest_shard, measure_shard
from embed_assets.rows import FINGERPRINTS, FORMAT_VERSION
from embed_assets.settings import PipelineSettings
from embed_assets.staleness import Stale
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.table import Superseded
from embed_assets_tests.small_pipelines import (
    Vectors,
    WatchedEncoder,
    read,
    run,
    run_shard,
    settings_for,
    shard_of,
    versions,
    write_files,
)
from embed_assets_tests.tiny_models import bert_model

SHARD_TABLES = ("raw_corpus", "chunks", "embeddings", "quality_metrics")


def prose(topic: str, n_sentences: int = 30) -> str:
    """Text of more than 600 bytes, every sentence different."""
    return "".join(f"Sentence {i} is about {topic} no {i * i}. " for i in range(n_sentences))


FILES = {"a.txt": prose("apples"), "b.md": f"# Pears\n\n{prose('pears')}", "c.txt": prose("plums")}


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    write_files(tmp_path / "corpus", FILES)
    return settings_for(tmp_path, tiny_bert)


@pytest.fixture
def watched(settings: PipelineSettings) -> WatchedEncoder:
    return WatchedEncoder(OpenedPipeline(settings).encoder())


@pytest.fixture(scope="session")
def wide_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_model(tmp_path_factory.mktemp("models") / "wide-bert", dimension=16)


def change(settings: PipelineSettings, name: str, text: str) -> None:
    write_files(Path(settings.corpus), {name: text})


def test_every_chunk_has_one_vector_and_all_counts_agree(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    write_files(tmp_path / "corpus", {"empty.txt": " \n", "deep/d.txt": "Short."})
    (tmp_path / "corpus" / "latin.txt").write_bytes(b"caf\xe9")
    run(settings)
    documents, rejected = read(settings, "raw_corpus"), read(settings, "rejected")
    chunks, embeddings = read(settings, "chunks"), read(settings, "embeddings")
    manifest, metrics = read(settings, "shards"), read(settings, "quality_metrics")

    assert sorted(documents["source"]) == ["a.txt", "b.md", "c.txt", "deep/d.txt"]
    assert sorted(rejected["source"]) == ["empty.txt", "latin.txt"]
    assert documents.height + rejected.height == manifest.height
    for table in (documents, chunks, embeddings, metrics):
        assert set(table["shard"]) == set(manifest["shard"])
    assert documents["doc_id"].n_unique() == documents.height
    assert chunks["chunk_id"].n_unique() == chunks.height
    assert chunks.height > manifest.height
    assert embeddings["chunk_id"].to_list() == chunks["chunk_id"].to_list()
    assert set(chunks["doc_id"]) == set(documents["doc_id"])
    by_metric = metrics.group_by("metric").agg(pl.col("value").sum())
    total = dict(by_metric.iter_rows())
    assert total["documents"] == documents.height
    assert total["rejected"] == rejected.height
    assert total["chunks"] == chunks.height
    assert total["tokens"] == chunks["n_tokens"].sum()
    assert set(metrics.filter(pl.col("metric") == "coverage")["value"]) == {1.0}


def test_a_chunk_is_the_slice_of_its_document(settings: PipelineSettings) -> None:
    change(settings, "d.txt", "Grüße aus Köln \U0001f600! " * 40 + "\r\n\r\n　終わり。")
    run(settings)
    texts = dict(read(settings, "raw_corpus").select("doc_id", "text").iter_rows())
    for row in read(settings, "chunks").iter_rows(named=True):
        assert texts[row["doc_id"]][row["start"] : row["end"]] == row["text"]
        assert row["n_tokens"] == len(row["token_ids"]) <= 64


def test_vectors_are_those_that_sentence_transformers_gives_for_the_chunk_text(
    settings: PipelineSettings, tiny_bert: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    run(settings)
    rows = read(settings, "embeddings").join(
        read(settings, "chunks").select("chunk_id", "text"), on="chunk_id"
    )
    expected = SentenceTransformer(str(tiny_bert), device="cpu").encode(rows["text"].to_list())
    vectors = rows["embedding"].list.to_array(32).to_numpy()
    assert np.abs(vectors - expected).max() < 1e-5


def test_stored_checksums_prove_the_rows(settings: PipelineSettings) -> None:
    run(settings)
    rows = read(settings, "embeddings")
    assert rows["checksum"].to_list() == row_checksums(rows).tolist()


def test_the_same_corpus_gives_the_same_rows_anywhere(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    run(settings)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(settings.corpus, elsewhere / "corpus")
    again = settings_for(elsewhere, Path(settings.model))
    run(again)
    for table in ("raw_corpus", "chunks"):
        unstable = ("shard", "input_version")
        assert read(again, table).drop(unstable).equals(read(settings, table).drop(unstable))


def test_running_again_writes_nothing_and_loads_no_model(settings: PipelineSettings) -> None:
    run(settings)
    before = versions(settings)
    assert before.keys() >= {*SHARD_TABLES, "shards", "fingerprints"}
    assert run(settings) == []

    def must_not_load() -> WatchedEncoder:
        raise AssertionError("there is nothing to embed")

    pipeline = OpenedPipeline(settings)
    pipeline.claim()
    for shard in pipeline.pieces:
        outcomes = [
            ingest_shard(shard, pipeline),
            chunk_shard(shard, pipeline),
            embed_shard(shard, pipeline, must_not_load),
            measure_shard(shard, pipeline),
        ]
        assert not any(outcome.written for outcome in outcomes)
        assert all(outcome.n_rows for outcome in outcomes)
        assert all(finding.passed for outcome in outcomes for finding in outcome.findings)
    assert versions(settings) == before


def test_a_changed_file_touches_its_shard_and_embeds_only_what_is_new(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    run(settings)
    before = {table: read(settings, table) for table in SHARD_TABLES}
    shard = shard_of(settings, "b.md")
    change(settings, "b.md", FILES["b.md"] + "\n\nA paragraph nobody has seen.")
    outcomes = run(settings, encoder=watched)
    assert {outcome.shard for outcome in outcomes} == {shard}
    for table, old in before.items():
        others = pl.col("shard") != shard
        assert read(settings, table).filter(others).equals(old.filter(others))
    known = set(before["chunks"]["text_hash"])
    new = set(read(settings, "chunks")["text_hash"]) - known
    assert watched.n_texts == len(new) > 0
    embedded = outcomes[2].numbers
    assert embedded["embedded_chunks"] == watched.n_texts < embedded["chunks"]


def test_a_touched_file_is_read_again_but_not_embedded(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    run(settings)
    before = versions(settings)
    change(settings, "a.txt", FILES["a.txt"])
    outcomes = run(settings, encoder=watched)
    assert [outcome.written for outcome in outcomes] == [True, False, False, False]
    assert watched.n_texts == 0
    assert versions(settings) == before | {
        "raw_corpus": before["raw_corpus"] + 1,
        "shards": before["shards"] + 1,
    }


def test_a_deleted_file_leaves_no_row_anywhere(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    change(settings, "small-1.txt", "First small file.")
    change(settings, "small-2.txt", "Second small file.")
    run(settings)
    shard = shard_of(settings, "small-1.txt")
    assert shard_of(settings, "small-2.txt") == shard
    documents = read(settings, "raw_corpus")
    gone = documents.filter(pl.col("source") == "small-1.txt")["doc_id"].item()
    (Path(settings.corpus) / "small-1.txt").unlink()
    run(settings, encoder=watched)
    for table in ("raw_corpus", "chunks", "embeddings"):
        assert gone not in read(settings, table)["doc_id"]
    assert "small-1.txt" not in read(settings, "shards")["source"]
    assert read(settings, "raw_corpus").height == documents.height - 1
    assert watched.n_texts == 0


def test_a_shard_whose_files_are_all_gone_is_gone_and_its_number_stays_used(
    settings: PipelineSettings,
) -> None:
    (Path(settings.corpus) / "broken.txt").write_bytes(b"\xff" * 700)
    run(settings)
    last = max(read(settings, "shards")["shard"])
    gone = [shard_of(settings, name) for name in ("c.txt", "broken.txt")]
    assert last in gone
    for name in ("c.txt", "broken.txt"):
        (Path(settings.corpus) / name).unlink()
    assert run(settings) == []
    for table in (*SHARD_TABLES, "rejected"):
        assert not set(gone) & set(read(settings, table)["shard"])
    change(settings, "c.txt", FILES["c.txt"])
    run(settings)
    assert shard_of(settings, "c.txt") > last
    assert OpenedPipeline(settings).stale_shards() == {}


def test_rows_of_a_vanished_shard_go_even_if_the_run_that_saw_it_was_killed(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(settings)
    gone = shard_of(settings, "c.txt")
    (Path(settings.corpus) / "c.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(opened_pipeline, "remove_vanished", lambda *_: None)
        OpenedPipeline(settings).plan()
    assert gone in read(settings, "embeddings")["shard"]
    run(settings)
    assert gone not in read(settings, "embeddings")["shard"]


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xff\xfe" * 400])
def test_a_shard_of_nothing_but_rejections_is_done(
    settings: PipelineSettings, content: bytes
) -> None:
    for name in FILES:
        (Path(settings.corpus) / name).write_bytes(content)
    outcomes = run(settings)
    assert [outcome.n_rows for outcome in outcomes] == [0] * len(outcomes)
    assert all(finding.passed for outcome in outcomes for finding in outcome.findings)
    assert read(settings, "rejected").height == len(FILES)
    assert OpenedPipeline(settings).stale_shards() == {}
    before = versions(settings)
    assert run(settings) == []
    assert versions(settings) == before


def test_a_shard_that_loses_its_last_document_loses_its_vectors(
    settings: PipelineSettings,
) -> None:
    run(settings)
    shard = shard_of(settings, "a.txt")
    change(settings, "a.txt", " ")
    run(settings)
    for table in SHARD_TABLES:
        assert shard not in read(settings, table)["shard"]
    assert read(settings, "rejected")["shard"].to_list() == [shard]
    change(settings, "a.txt", FILES["a.txt"])
    run(settings)
    assert read(settings, "rejected").is_empty()
    assert shard in read(settings, "embeddings")["shard"]


def test_a_text_that_comes_twice_is_embedded_once(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    line = "The same words in every file."
    for name in FILES:
        change(settings, name, line)
    run(settings, encoder=watched)
    assert watched.n_texts == 1
    rows = read(settings, "embeddings")
    assert rows.height == rows["chunk_id"].n_unique() == 3
    assert rows["embedding"].n_unique() == 1
    assert rows["checksum"].n_unique() == 3


def test_force_computes_everything_again_with_the_same_result(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    run(settings)
    before, rows = versions(settings), read(settings, "embeddings")
    outcomes = run(settings, encoder=watched, force=True)
    assert all(outcome.written for outcome in outcomes)
    assert watched.n_texts == rows["text_hash"].n_unique()
    after = versions(settings)
    n_shards = rows["shard"].n_unique()
    for table in SHARD_TABLES:
        assert after[table] == before[table] + n_shards
    of_the_run = ("provenance", "checksum", "content_version")
    assert read(settings, "embeddings").drop(of_the_run).equals(rows.drop(of_the_run))


def test_new_chunking_reuses_no_vector_under_another_fingerprint(
    settings: PipelineSettings,
) -> None:
    run(settings)
    smaller = settings.model_copy(update={"max_tokens": 32})
    stale = OpenedPipeline(smaller).stale_shards()
    assert set(stale.values()) == {Stale("chunks", "max_tokens default -> 32", by_settings=True)}
    run(smaller)
    assert (read(smaller, "chunks")["n_tokens"] <= 32).all()
    assert read(smaller, "embeddings")["fingerprint"].unique().to_list() == [
        OpenedPipeline(smaller).fingerprint
    ]


def test_a_new_model_replaces_vectors_shard_by_shard_and_old_ones_stay_readable(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    run(settings)
    old = read(settings, "embeddings")
    # Other weights, the same tokenizer: chunks stay.
    folder = bert_model(tmp_path / "heavier", pooling="cls")
    changed = settings.model_copy(update={"model": str(folder)})
    pipeline = OpenedPipeline(changed)
    pipeline.check_fits()
    stale = pipeline.stale_shards()
    assert set(stale) == set(old["shard"])
    first, *others = sorted(stale)
    pipeline.claim()
    encoder = WatchedEncoder(pipeline.encoder())
    run_shard(first, pipeline, encoder)
    rows = read(changed, "embeddings")
    assert encoder.n_texts == rows.filter(pl.col("shard") == first)["text_hash"].n_unique()
    assert not set(rows.filter(pl.col("shard") == first)["checksum"]) & set(old["checksum"])
    assert rows.filter(pl.col("shard") != first).equals(old.filter(pl.col("shard") != first))
    assert (rows.group_by("shard").agg(pl.col("fingerprint").n_unique())["fingerprint"] == 1).all()
    assert rows.filter(pl.col("shard") == first)["fingerprint"][0] == pipeline.fingerprint
    assert sorted(OpenedPipeline(changed).stale_shards()) == others
    models = [r.settings.model for r in recorded_configurations(pipeline.tables) if r.settings]
    assert models == [str(folder), settings.model]
    run(changed)
    assert read(changed, "embeddings")["fingerprint"].unique().to_list() == [pipeline.fingerprint]


def test_precision_alone_makes_only_vectors_stale(settings: PipelineSettings) -> None:
    run(settings)
    stale = OpenedPipeline(settings.model_copy(update={"precision": "bf16"})).stale_shards()
    assert set(stale.values()) == {Stale("embeddings", "precision fp32 -> bf16", by_settings=True)}
    assert OpenedPipeline(settings.model_copy(update={"precision": "fp32"})).stale_shards() == {}


def test_a_model_of_another_dimension_is_refused_before_anything_is_written(
    settings: PipelineSettings, wide_bert: Path
) -> None:
    run(settings)
    before = versions(settings)
    change(settings, "new.txt", prose("cherries"))
    with pytest.raises(InputError, match=r"hold vectors of 32 dimensions, .* gives 16; .*tables"):
        run(settings.model_copy(update={"model": str(wide_bert)}))
    assert versions(settings) == before


def test_a_model_that_never_gave_a_vector_is_in_nobodys_way(
    settings: PipelineSettings, wide_bert: Path
) -> None:
    """The first run failed in the model; the next, with another one, must not be refused."""
    failed = OpenedPipeline(settings.model_copy(update={"model": str(wide_bert)}))
    failed.plan()
    failed.claim()
    run(settings)
    recorded = open_delta_tables(settings.tables).fingerprints.read().frame
    assert recorded["dimension"].to_list() == [32]
    assert run(settings) == []


def test_tables_of_a_newer_version_are_refused(settings: PipelineSettings) -> None:
    run(settings)
    table = open_delta_tables(settings.tables).fingerprints
    snapshot = table.read()
    newer = snapshot.frame.with_columns(format_version=pl.lit(FORMAT_VERSION + 1))
    table.replace(newer.cast(FINGERPRINTS), snapshot, 2)
    before = versions(settings)
    refusal = f"have format {FORMAT_VERSION + 1}, this version writes {FORMAT_VERSION}; upgrade"
    with pytest.raises(InputError, match=refusal):
        run(settings)
    assert versions(settings) == before


def test_too_much_overlap_for_the_models_own_limit_is_a_settings_error(
    settings: PipelineSettings,
) -> None:
    for overlap, fits in ((32, True), (33, False)):
        pipeline = OpenedPipeline(settings.model_copy(update={"overlap": overlap}))
        if fits:
            pipeline.check_fits()
        else:
            with pytest.raises(SettingsError, match="overlap 33 must be at most half of the 64"):
                pipeline.check_fits()


def test_a_model_file_that_changes_during_the_run_publishes_nothing(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    folder = shutil.copytree(settings.model, tmp_path / "model")
    changing = settings.model_copy(update={"model": str(folder)})

    def tamper(vectors: Vectors) -> Vectors:
        (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
        return vectors

    encoder = WatchedEncoder(OpenedPipeline(changing).encoder(), spoil=tamper)
    with pytest.raises(InputError, match=r"config\.json .*nothing was published"):
        run(changing, encoder=encoder)
    assert "embeddings" not in versions(changing)
    # A new run takes the new file for what it is.
    run(changing)
    assert OpenedPipeline(changing).stale_shards() == {}


def _nan(vectors: Vectors) -> Vectors:
    vectors[-1, 3] = np.nan
    return vectors


def _zero(vectors: Vectors) -> Vectors:
    vectors[0] = 0
    return vectors


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (_nan, "vectors_finite: 1 of"),
        (lambda vectors: vectors * np.inf, "vectors_finite"),
        (_zero, "norms_right: 1 of"),
        (lambda vectors: vectors * 1.01, "norms_right"),
    ],
)
def test_bad_vectors_are_refused_by_chunk_and_the_old_ones_stand(
    settings: PipelineSettings, spoil: Callable[[Vectors], Vectors], check: str
) -> None:
    run(settings)
    rows, shard = read(settings, "embeddings"), shard_of(settings, "a.txt")
    change(settings, "a.txt", "A new text.")
    encoder = WatchedEncoder(OpenedPipeline(settings).encoder(), spoil)
    with pytest.raises(InputError, match=check) as caught:
        run(settings, encoder=encoder)
    chunk = read(settings, "chunks").filter(pl.col("shard") == shard)["chunk_id"].item()
    assert chunk in str(caught.value)
    assert "nothing was published" in str(caught.value)
    assert read(settings, "embeddings").equals(rows)


def test_vectors_of_a_wrong_length_are_refused(settings: PipelineSettings, wide_bert: Path) -> None:
    """A backend that runs another model than the settings name."""
    wide = OpenedPipeline(settings.model_copy(update={"model": str(wide_bert)})).encoder()
    with pytest.raises(InputError, match=r"one_dimension: .*16.*expected 32"):
        run(settings, encoder=WatchedEncoder(wide))
    assert "embeddings" not in versions(settings)


def test_token_ids_that_the_model_would_not_make_are_refused(settings: PipelineSettings) -> None:
    encoder = WatchedEncoder(OpenedPipeline(settings).encoder(), wrong_ids=True)
    with pytest.raises(InputError, match="has other token ids than the model"):
        run(settings, encoder=encoder)
    assert encoder.n_texts == 0
    assert "embeddings" not in versions(settings)


def test_a_damaged_vector_is_embedded_again_and_never_reused(
    settings: PipelineSettings, watched: WatchedEncoder
) -> None:
    run(settings)
    table, shard = open_delta_tables(settings.tables).embeddings, shard_of(settings, "a.txt")
    rows = table.read(shard)
    assert rows.height >= 3
    damaged = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 1)
        .then(pl.col("embedding").list.eval(pl.element() + 0.25))
        .otherwise("embedding")
        .alias("embedding")
    )
    table.publish(shard, damaged, table.states()[shard], rewrite=True)
    change(settings, "a.txt", FILES["a.txt"] + "\n\nOne more paragraph.")
    run(settings, encoder=watched)
    after = table.read(shard)
    new = set(after["text_hash"]) - set(rows["text_hash"])
    assert watched.n_texts == len(new | {rows["text_hash"][1]})
    repaired = dict(after.select("text_hash", "embedding").iter_rows()).get(rows["text_hash"][1])
    assert repaired == rows["embedding"][1].to_list()


def test_a_run_that_was_overtaken_leaves_the_newer_result(settings: PipelineSettings) -> None:
    run(settings)
    shard = shard_of(settings, "a.txt")
    change(settings, "a.txt", "The older text.")
    slow = OpenedPipeline(settings)
    slow.plan()
    ingest_shard(shard, slow)
    chunk_shard(shard, slow)

    def overtaken(vectors: Vectors) -> Vectors:
        change(settings, "a.txt", "The newest text of all.")
        run(settings)
        return vectors

    encoder = WatchedEncoder(slow.encoder(), overtaken)
    with pytest.raises(Superseded, match=shard):
        embed_shard(shard, slow, lambda: encoder)
    texts = read(settings, "chunks").filter(pl.col("shard") == shard)["text"].to_list()
    assert texts == ["The newest text of all."]
    assert OpenedPipeline(settings).stale_shards() == {}


def test_documents_of_two_files_with_one_id_are_told_apart(tmp_path: Path, tiny_bert: Path) -> None:
    line = '{"id": "same", "text": "words"}\n'
    write_files(tmp_path / "corpus", {"a.jsonl": line, "b.jsonl": line})
    settings = settings_for(tmp_path, tiny_bert, id_column="id")
    run(settings)
    assert read(settings, "raw_corpus")["source"].to_list() == ["a.jsonl"]
    assert read(settings, "rejected").select("source", "reason").rows() == [
        ("b.jsonl", "duplicate id")
    ]
    assert OpenedPipeline(settings).stale_shards() == {}


def test_new_reading_settings_read_again_and_embed_only_new_text(
    tmp_path: Path, tiny_bert: Path, watched: WatchedEncoder
) -> None:
    write_files(tmp_path / "corpus", {"a.jsonl": '{"text": "words", "name": "A"}\n' * 3})
    for name in FILES:
        (tmp_path / "corpus" / name).unlink()
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    titled = settings.model_copy(update={"title_column": "name"})
    outcomes = run(titled, encoder=watched)
    assert [outcome.written for outcome in outcomes] == [True, True, False, False]
    assert read(titled, "raw_corpus")["title"].unique().to_list() == ["A"]
    assert watched.n_texts == 0


def test_an_unknown_shard_is_named_with_what_to_do(settings: PipelineSettings) -> None:
    run(settings)
    with pytest.raises(InputError, match=r"shard-000099 is not in the manifest .*materialise"):
        ingest_shard("shard-000099", OpenedPipeline(settings))


def test_runs_that_note_one_fingerprint_at_once_both_succeed(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several Dagster runs of one backfill start their embeddings together."""
    pipeline, rival = OpenedPipeline(settings), OpenedPipeline(settings)
    table = pipeline.tables.fingerprints
    replace = table.replace

    def overtaken(*arguments: object) -> None:
        monkeypatch.undo()
        rival.claim()
        replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "replace", overtaken)
    pipeline.claim()
    [recorded] = recorded_configurations(pipeline.tables)
    assert recorded.configuration == pipeline.configuration


def test_another_corpus_cannot_wipe_the_vectors_that_stand(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    run(settings)
    before = read(settings, "embeddings")
    write_files(tmp_path / "other", {"x.txt": prose("quinces"), "a.txt": prose("nuts")})
    other = settings.model_copy(update={"corpus": f"{tmp_path}/other"})
    with pytest.raises(InputError, match=r"hold the corpus .*/corpus, and only 1 of its 3 files"):
        run(other)
    assert read(settings, "embeddings").equals(before)


def test_a_corpus_that_moved_keeps_its_vectors(
    settings: PipelineSettings, watched: WatchedEncoder, tmp_path: Path
) -> None:
    run(settings)
    Path(settings.corpus).rename(tmp_path / "moved")
    (tmp_path / "moved" / "c.txt").unlink()
    moved = settings.model_copy(update={"corpus": f"{tmp_path}/moved"})
    run(moved, encoder=watched)
    assert watched.n_texts == 0
    assert set(read(settings, "raw_corpus")["source"]) == {"a.txt", "b.md"}
