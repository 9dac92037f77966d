import dagster as dg
import pytest

from embed_assets.orchestration.partitions import contiguous_runs, range_tags, register_shards


@pytest.mark.parametrize(
    ("wanted", "most", "runs"),
    [
        ("", 2, []),
        ("abcde", 2, ["ab", "cd", "e"]),
        ("abcde", 9, ["abcde"]),
        ("ace", 9, ["a", "c", "e"]),
        ("abde", 9, ["ab", "de"]),
        ("bcd", 1, ["b", "c", "d"]),
    ],
)
def test_a_run_takes_neighbouring_shards_only(wanted: str, most: int, runs: list[str]) -> None:
    assert contiguous_runs(set(wanted), "abcde", most) == [list(run) for run in runs]


def test_a_range_goes_from_its_first_to_its_last_shard() -> None:
    assert set(range_tags(["a", "b", "c"]).values()) == {"a", "c"}


def test_registered_partitions_follow_the_manifest_in_sorted_order(
    instance: dg.DagsterInstance,
) -> None:
    register_shards(instance, "notes", ["shard-2", "shard-1"])
    assert list(instance.get_dynamic_partitions("notes_shards")) == ["shard-1", "shard-2"]
    register_shards(instance, "notes", ["shard-2", "shard-3"])
    assert list(instance.get_dynamic_partitions("notes_shards")) == ["shard-2", "shard-3"]
