"""An encoder in a process of its own: same vectors, clear errors, no hang, no orphan."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest

from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.engines.worker_encoder import WorkerDied, WorkerEncoder
from embed_assets.errors import InputError
from embed_assets_tests.engines import fake_encoder
from embed_assets_tests.engines.fake_encoder import DIE, FILL, RAISE, REFUSE, WAIT, FakeEncoder

Start = Callable[..., WorkerEncoder]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts workers, and ends them."""
    workers: list[WorkerEncoder] = []

    def started(factory: Callable[[], FakeEncoder] = FakeEncoder) -> WorkerEncoder:
        workers.append(WorkerEncoder(factory, "cuda:1"))
        return workers[-1]

    yield started
    for worker in workers:
        worker.close()


def texts(*first_ids: int) -> TokenRows:
    """Texts of four tokens; two fit a batch of the fake."""
    flat = np.repeat(np.array(first_ids, dtype=np.int32), 4)
    return TokenRows(flat, np.arange(len(first_ids) + 1, dtype=np.int64) * 4)


def pid_of(worker: WorkerEncoder) -> int:
    return worker.token_ids("text")[1]


def wait_until_dead(child: int) -> None:
    """Until every thread of it ended. WNOWAIT leaves the exit status to whom it belongs."""
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def wait_until_gone(pid: int) -> None:
    for _ in range(3_000):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


def test_it_is_the_encoder_of_the_worker(start: Start) -> None:
    worker = start()
    assert pid_of(worker) != os.getpid()
    assert (worker.dimension, worker.precision, worker.max_tokens_per_batch) == (4, "bf16", 8)
    assert worker.device == "cuda:1"
    assert worker.encode_query("hare").tolist() == [4, 4, 4, 4]
    ids = np.arange(100)
    tokens = texts(*ids)
    assert len(worker.plan(tokens.lengths, 8)) == 50
    vectors, _ = encode_all(worker, tokens, 8)
    np.testing.assert_array_equal(vectors, np.repeat(ids[:, None], 4, axis=1))


def test_large_batches_pass_whole(start: Start) -> None:
    ids = np.arange(200_000) % 800
    vectors, _ = encode_all(start(partial(FakeEncoder, dimension=64)), texts(*ids), 1 << 20)
    np.testing.assert_array_equal(vectors[:, 63], ids)


def test_batches_come_as_they_are_done(start: Start, tmp_path: Path) -> None:
    worker = start(partial(FakeEncoder, go=tmp_path / "go"))
    tokens = texts(1, 2, WAIT, 3)
    results = worker.encode(tokens, worker.plan(tokens.lengths, 8))
    assert next(results)[1][:, 0].tolist() == [1, 2]
    (tmp_path / "go").touch()
    assert next(results)[1][:, 0].tolist() == [WAIT, 3]
    assert list(results) == []


def test_a_worker_killed_at_work_fails_its_shard_and_the_next_gets_another(start: Start) -> None:
    worker = start()
    first = pid_of(worker)
    with pytest.raises(WorkerDied) as error:
        encode_all(worker, texts(1, 2, 3, DIE), 8)
    assert str(error.value) == (
        "the process for cuda:1 died by SIGKILL while it embedded 4 texts; the machine may be out "
        "of memory; run again"
    )
    assert encode_all(worker, texts(5), 8)[0][0, 0] == 5
    assert pid_of(worker) != first


def test_a_worker_killed_while_idle_is_replaced(start: Start) -> None:
    worker = start()
    first = pid_of(worker)
    os.kill(first, signal.SIGKILL)
    wait_until_dead(first)
    assert encode_all(worker, texts(5), 8)[0][0, 0] == 5


def test_out_of_memory_over_there_halves_the_budget_here(start: Start) -> None:
    worker = start()
    vectors, stats = encode_all(worker, texts(1, 2, FILL, 3), 8)
    assert vectors[:, 0].tolist() == [1, 2, FILL, 3]
    assert (stats.n_halvings, stats.max_tokens_per_batch) == (1, 4)


