"""How many shards are in work, and how many threads chunk each."""

import pytest

from embed_assets.concurrency import chunking_threads, shards_at_once, shards_read_at_once


@pytest.mark.parametrize(
    ("n_cores", "shard_bytes", "n_shards", "n_threads"),
    [
        (1, 8 << 20, 1, 1),
        (2, 8 << 20, 2, 1),
        (2, 64 << 20, 1, 2),
        (8, 1 << 20, 8, 1),
        (8, 16 << 20, 4, 2),
        (8, 60 << 20, 1, 3),
        (8, 1 << 40, 1, 3),
    ],
)
def test_memory_bounds_how_many_shards_are_in_work_and_cores_how_many_threads(
    n_cores: int, shard_bytes: int, n_shards: int, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_assets.concurrency.usable_cores", lambda: n_cores)
    assert shards_at_once(shard_bytes) == n_shards
    assert chunking_threads(shard_bytes) == n_threads
    assert shards_read_at_once(shard_bytes) == min(n_shards, 2)
