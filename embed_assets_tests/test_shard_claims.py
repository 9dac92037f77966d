"""Two runs of one machine over the same shards: nothing is embedded twice, nobody waits in vain."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from embed_assets import shard_claims
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.settings import PipelineSettings
from embed_assets.shard_claims import CLAIMS_FOLDER, GivenUp, ShardClaims
from embed_assets.shard_stream import Result, embed_shards
from embed_assets_tests.small_pipelines import (
    Vectors,
    WatchedEncoder,
    chunked,
    read,
)

SHARD = "shard-000000"


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    """Four shards, chunked."""
    return chunked(tmp_path, tiny_bert).settings


def claims(
    settings: PipelineSettings, on_wait: Callable[[str], None] = lambda shard: None
) -> ShardClaims:
    return ShardClaims(OpenedPipeline(settings), "embeddings", on_wait)


def test_two_runs_at_once_embed_every_text_once(settings: PipelineSettings) -> None:
    n_texts: list[int] = []

    def note(vectors: Vectors) -> Vectors:
        n_texts.append(len(vectors))
        return vectors

    def run(_: int) -> list[Result]:
        pipeline = OpenedPipeline(settings)
        encoder = WatchedEncoder(pipeline.encoder(), note)
        shards = sorted(pipeline.pieces)
        return list(embed_shards(shards, pipeline, [lambda: encoder], claims(settings)))

    with ThreadPoolExecutor(2) as both:
        results = [result for results in both.map(run, range(2)) for _, result in results]
    assert all(isinstance(result, Outcome) for result in results)
    written = [r.shard for r in results if isinstance(r, Outcome) and r.written]
    assert sorted(written) == sorted(OpenedPipeline(settings).pieces)
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
    os._exit(7)


def test_a_killed_runs_shard_is_free_at_once(settings: PipelineSettings) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(settings,))
    process.start()
    process.join(120)
    assert process.exitcode == 7
    claims(settings, lambda shard: pytest.fail("waited for a dead run")).take(SHARD, Event())


def the_file(settings: PipelineSettings) -> Path:
    (file,) = (Path(settings.tables_root) / CLAIMS_FOLDER).iterdir()
    return file


def test_a_run_that_was_paused_keeps_nobody_waiting(
    settings: PipelineSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with claims(settings).held(SHARD, Event()):
        os.utime(the_file(settings), (0, 0))
        claims(settings).take(SHARD, Event())
    assert f"another run has {SHARD} and stands still" in caplog.text


def test_a_run_that_goes_on_shows_it(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_claims, "_PULSE_SECONDS", 0.01)
    with claims(settings) as holder:
        holder.take(SHARD, Event())
        file = the_file(settings)
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 60
        while file.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not file.exists()


def test_a_claim_that_cannot_be_removed_harms_no_run(
    settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    with claims(settings).held(SHARD, Event()):
        pass
    with claims(settings, lambda shard: pytest.fail("waited")).held(SHARD, Event()):
        pass


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