@pytest.mark.parametrize(
    ("token_id", "kind", "message"),
    [
        (REFUSE, InputError, "^the text cannot be embedded$"),
        (RAISE, RuntimeError, "the process for cuda:1 failed while it embedded 1 texts:\nTraceb"),
        (RAISE, RuntimeError, "ValueError: a tensor has the wrong shape"),
    ],
)
def test_errors_come_over_and_the_worker_stays(
    start: Start, token_id: int, kind: type[Exception], message: str
) -> None:
    worker = start()
    first = pid_of(worker)
    with pytest.raises(kind, match=message):
        encode_all(worker, texts(token_id), 8)
    assert pid_of(worker) == first


def test_a_model_that_cannot_be_loaded_says_so_on_first_use(start: Start) -> None:
    with pytest.raises(InputError, match="the model has no weights"):
        _ = start(fake_encoder.refused).dimension
    with pytest.raises(WorkerDied, match="died with exit code 7 while it loaded the model"):
        _ = start(fake_encoder.broken).dimension


def test_a_run_left_half_way_ends_the_worker(start: Start) -> None:
    worker = start()
    first = pid_of(worker)
    tokens = texts(*range(20))
    results = worker.encode(tokens, worker.plan(tokens.lengths, 8))
    next(results)
    with pytest.raises(RuntimeError, match="is busy with another call"):
        worker.encode_query("hare")
    results.close()
    wait_until_gone(first)
    assert encode_all(worker, texts(5), 8)[0][0, 0] == 5


def test_of_a_queue_of_shards_only_the_dead_workers_own_one_fails(start: Start) -> None:
    shards = {f"shard-{i}": texts(i, i + 1, DIE if i == 3 else 7) for i in range(10)}
    waiting = deque(shards)
    done: dict[str, float] = {}
    failed: dict[str, str] = {}

    def walk(worker: WorkerEncoder) -> None:
        while waiting:
            with suppress(IndexError):
                key = waiting.popleft()
                try:
                    done[key] = float(encode_all(worker, shards[key], 8)[0][0, 0])
                except WorkerDied as error:
                    failed[key] = str(error)

    threads = [Thread(target=walk, args=(start(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*failed] == ["shard-3"]
    assert "died by SIGKILL while it embedded 3 texts" in failed["shard-3"]
    assert done == {f"shard-{i}": float(i) for i in range(10) if i != 3}


def test_closing_frees_a_thread_that_waits_for_the_worker(start: Start) -> None:
    worker = start()
    raised: list[Exception] = []

    def wait() -> None:
        try:
            list(worker.encode(tokens, batches))
        except RuntimeError as error:
            raised.append(error)

    tokens = texts(WAIT)
    batches = worker.plan(tokens.lengths, 8)
    thread = Thread(target=wait)
    thread.start()
    while not worker._lock.locked():
        time.sleep(0.01)
    worker.close()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert isinstance(raised[0], WorkerDied)


def test_a_closed_worker_is_gone(start: Start) -> None:
    worker = start()
    first = pid_of(worker)
    worker.close()
    assert not psutil.pid_exists(first)
    worker.close()


PARENT = """
import signal
import numpy as np
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.engines.worker_encoder import WorkerEncoder
from embed_assets_tests.engines.fake_encoder import WAIT, FakeEncoder

# As in a terminal: what starts in the background of a shell ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
worker = WorkerEncoder(FakeEncoder, "cuda:1")
print(worker.token_ids("text")[1], flush=True)
tokens = TokenRows(np.array([WAIT], dtype=np.int32), np.array([0, 1]))
list(worker.encode(tokens, worker.plan(tokens.lengths, 8)))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        # As a terminal does on Ctrl-C: to all of the group.
        os.killpg(parent.pid, how)
        _, errors = parent.communicate()
    wait_until_gone(worker)
    # The parent's own KeyboardInterrupt, and nothing from the worker.
    assert errors.count("Traceback") == (how == signal.SIGINT)
    assert "_obey" not in errors
