"""The ring on a CPU device, and on CUDA where there is one: order, ownership, out of memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.ring import Job, Ring


@pytest.fixture(params=["cpu", "cuda"])
def ring(request: pytest.FixtureRequest) -> Ring:
    import torch

    if request.param == "cuda":
        request.getfixturevalue("cuda")
    return Ring(torch.device(request.param), depth=3)


def doubled(number: int, size: int = 4, n_spare: int = 2) -> Job:
    """A job whose vectors (2, size) are its number doubled; it computes more rows than wanted."""

    def write(inputs: NDArray[np.int32]) -> None:
        inputs[:] = number

    def compute(inputs: Any) -> Any:  # noqa: ANN401
        return (2 * inputs).float().expand(2 + n_spare, size)

    return Job(Batch(np.array([number, number]), 2), size, 2, write, compute)


def test_results_come_in_order_and_are_the_callers_to_keep(ring: Ring) -> None:
    jobs = [doubled(number, size=1 + number % 5) for number in range(20)]
    kept = list(ring.run(jobs))
    assert [batch.rows[0] for batch, _ in kept] == [*range(20)]
    for batch, vectors in kept:
        expected = np.full((2, 1 + batch.rows[0] % 5), 2 * batch.rows[0], dtype=np.float32)
        np.testing.assert_array_equal(vectors, expected)
        assert vectors.dtype == np.float32


def test_the_next_batch_is_written_before_the_last_one_is_taken(ring: Ring) -> None:
    started: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(6):
            started.append(number)
            yield doubled(number)

    results = ring.run(jobs())
    next(results)
    assert started == [0, 1, 2, 3]


def full(number: int) -> Job:
    def compute(_: Any) -> Any:  # noqa: ANN401
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nand more")

    whole = doubled(number)
    return Job(whole.batch, whole.n_inputs, whole.n_vectors, whole.write, compute)


def test_out_of_memory_names_the_batch_and_loses_none_before_it(ring: Ring) -> None:
    jobs = [doubled(0), doubled(1), full(2), doubled(3)]
    done: list[int] = []
    with pytest.raises(DeviceOutOfMemory, match=r"^DefaultCPUAllocator: can't allocate") as error:
        done.extend(int(batch.rows[0]) for batch, _ in ring.run(jobs))
    assert error.value.batch is jobs[2].batch
    assert error.value.__context__ is None
    ring.release()
    assert len(list(ring.run(jobs[:2]))) == 2


def test_other_errors_are_not_taken_for_out_of_memory(ring: Ring) -> None:
    def compute(_: Any) -> Any:  # noqa: ANN401
        raise RuntimeError("shapes do not match")

    job = Job(Batch(np.array([0]), 1), 1, 1, lambda inputs: inputs.fill(0), compute)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(ring.run([job]))
    assert len(list(ring.run([doubled(1)]))) == 1


def test_a_run_that_is_left_half_way_does_not_disturb_the_next(ring: Ring) -> None:
    first = ring.run(doubled(number) for number in range(9))
    next(first)
    with pytest.raises(RuntimeError, match="still runs other batches"):
        next(ring.run([doubled(1)]))
    first.close()
    [(_, vectors)] = ring.run([doubled(7)])
    assert (vectors == 14).all()
