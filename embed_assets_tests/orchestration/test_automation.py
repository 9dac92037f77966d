from pathlib import Path

import dagster as dg

from embed_assets.orchestration.file_sensor import look_for_files
from embed_assets.orchestration.partitions import RANGE_END_TAG, RANGE_START_TAG
from embed_assets_tests.orchestration.conftest import Project


def tick(project: Project) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """One look of the sensor: the ranges that it wants run, keys added and keys deleted.

    Adds and deletes the partitions, as the daemon would.
    """
    result = look_for_files(project.settings, project.instance)
    if isinstance(result, dg.SkipReason):
        return [], [], []
    name = f"{project.settings.name}_shards"
    added: list[str] = []
    deleted: list[str] = []
    for request in result.dynamic_partitions_requests or []:
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            added += request.partition_keys
            project.instance.add_dynamic_partitions(name, list(request.partition_keys))
        else:
            deleted += request.partition_keys
            for key in request.partition_keys:
                project.instance.delete_dynamic_partition(name, key)
    runs = [(r.tags[RANGE_START_TAG], r.tags[RANGE_END_TAG]) for r in result.run_requests or []]
    return runs, added, deleted


def run_all(project: Project, runs: list[tuple[str, str]]) -> None:
    for first, last in runs:
        assert project.run("embed", first, last).success


def test_the_first_look_registers_all_shards_and_asks_for_runs_of_shards_per_run(
    fresh: Project,
) -> None:
    runs, added, deleted = tick(fresh)
    assert len(added) == 4
    assert runs == [(added[0], added[1]), (added[2], added[3])]
    assert deleted == []


def test_files_that_come_change_and_go_move_only_their_own_shards(
    fresh: Project, corpus: Path
) -> None:
    runs, (a, b, c, d), _ = tick(fresh)
    run_all(fresh, runs)
    assert tick(fresh) == ([], [], [])

    (corpus / "b.txt").write_text("Something else altogether. " * 40)
    (corpus / "e.txt").write_text("A new file has arrived here. " * 40)
    (corpus / "d.txt").unlink()
    runs, added, deleted = tick(fresh)
    assert deleted == [d]
    assert len(added) == 1
    assert runs == [(b, b), (added[0], added[0])]
    run_all(fresh, runs)
    assert tick(fresh) == ([], [], [])
    assert fresh.shards == [a, b, c, *added]


def test_a_failed_shard_is_asked_for_under_the_same_run_key_until_it_changes(
    fresh: Project, corpus: Path
) -> None:
    def keys() -> list[str | None]:
        result = look_for_files(fresh.settings, fresh.instance)
        assert isinstance(result, dg.SensorResult)
        return [request.run_key for request in result.run_requests or []]

    first = keys()
    assert keys() == first
    (corpus / "a.txt").write_text("Changed now. " * 90)
    assert keys()[0] != first[0]
    assert keys()[1] == first[1]


def test_a_corpus_that_is_gone_is_a_reason_to_skip_and_not_a_crash(
    fresh: Project, corpus: Path
) -> None:
    for file in corpus.iterdir():
        file.unlink()
    corpus.rmdir()
    result = look_for_files(fresh.settings, fresh.instance)
    assert isinstance(result, dg.SkipReason)
    assert str(corpus) in (result.skip_message or "")
