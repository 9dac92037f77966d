"""Many shards without a pause. Memory is bounded by the number of shards at once.

Of stages that are library code for the most part, which lets other threads run, a few shards go
side by side. While a device embeds shard n, one thread reads shard n + 1 and others publish the
shards before n.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event

from threadpoolctl import threadpool_limits

from embed_assets.concurrency import usable_cores
from embed_assets.embedding.encoder import Encoder
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.shard_claims import GivenUp, ShardClaims
from embed_assets.shard_vectors import (
    OnTokens,
    ShardVectors,
    encode_missing,
    publish_vectors,
    read_vectors,
)

#: A shard, and what became of it: its outcome, or what stopped it.
Result = tuple[str, Outcome | Exception]

_Read = ShardVectors | Outcome

# One core publishes a shard of 8 MiB in the time in which a large GPU embeds it by a small model.
_PUBLISHED_AT_ONCE = 2


def side_by_side(
    run_shard: Callable[[str], Outcome],
    shards: Iterable[str],
    claims: ShardClaims,
    n_at_once: int,
) -> Generator[Result]:
    """Run a stage for shards, `n_at_once` at a time; one that fails stops no other.

    Results come in the order of the shards. Close the iterator to give up: what has begun is
    finished, no more begins.
    """
    given_up = Event()

    def run_claimed(shard: str) -> Outcome:
        with claims.held(shard, given_up):
            return run_shard(shard)

    # With a thread per core for every shard, matrix products would mostly wait for each other.
    n_blas_threads = 1 if n_at_once > 1 else None
    in_flight: deque[tuple[str, Future[Outcome]]] = deque()
    pool = ThreadPoolExecutor(n_at_once, thread_name_prefix="shard")
    with claims, threadpool_limits(n_blas_threads, user_api="blas"):
        try:
            for shard in shards:
                in_flight.append((shard, pool.submit(run_claimed, shard)))
                if len(in_flight) > n_at_once:
                    yield _settled(*in_flight.popleft())
            while in_flight:
                yield _settled(*in_flight.popleft())
        finally:
            given_up.set()
            pool.shutdown(cancel_futures=True)


def embed_shards(
    shards: Iterable[str],
    pipeline: OpenedPipeline,
    devices: Sequence[Callable[[], Encoder]],
    claims: ShardClaims,
    *,
    force: bool = False,
    on_tokens: OnTokens = lambda shard, n_tokens: None,
) -> Generator[Result]:
    """Embed and publish shards, in their order; one that fails stops no other.

    `devices` load one encoder each, when there is something to embed for the first time. Close
    the iterator to give up: what is on a device stops after its batch, and what is being published
    is published.
    """
    given_up = Event()
    idle: SimpleQueue[Callable[[], Encoder]] = SimpleQueue()
    for device in devices:
        idle.put(device)

    @contextmanager
    def free_device() -> Iterator[Encoder]:
        device = idle.get()
        try:
            if given_up.is_set():
                raise GivenUp
            yield device()
        finally:
            idle.put(device)

    def heard(shard: str, n_tokens: int) -> None:
        if given_up.is_set():
            raise GivenUp
        on_tokens(shard, n_tokens)

    def read(shard: str) -> _Read:
        claims.take(shard, given_up)
        return read_vectors(shard, pipeline, force=force)

    def embedded(reading: Future[_Read]) -> _Read:
        work = reading.result()
        if isinstance(work, ShardVectors) and len(work.missing):
            encode_missing(work, pipeline, free_device(), heard, save=not force)
        return work

    def published(shard: str, embedding: Future[_Read]) -> Outcome:
        try:
            work = embedding.result()
            if isinstance(work, Outcome):
                return work
            return publish_vectors(work, pipeline, force=force)
        finally:
            claims.release(shard)

    n_publishing = min(_PUBLISHED_AT_ONCE, usable_cores())
    in_flight: deque[tuple[str, Future[Outcome]]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="read")
    # One more than devices: it has the next shard ready for the device that comes free.
    encoders = ThreadPoolExecutor(len(devices) + 1, thread_name_prefix="encode")
    publishers = ThreadPoolExecutor(n_publishing, thread_name_prefix="publish")
    with claims:
        try:
            for shard in shards:
                embedding = encoders.submit(embedded, reader.submit(read, shard))
                in_flight.append((shard, publishers.submit(published, shard, embedding)))
                if len(in_flight) > len(devices) + n_publishing:
                    yield _settled(*in_flight.popleft())
            while in_flight:
                yield _settled(*in_flight.popleft())
        finally:
            given_up.set()
            for threads in (reader, encoders, publishers):
                threads.shutdown(cancel_futures=True)


def _settled(shard: str, future: Future[Outcome]) -> Result:
    try:
        return shard, future.result()
    except Exception as error:
        return shard, error
