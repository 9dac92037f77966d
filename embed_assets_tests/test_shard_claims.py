"""Two runs of one machine over the same shards: nothing is embedded twice, nobody waits in vain."""

import errno
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from embed_assets import frames
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.pipeline import chunk_shard, ingest_shard
from embed_assets.settings import PipelineSettings
from embed_assets.shard_claims import CLAIMS_FOLDER, GivenUp, ShardClaims
from embed_assets.shard_stream import Result, embed_shards
from embed_assets_tests.small_pipelines import (
    Vectors,
    WatchedEncoder,
    read,
    settings_for,
    write_files,
)

SHARD = "shard-000000"


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    """Four shards, chunked."""
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abcd"})
    made = settings_for(tmp_path, tiny_bert)
    pipeline = opened(made)
    pipeline.plan()
    pipeline.prepare()
    for shard in pipeline.pieces:
        ingest_shard(shard, pipeline)
        chunk_shard(shard, pipeline)
    return made


def opened(settings: PipelineSettings) -> OpenedPipeline:
    return OpenedPipeline(settings)


def claims(
    settings: PipelineSettings, on_wait: Callable[[str], None] = lambda shard: None
) -> ShardClaims:
    return ShardClaims(opened(settings), "embeddings", on_wait)


def test_two_runs_at_once_embed_every_text_once(settings: PipelineSettings) -> None:
    n_texts: list[int] = []

    def note(vectors: Vectors) -> Vectors:
        n_texts.append(len(vectors))
        return vectors

    def run(_: int) -> list[Result]:
        pipeline = opened(settings)
        encoder = WatchedEncoder(pipeline.encoder(), note)
        shards = sorted(pipeline.pieces)
        return list(embed_shards(shards, pipeline, [lambda: encoder], claims(settings)))

    with ThreadPoolExecutor(2) as both:
        results = [result for results in both.map(run, range(2)) for _, result in results]
    assert all(isinstance(result, Outcome) for result in results)
    written = [r.shard for r in results if isinstance(r, Outcome) and r.written]
    assert sorted(written) == sorted(opened(settings).pieces)
    rows = read(settings, "chunks").unique(["shard", "text_hash"])
    assert sum(n_texts) == rows.height
    assert list((Path(settings.tables_root) / CLAIMS_FOLDER).iterdir()) == []


def test_a_shard_that_another_run_has_is_told_and_waited_for(settings: PipelineSettings) -> None:
    told = Event()
    holder = claims(settings)
    holder.take(SHARD, Event())
    waiter = claims(settings, lambda shard: told.set())
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(waiter.take, SHARD, Event())
        assert told.wait(60)
        assert not waiting.done()
        holder.release(SHARD)
        waiting.result(60)


def test_waiting_ends_when_nobody_wants_the_shard_any_more(settings: PipelineSettings) -> None:
    given_up = Event()
    with claims(settings).held(SHARD, Event()), pytest.raises(GivenUp):
        claims(settings, lambda shard: given_up.set()).take(SHARD, given_up)


def claim_and_die(settings: PipelineSettings) -> None:
    claims(settings).take(SHARD, Event())
    os._exit(1)


def test_a_killed_runs_shard_is_free_at_once(settings: PipelineSettings) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(settings,))
    process.start()
    process.join(120)
    assert process.exitcode == 1
    claims(settings, lambda shard: pytest.fail("waited for a dead run")).take(SHARD, Event())


class Polls(Event):
    """Nobody gives up before the third look. Between two looks more time passes than is waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.n = 0
        monkeypatch.setattr("embed_assets.shard_claims.time.monotonic", lambda: self.n * 10_000.0)

    def wait(self, timeout: float | None = None) -> bool:
        self.n += 1
        return self.n == 3


def test_a_run_that_was_paused_keeps_nobody_waiting(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with claims(settings).held(SHARD, Event()):
        polls = Polls(monkeypatch)
        claims(settings).take(SHARD, polls)
    assert polls.n == 1


def test_a_run_that_saves_checkpoints_is_waited_for(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = opened(settings)
    vectors = np.ones((1, pipeline.dimension), dtype=np.float32)
    hashes = pipeline.tables.chunks.read(SHARD)["text_hash"].head(1)
    pipeline.tables.checkpoints.add(
        frames.checkpoint_frame(SHARD, pipeline.fingerprint, hashes, vectors)
    )
    with claims(settings).held(SHARD, Event()), pytest.raises(GivenUp):
        claims(settings).take(SHARD, Polls(monkeypatch))


def test_a_run_with_other_settings_is_not_waited_for(settings: PipelineSettings) -> None:
    other = settings.model_copy(update={"normalize": not settings.normalize})
    with claims(settings).held(SHARD, Event()):
        claims(other, lambda shard: pytest.fail("waited")).take(SHARD, Event())


def test_where_nothing_can_be_locked_nobody_waits(settings: PipelineSettings) -> None:
    (Path(settings.tables_root) / CLAIMS_FOLDER).write_text("a file in the way")
    with claims(settings).held(SHARD, Event()):
        claims(settings, lambda shard: pytest.fail("waited")).take(SHARD, Event())


def test_on_a_disk_without_locks_nobody_waits(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with claims(settings).held(SHARD, Event()):
        claims(settings, lambda shard: pytest.fail("waited")).take(SHARD, Event())
