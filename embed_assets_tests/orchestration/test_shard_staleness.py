"""Which shards Dagster shows as outdated, and why; what its automation would run."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.test_utils import BasicLoadingContext

from embed_assets.settings import PipelineSettings
from embed_assets_tests.orchestration.conftest import Project
from embed_assets_tests.orchestration.ticking import Sensor, write

STAGES = ("raw_corpus", "chunks", "embeddings", "quality_metrics")
NEW_DATA = "has a new dependency data version"
NEW_CODE = "has a new code version"


def with_settings(project: Project, **values: object) -> Project:
    """The same pipeline with other settings, in the same instance."""
    return Project(project.settings.model_copy(update=values), project.instance)


def change_b(corpus: Path) -> None:
    """Other contents for the second shard."""
    write(corpus / "b.txt", "Something else altogether. " * 40)


def add_e(corpus: Path) -> None:
    """A file, and shard, after all others."""
    write(corpus / "e.txt", "One more file. " * 60)


def outdated(project: Project) -> dict[tuple[str, str], list[str]]:
    """(asset, shard) -> reasons, as the UI asks for them, for all that is not fresh."""
    resolver = CachingStaleStatusResolver(
        project.instance,
        project.definitions.resolve_asset_graph(),
        BasicLoadingContext(project.instance),
    )
    causes = {
        (stage, shard): resolver.get_stale_causes(dg.AssetKey(["notes", stage]), shard)
        for stage in STAGES
        for shard in project.shards
    }
    return {at: [cause.reason for cause in found] for at, found in causes.items() if found}


@pytest.fixture
def done(project: Project) -> Project:
    """All shards made, in one run."""
    assert project.run("embed", project.shards[0], project.shards[-1]).success
    assert outdated(project) == {}
    return project


def test_a_changed_file_makes_its_own_shard_outdated_and_no_other(
    done: Project, corpus: Path
) -> None:
    # A look that finds nothing new makes nothing outdated.
    assert done.run("shards").success
    assert outdated(done) == {}
    change_b(corpus)
    assert done.run("shards").success
    assert outdated(done) == {("raw_corpus", done.shards[1]): [NEW_DATA]}
    # One run over all: the others are found up to date, and stay so for what is below them.
    assert done.run("embed", done.shards[0], done.shards[-1]).success
    assert outdated(done) == {}


def test_the_sensor_tells_of_a_changed_file_as_well(done: Project, corpus: Path) -> None:
    sensor = Sensor(done)
    sensor.tick()
    change_b(corpus)
    sensor.tick()
    assert outdated(done) == {("raw_corpus", done.shards[1]): [NEW_DATA]}


def test_a_stage_run_alone_over_all_makes_only_what_changed_outdated_below(
    done: Project, corpus: Path
) -> None:
    change_b(corpus)
    assert done.run("shards").success
    done.run_stage("raw_corpus")
    assert outdated(done) == {("chunks", done.shards[1]): [NEW_DATA]}
    done.run_stage("raw_corpus")
    assert outdated(done) == {("chunks", done.shards[1]): [NEW_DATA]}


def test_a_setting_makes_the_shards_outdated_that_it_changes(done: Project) -> None:
    def everywhere(stages: list[str], shards: list[str]) -> dict[tuple[str, str], list[str]]:
        return {(stage, shard): [NEW_CODE] for stage in stages for shard in shards}

    settings: list[tuple[dict[str, object], list[str]]] = [
        ({"checkpoint_seconds": 5.0, "shards_per_run": 3}, []),
        ({"max_records": 1000}, ["raw_corpus"]),
        ({"normalize": True}, ["embeddings"]),
        ({"max_tokens": 32}, ["chunks"]),
    ]
    for values, stages in settings:
        changed = with_settings(done, **values)
        assert outdated(changed) == everywhere(stages, done.shards)
    # Run for two of them: these two are up to date, and the others are not.
    first, second, *others = done.shards
    assert changed.run("embed", first, second).success
    assert outdated(changed) == everywhere(stages, others)


def test_a_shard_is_known_as_soon_as_it_is_published_and_with_its_version(done: Project) -> None:
    key = dg.AssetKey(["notes", "embeddings"])
    states = {}
    for shard in done.shards:
        records = done.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[shard]), limit=5
        ).records
        found = [r.asset_materialization for r in records if r.asset_materialization]
        versions = [(m.tags or {})["dagster/data_version"] for m in found]
        # Ours, Dagster's own at the end of the step, and ours as the shard was published.
        assert versions[0] == versions[2]
        states[shard] = versions[0]
    assert len(set(states.values())) == len(done.shards)


class Automated:
    """A pipeline with `automation: stale`, evaluated tick after tick."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.cursor: dg.AutomationConditionCursor | None = None

    def tick(self) -> dict[str, list[str]]:
        """Asset -> shards that would be run now."""
        result = dg.evaluate_automation_conditions(
            self.project.definitions, self.project.instance, cursor=self.cursor
        )
        self.cursor = result.cursor
        wanted = {
            stage: result.get_requested_partitions(dg.AssetKey(["notes", stage]))
            for stage in STAGES
        }
        return {stage: sorted(map(str, found)) for stage, found in wanted.items() if found}


