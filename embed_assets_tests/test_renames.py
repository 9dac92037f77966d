"""Files that are moved or renamed: read again under their new names, and nothing is embedded."""

import json
import os
import shutil
from pathlib import Path

import polars as pl

from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.renames import renamed
from embed_assets.settings import PipelineSettings
from embed_assets.shards import SourceFile
from embed_assets_tests.small_pipelines import (
    WatchedEncoder,
    read,
    run,
    settings_for,
    versions,
    write_files,
)


def prose(topic: str, n_sentences: int) -> str:
    return " ".join(f"Sentence {i} says something about {topic}." for i in range(n_sentences))


# A shard for each, two that share one, and one that spreads over several.
FILES = {
    "fruit/apples.txt": prose("apples", 20),
    "fruit/pears.md": prose("pears", 21),
    "fruit/stone/plums.txt": prose("plums", 20),
    "fruit/stone/sloes.txt": prose("sloes", 20),
    "roots/beets.txt": prose("beets", 5),
    "roots/swedes.txt": prose("swedes", 5),
    "roots/big.jsonl": "".join(
        f'{{"text": "{prose(f"turnip {i}", 1 + i % 5)}"}}\n' for i in range(20)
    ),
}


def mv(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)


def copy_and_delete(old: Path, new: Path) -> None:
    """As git does: every file has another modification time afterwards."""
    mv(old, new)
    for i, file in enumerate([new, *new.rglob("*")]):
        os.utime(file, (1_000_000 + i, 1_000_000 + i))


def test_moved_files_keep_their_vectors(tmp_path: Path, tiny_bert: Path) -> None:
    settings = settings_for(tmp_path, tiny_bert)
    corpus = Path(settings.corpus)
    write_files(corpus, FILES)
    run(settings)
    shards = set(read(settings, "shards")["shard"])
    assert len(shards) > 6
    mv(corpus / "fruit/stone", corpus / "orchard/stone")
    mv(corpus / "roots/beets.txt", corpus / "cellar/beets.txt")
    copy_and_delete(corpus / "fruit", corpus / "orchard/fruit")
    copy_and_delete(corpus / "roots/big.jsonl", corpus / "cellar/turnips.jsonl")

    encoder = WatchedEncoder(OpenedPipeline(settings).encoder())
    run(settings, encoder=encoder)
    assert encoder.n_texts == 0
    assert set(read(settings, "shards")["shard"]) == shards
    assert OpenedPipeline(settings).stale_shards() == {}
    fresh = settings.model_copy(update={"tables": f"{tmp_path}/fresh"})
    run(fresh)
    for table, key in (
        ("raw_corpus", "doc_id"),
        ("chunks", "chunk_id"),
        ("embeddings", "chunk_id"),
    ):
        assert _rows(settings, table, key).equals(_rows(fresh, table, key))
    sources = set(read(settings, "raw_corpus")["source"])
    assert sources == {f.relative_to(corpus).as_posix() for f in corpus.rglob("*") if f.is_file()}
    before = versions(settings)
    run(settings)
    assert versions(settings) == before


def _rows(settings: PipelineSettings, table: str, key: str) -> pl.DataFrame:
    """What a table says of the corpus, whatever shard and run it stands in."""
    of_the_run = ("shard", "checksum", "input_version", "content_version", "provenance")
    return read(settings, table).drop(of_the_run, strict=False).sort(key)


def test_a_wrong_guess_costs_embedding_and_nothing_else(tmp_path: Path, tiny_bert: Path) -> None:
    settings = settings_for(tmp_path, tiny_bert)
    corpus = Path(settings.corpus)
    write_files(corpus, FILES)
    run(settings)
    # Other records of the same size and time in all, under a new name: the old cuts do not fit.
    gone, new = corpus / "roots/big.jsonl", corpus / "new.jsonl"
    lines = gone.read_text().splitlines(keepends=True)
    new.write_text("".join(sorted(lines)))
    shutil.copystat(gone, new)
    gone.unlink()
    run(settings)
    assert read(settings, "rejected").is_empty()
    texts = read(settings, "raw_corpus").filter(pl.col("source") == "new.jsonl")["text"]
    assert sorted(texts) == sorted(json.loads(line)["text"] for line in lines)
    assert OpenedPipeline(settings).stale_shards() == {}
    fresh = settings.model_copy(update={"tables": f"{tmp_path}/fresh"})
    run(fresh)
    assert _rows(settings, "embeddings", "chunk_id").equals(_rows(fresh, "embeddings", "chunk_id"))


def test_each_file_is_paired_once() -> None:
    gone = [SourceFile(f"old/{name}", 9, "9-1") for name in "ab"]
    new = [SourceFile(f"new/{name}", 9, "9-1") for name in "bcd"]
    assert renamed(gone, new) == {"new/b": "old/b", "new/c": "old/a"}
    assert renamed(reversed(gone), reversed(new)) == renamed(gone, new)
    assert renamed([], new) == renamed(gone, []) == {}
    assert renamed(gone, [SourceFile("new/a", 8, "8-1")]) == {}
