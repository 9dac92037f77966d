"""Reading, encoding and publishing of different shards go on at the same time."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from embed_assets import shard_stream
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.pipeline import ingest_shard
from embed_assets.shard_claims import ShardClaims
from embed_assets.shard_stream import embed_shards, side_by_side
from embed_assets.shard_vectors import ShardVectors, publish_vectors, read_vectors
from embed_assets.sources.source import Document, Rejection
from embed_assets_tests.small_pipelines import (
    Vectors,
    WatchedEncoder,
    chunked,
    read,
)

# Never waited for in full: only a pipeline that stands still reaches it.
PATIENCE = 60.0


@pytest.fixture
def pipeline(tmp_path: Path, tiny_bert: Path) -> OpenedPipeline:
    """Four shards, chunked."""
    return chunked(tmp_path, tiny_bert)


@pytest.fixture
def claims(pipeline: OpenedPipeline) -> ShardClaims:
    """Those of a run that is alone."""
    return ShardClaims(pipeline, "a stage")


class Hooked(WatchedEncoder):
    """The real encoder, with something done before each batch."""

    def __init__(self, encoder: Encoder, before: Callable[[], None]) -> None:
        super().__init__(encoder)
        self._before = before

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, Vectors]]:
        for batch in batches:
            self._before()
            yield from super().encode(tokens, [batch])


def test_every_shard_comes_in_its_order_with_its_vectors(
    pipeline: OpenedPipeline, claims: ShardClaims
) -> None:
    shards = sorted(pipeline.pieces)
    results = list(embed_shards(shards, pipeline, [pipeline.encoder], claims))
    assert [shard for shard, _ in results] == shards
    assert all(isinstance(result, Outcome) and result.written for _, result in results)
    rows = read(pipeline.settings, "embeddings")
    assert rows["chunk_id"].equals(read(pipeline.settings, "chunks")["chunk_id"])
    again = list(
        embed_shards(shards, pipeline, [lambda: pytest.fail("loaded for nothing")], claims)
    )
    assert all(isinstance(result, Outcome) and not result.written for _, result in again)


def test_the_next_shard_is_read_while_the_device_works(
    pipeline: OpenedPipeline, monkeypatch: pytest.MonkeyPatch, claims: ShardClaims
) -> None:
    shards = sorted(pipeline.pieces)
    second_was_read = threading.Event()

    def reading(shard: str, pipeline: OpenedPipeline, *, force: bool) -> ShardVectors | Outcome:
        work = read_vectors(shard, pipeline, force=force)
        if shard == shards[1]:
            second_was_read.set()
        return work

    def wait() -> None:
        assert second_was_read.wait(PATIENCE), "the first shard holds up the second"

    monkeypatch.setattr(shard_stream, "read_vectors", reading)
    encoder = Hooked(pipeline.encoder(), wait)
    assert len(list(embed_shards(shards[:2], pipeline, [lambda: encoder], claims))) == 2


def test_the_device_works_while_a_shard_is_published(
    pipeline: OpenedPipeline, monkeypatch: pytest.MonkeyPatch, claims: ShardClaims
) -> None:
    shards = sorted(pipeline.pieces)
    n_batches, second_is_on_device = 0, threading.Event()

    def count() -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches > 1:
            second_is_on_device.set()

    def publishing(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        assert second_is_on_device.wait(PATIENCE), "publishing holds up the device"
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", publishing)
    encoder = Hooked(pipeline.encoder(), count)
    results = list(embed_shards(shards[:3], pipeline, [lambda: encoder], claims))
    assert all(isinstance(result, Outcome) for _, result in results)


def test_two_shards_are_published_at_the_same_time(
    pipeline: OpenedPipeline, monkeypatch: pytest.MonkeyPatch, claims: ShardClaims
) -> None:
    together = threading.Barrier(2, timeout=PATIENCE)

    def publishing(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        together.wait()
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "usable_cores", lambda: 2)
    monkeypatch.setattr(shard_stream, "publish_vectors", publishing)
    shards = sorted(pipeline.pieces)[:2]
    results = list(embed_shards(shards, pipeline, [pipeline.encoder], claims))
    assert [shard for shard, _ in results] == shards
    assert all(isinstance(result, Outcome) and result.written for _, result in results)


def test_two_devices_work_at_the_same_time(pipeline: OpenedPipeline, claims: ShardClaims) -> None:
    shards = sorted(pipeline.pieces)
    together = threading.Barrier(2, timeout=PATIENCE)

    def meet() -> None:
        together.wait()

    encoders = [Hooked(pipeline.encoder(), meet) for _ in range(2)]
    devices: list[Callable[[], Encoder]] = [lambda: encoders[0], lambda: encoders[1]]
    results = list(embed_shards(shards, pipeline, devices, claims))
    assert [shard for shard, _ in results] == shards
    assert all(isinstance(result, Outcome) for _, result in results)
    assert all(encoder.n_texts for encoder in encoders)


def test_one_bad_shard_stops_no_other(pipeline: OpenedPipeline, claims: ShardClaims) -> None:
    n_shards = 0

    def fail_once(vectors: NDArray[np.float32]) -> Vectors:
        nonlocal n_shards
        n_shards += 1
        if n_shards == 2:
            raise InputError("the device fell over")
        return vectors

    encoder = WatchedEncoder(pipeline.encoder(), fail_once)
    results = dict(embed_shards(sorted(pipeline.pieces), pipeline, [lambda: encoder], claims))
    failed = [shard for shard, result in results.items() if isinstance(result, Exception)]
    assert failed == ["shard-000001"]
    assert set(pipeline.tables.embeddings.states()) == set(results) - set(failed)


def test_the_next_shard_is_ready_when_the_device_comes_free(
    pipeline: OpenedPipeline, claims: ShardClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, from_series, n_made = threading.Event(), TokenRows.from_series, 0

    def making(token_ids: pl.Series) -> TokenRows:
        nonlocal n_made
        n_made += 1
        if n_made == 2:
            ready.set()
        return from_series(token_ids)

    def wait() -> None:
        assert ready.wait(PATIENCE)

    monkeypatch.setattr(TokenRows, "from_series", making)
    encoder = Hooked(pipeline.encoder(), wait)
    shards = sorted(pipeline.pieces)[:2]
    results = list(embed_shards(shards, pipeline, [lambda: encoder], claims))
    assert all(isinstance(result, Outcome) for _, result in results)


def test_the_device_goes_on_while_a_shards_last_checkpoint_is_committed(
    pipeline: OpenedPipeline, claims: ShardClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pipeline.settings.model_copy(update={"checkpoint_seconds": 0})
    hasty, second_began = OpenedPipeline(settings), threading.Event()
    first, second = sorted(pipeline.pieces)[:2]
    add = hasty.tables.checkpoints.add

    def slow(frame: pl.DataFrame) -> None:
        assert frame["shard"][0] != first or second_began.wait(PATIENCE)
        add(frame)

    def on_tokens(shard: str, _: int) -> None:
        if shard == second:
            second_began.set()

    # One batch a shard: the commit of the last one is then under way when the device is done.
    encoder = Hooked(pipeline.encoder(), lambda: None)
    monkeypatch.setattr(encoder, "plan", lambda lengths, _: [Batch(np.arange(len(lengths)), 1)])
    monkeypatch.setattr(hasty.tables.checkpoints, "add", slow)
    results = list(
        embed_shards([first, second], hasty, [lambda: encoder], claims, on_tokens=on_tokens)
    )
    assert all(isinstance(result, Outcome) for _, result in results)


def test_giving_up_stops_the_device_and_publishes_nothing_more(
    pipeline: OpenedPipeline, claims: ShardClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up, n_batches = threading.Event(), 0
    monkeypatch.setattr(shard_stream, "Event", lambda: given_up)

    def slow() -> None:
        nonlocal n_batches
        n_batches += 1
        if n_batches > 1:
            assert given_up.wait(PATIENCE)

    encoder = Hooked(pipeline.encoder(), slow)
    before = threading.active_count()
    with closing(
        embed_shards(sorted(pipeline.pieces), pipeline, [lambda: encoder], claims)
    ) as results:
        assert next(results)[0] == "shard-000000"
    assert set(pipeline.tables.embeddings.states()) == {"shard-000000"}
    assert n_batches <= 3
    assert threading.active_count() == before


def outcome(shard: str) -> Outcome:
    return Outcome(shard, "chunks", True, 1)


def test_shards_of_a_host_stage_are_in_work_together_and_come_in_order(claims: ShardClaims) -> None:
    both = threading.Barrier(2)

    def run(shard: str) -> Outcome:
        both.wait(PATIENCE)
        if shard == "b":
            raise InputError("b is broken")
        return outcome(shard)

    results = list(side_by_side(run, "abcd", claims, n_at_once=2))
    assert [shard for shard, _ in results] == list("abcd")
    assert [type(result) for _, result in results] == [Outcome, InputError, Outcome, Outcome]


def test_while_a_shard_is_written_the_next_one_is_read_and_no_third(
    pipeline: OpenedPipeline, monkeypatch: pytest.MonkeyPatch, claims: ShardClaims
) -> None:
    write, read_files = pipeline.tables.raw_corpus.publish, pipeline.read_shard
    next_is_read, reading, most = threading.Event(), 0, 0

    def read_shard(shard: str) -> Iterator[Document | Rejection]:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        if shard == "shard-000001":
            next_is_read.set()
        time.sleep(0.05)  # Long enough for another thread to begin, if it may.
        yield from read_files(shard)
        reading -= 1

    def publish(shard: str, *arguments: Any, **named: Any) -> bool:  # noqa: ANN401
        assert next_is_read.wait(PATIENCE)
        return write(shard, *arguments, **named)

    monkeypatch.setattr(pipeline, "read_shard", read_shard)
    monkeypatch.setattr(pipeline.tables.raw_corpus, "publish", publish)
    run = partial(ingest_shard, pipeline=pipeline, force=True)
    results = [
        result for _, result in side_by_side(run, sorted(pipeline.pieces), claims, n_at_once=2)
    ]
    assert all(isinstance(result, Outcome) and result.n_rows == 1 for result in results)
    assert most == 1


def test_giving_up_finishes_what_has_begun_and_begins_no_more(claims: ShardClaims) -> None:
    begun: list[str] = []
    finished: list[str] = []

    def run(shard: str) -> Outcome:
        begun.append(shard)
        finished.append(shard)
        return outcome(shard)

    with closing(side_by_side(run, map(str, range(100)), claims, n_at_once=2)) as results:
        next(results)
    assert begun == finished
    assert len(begun) < 100