@pytest.fixture
def automated(done: Project) -> Automated:
    made = Automated(with_settings(done, automation="stale"))
    assert made.tick() == {}
    return made


def test_the_condition_runs_changed_and_new_shards_through_all_stages_once(
    automated: Automated, corpus: Path
) -> None:
    project = automated.project
    change_b(corpus)
    assert project.run("shards").success
    b = project.shards[1]
    assert automated.tick() == {stage: [b] for stage in STAGES}
    assert automated.tick() == {}
    assert project.run("embed", b).success
    assert automated.tick() == {}

    add_e(corpus)
    assert project.run("shards").success
    e = project.shards[-1]
    assert automated.tick() == {stage: [e] for stage in STAGES}
    assert project.run("embed", e).success
    # A look that finds nothing is ignored.
    assert project.run("shards").success
    assert automated.tick() == {}


def test_the_condition_runs_what_a_setting_made_outdated(automated: Automated) -> None:
    shards = automated.project.shards
    automated.project = with_settings(automated.project, max_tokens=32)
    assert automated.tick() == dict.fromkeys(STAGES[1:], shards)
    assert automated.project.run("embed", shards[0], shards[-1]).success
    assert automated.tick() == {}


def test_what_is_missing_when_the_condition_is_switched_on_is_run_once(project: Project) -> None:
    first, *others = project.shards
    assert project.run("embed", first).success
    automated = Automated(with_settings(project, automation="stale"))
    assert automated.tick() == dict.fromkeys(STAGES, others)
    # Not again, however it went.
    assert automated.tick() == {}


def test_with_conditions_the_file_sensor_looks_and_tells_but_starts_nothing(
    done: Project, corpus: Path
) -> None:
    sensor = Sensor(with_settings(done, automation="stale"))
    assert "4 shards: all up to date" in sensor.tick().why
    change_b(corpus)
    add_e(corpus)
    tick = sensor.tick()
    assert "2 outdated (" in tick.why
    assert tick.runs == []
    assert len(tick.added) == 1
    assert tick.observed == [done.shards[1]]
    assert sensor.tick().observed == []


def test_only_one_sensor_launches(settings: PipelineSettings, project: Project) -> None:
    def names(made: Project) -> list[str]:
        return sorted(s.name for s in made.definitions.sensors or [] if s.name != "notes_failures")

    assert names(project) == ["notes_files"]
    assert names(with_settings(project, automation="stale")) == ["notes_automation", "notes_files"]
    key = dg.AssetKey(["notes", "chunks"])
    assert project.definitions.resolve_asset_graph().get(key).automation_condition is None


def test_sensors_and_schedules_are_off_unless_the_settings_switch_them_on(
    project: Project,
) -> None:
    for is_on in (False, True):
        made = with_settings(project, switched_on=is_on, automation="stale").definitions
        brought = [*(made.sensors or []), *(made.schedules or [])]
        # Telling of failures starts no work.
        states = [s.default_status.value for s in brought if s.name != "notes_failures"]
        assert states == (["RUNNING"] if is_on else ["STOPPED"]) * 4
