"""Whatever stands in a corpus, one run goes through all of it: each file ends as documents or as
rejected rows with a reason, counts agree, and memory stays bounded.
"""

import gzip
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import numpy as np
import polars as pl
import pytest
import zstandard

from embed_assets.bundled import BUNDLED_MODEL
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets.sources import process_apart
from embed_assets_tests.small_pipelines import Vectors, WatchedEncoder, read, run, settings_for

MIB = 1 << 20
# Beside the checkout.
NASTY = Path(__file__).resolve().parents[3] / "shared" / "data" / "nasty"
ODD_NAMES = (
    "it's.txt",
    'say "hi".txt',
    "new\nline/in\nboth.txt",
    "\U0001f600.txt",
    "x" * 251 + ".txt",
    "é" * 125 + ".txt",
    "a=b/%20%2e.txt",
    "<script>alert(1)<",
    "![](x).txt",
    "back\\slash.txt",
    "[a]*?.txt",
    " space .txt",
    "-rf.txt",
    "$(id)`id`.txt",
    "tab\tbell\x07esc\x1b[31m.txt",
    "\u202egpj.txt",
)


def packed_records(text: str, n_bytes: int) -> bytes:
    """A zstd file of one record again and again: a few thousand bytes."""
    record = (json.dumps({"text": text}) + "\n").encode()
    packer = zstandard.ZstdCompressor().compressobj()
    block = record * (MIB // len(record))
    return b"".join(packer.compress(block) for _ in range(n_bytes // MIB)) + packer.flush()


def sparse(path: Path, n_bytes: int, end: bytes = b"") -> None:
    """A file of so many NULs that takes no room on the disk, and what comes after them."""
    with path.open("wb") as file:
        file.truncate(n_bytes)
        file.seek(n_bytes)
        file.write(end)


def parquet(path: Path, texts: list[str]) -> bytes:
    pl.DataFrame({"text": texts}).write_parquet(path, compression="uncompressed")
    return path.read_bytes()


def hostile_corpus(corpus: Path) -> dict[str, list[str]]:
    """Hostile files in a folder: name -> the reasons for which parts or all of it are rejected."""
    corpus.mkdir()
    lines = b"".join(b'{"text": "%064x"}\n' % (n * n * n * 7919) for n in range(600))
    rows = parquet(corpus / "rows.parquet", [f"row {n}" for n in range(100)])
    many_zeros = gzip.compress(bytes(64 * MIB), 1) * 32
    contents: dict[str, tuple[bytes, list[str]]] = {
        "bomb.jsonl.zst": (packed_records("word " * 500, 2000 * MIB), ["unpacks to too much"]),
        "bomb.csv.gz": (gzip.compress(b"text\n") + many_zeros, ["unpacks to too much"]),
        "bomb.txt.gz": (many_zeros, ["unpacks to too much"]),
        "tiny-records.jsonl": (b"1\n" * 200_000, ["too many records"]),
        "values.jsonl": (b'{"text": "a", "x": [' + b"{}," * MIB + b"{}]}", ["too many values"]),
        "truncated.jsonl.gz": (gzip.compress(lines)[:-9], ["corrupt compression"]),
        "no.gz.md.gz": (b"no gzip", ["corrupt compression"]),
        # One bit of a page's header: it says that it holds -101 values, and polars aborts.
        "flipped.parquet": (rows.replace(b",\x15\xc8", b",\x15\xc9"), ["unreadable Parquet"]),
        "truncated.parquet": (rows[: len(rows) // 2], ["unreadable Parquet"]),
        "quote.csv": (b'text\n"' + b"never closed\n" * 1000, ["invalid CSV"]),
        "invalid.txt": (b"caf\xe9 \xc0\xaf \xed\xa0\x80", ["not UTF-8"]),
        "utf-16.md": ("text".encode("utf-16"), ["not UTF-8"]),
        "nul.txt": (b"before\0after", []),
        "surrogates.jsonl": (rb'{"text": "lone \ud800 and \udc00", "\udfff": "\ud800"}', []),
        "deep.jsonl": (b'{"text": "a", "x": ' + b"[" * 9000, ["nested too deeply"]),
        "wide.csv": (b"text" + b",a" * 100_000 + b"\n1\n", ["wrong number of fields"]),
        "empty.txt": (b"", ["empty document"]),
        "empty.jsonl": (b"\n\n", ["no records"]),
        "good.txt": (b"A good file among all these.", []),
    }
    for name, (content, _) in contents.items():
        (corpus / name).write_bytes(content)
    reasons = {name: expected for name, (_, expected) in contents.items()}
    bomb = pl.DataFrame({"text": pl.repeat("x" * 1_000_000, 2000, eager=True)})
    bomb.write_parquet(corpus / "bomb.parquet", row_group_size=64)
    sparse(corpus / "line.jsonl", 300_000_000, b'\n{"text": "after the long line"}\n')
    sparse(corpus / "long.txt", 300_000_000)
    return reasons | {
        "rows.parquet": [],
        "bomb.parquet": ["unpacks to too much"],
        "line.jsonl": ["line too long"],
        "long.txt": ["document too large"],
    }


def add_what_is_no_file(corpus: Path) -> int:
    """Links, pipes and the like; how many of them."""
    secret = corpus.parent / "secret.txt"
    secret.write_text("SECRET")
    os.mkfifo(corpus / "pipe.txt")
    targets = {
        "out.txt": secret,
        "up.txt": Path("../secret.txt"),
        "device.txt": Path("/dev/zero"),
        "broken.txt": Path("nowhere"),
        "self.txt": Path("self.txt"),
        "folder.txt": corpus.parent,
    }
    for name, target in targets.items():
        (corpus / name).symlink_to(target)
    return 1 + len(targets)


class QuickEncoder(WatchedEncoder):
    """The real tokenizer, and vectors that cost nothing."""

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, Vectors]]:
        for batch in batches:
            n_rows = len(batch.rows)
            vectors = np.zeros((n_rows, self.dimension), dtype=np.float32)
            vectors[np.arange(n_rows), batch.rows % self.dimension] = 1
            yield batch, vectors


def run_and_tell(settings: PipelineSettings, quick: bool, answer: Connection) -> None:
    encoder = QuickEncoder(OpenedPipeline(settings).encoder()) if quick else None
    run(settings, encoder=encoder)
    # Its memory counts once it has ended.
    process_apart.end_all()
    in_kibibytes = 1 if sys.platform == "darwin" else 1024
    answer.send(max(_own_peak(), getrusage(RUSAGE_CHILDREN).ru_maxrss * in_kibibytes))


def _own_peak() -> int:
    """The most bytes that this process held. On Linux getrusage counts its parent's memory too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def peak_of_run(settings: PipelineSettings, *, quick: bool = False) -> int:
    """One run in a process of its own; the most bytes that it, or the process apart, held."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_and_tell, args=(settings, quick, sender))
    process.start()
    sender.close()
    n_bytes: int = receiver.recv()
    process.join()
    return n_bytes


def check_that_counts_agree(settings: PipelineSettings) -> None:
    documents, rejected = read(settings, "raw_corpus"), read(settings, "rejected")
    chunks, embeddings = read(settings, "chunks"), read(settings, "embeddings")
    listed = set(read(settings, "shards")["source"])
    assert set(documents["source"]) | set(rejected["source"]) == listed
    assert set(chunks["doc_id"]) == set(documents["doc_id"])
    assert embeddings["chunk_id"].to_list() == chunks["chunk_id"].to_list()
    assert embeddings["chunk_id"].is_unique().all()
    assert "" not in rejected["reason"]
    assert OpenedPipeline(settings).stale_shards() == {}
    assert run(settings) == []


@pytest.mark.slow
def test_every_file_of_a_hostile_corpus_is_read_or_rejected_with_its_reason(
    tmp_path: Path, tiny_bert: Path
) -> None:
    corpus = tmp_path / "corpus"
    expected = hostile_corpus(corpus)
    n_others = add_what_is_no_file(corpus)
    # Less than the defaults: so are the bombs.
    limits = {"max_decompressed_bytes": "32MiB", "max_records": 100_000}
    settings = settings_for(tmp_path, tiny_bert, **limits, shard_bytes="1MiB")
    # Torch and the model take half of that, each bomb twice as much.
    assert peak_of_run(settings) < 1200 * MIB
    rejected, documents = read(settings, "rejected"), read(settings, "raw_corpus")
    found: dict[str, list[str]] = {name: [] for name in read(settings, "shards")["source"]}
    for source, reason in rejected.select("source", "reason").unique().iter_rows():
        found[source].append(reason)
    assert found == expected
    texts = dict(documents.select("source", "text").iter_rows())
    assert texts["good.txt"] == "A good file among all these."
    assert texts["line.jsonl"] == "after the long line"
    assert texts["surrogates.jsonl"] == "lone \ufffd and \ufffd"
    assert documents.filter(pl.col("source") == "rows.parquet").height == 100
    assert documents.filter(pl.col("source") == "truncated.jsonl.gz").height > 100
    assert not documents["text"].str.contains("SECRET").any()
    assert sum(OpenedPipeline(settings).plan().skipped.values()) == n_others
    check_that_counts_agree(settings)


def test_odd_names_are_read_and_found_again(tmp_path: Path, tiny_bert: Path) -> None:
    names = [name if "." in name else f"{name}.txt" for name in ODD_NAMES]
    for number, name in enumerate(names):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is file {number}.")
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)
    texts = dict(read(settings, "raw_corpus").select("source", "text").iter_rows())
    assert texts == {name: f"This is file {n}." for n, name in enumerate(names)}
    check_that_counts_agree(settings)


@pytest.mark.parametrize("n_changes", [1, 2])
def test_a_file_that_changed_since_it_was_listed_is_put_right_by_the_next_run(
    tmp_path: Path, tiny_bert: Path, n_changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "corpus" / "a.jsonl"
    path.parent.mkdir()
    path.write_text('{"text": "old"}\n')
    settings = settings_for(tmp_path, tiny_bert)
    plan: Callable[..., object] = OpenedPipeline.plan

    def plan_then_change(pipeline: OpenedPipeline) -> object:
        planned = plan(pipeline)
        path.write_text('{"text": "new"}\n' * (path.stat().st_size // 16 + 1))
        return planned

    monkeypatch.setattr(OpenedPipeline, "plan", plan_then_change)
    for _ in range(n_changes):
        run(settings)
        assert read(settings, "rejected")["reason"].to_list() == ["changed since it was listed"]
    monkeypatch.undo()
    run(settings)
    assert read(settings, "rejected").is_empty()
    assert read(settings, "raw_corpus")["text"].to_list() == ["new"] * (n_changes + 1)


@pytest.mark.soak
@pytest.mark.skipif(not NASTY.is_dir(), reason="needs ../shared/data/nasty")
def test_the_nasty_folder_goes_through_in_one_run(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, Path(BUNDLED_MODEL), corpus=str(NASTY), shard_bytes="1MiB")
    assert peak_of_run(settings, quick=True) < 2000 * MIB
    check_that_counts_agree(settings)
    rejected = read(settings, "rejected")
    assert set(rejected["reason"]) == {"not UTF-8", "empty document"}
    plan = OpenedPipeline(settings).plan()
    n_files = sum(path.is_file() for path in NASTY.rglob("*"))
    assert plan.n_files + sum(plan.skipped.values()) == n_files
