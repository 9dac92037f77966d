"""Failed runs reach the log and the user's own hook, with reasons and without corpus text."""

import re
from pathlib import Path

import dagster as dg
import pytest

from embed_assets import pipeline
from embed_assets.errors import SettingsError
from embed_assets.orchestration import shard_asset
from embed_assets.orchestration.alerts import RunFailure
from embed_assets.orchestration.build import build_pipeline
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.orchestration.conftest import Project

HEARD: list[RunFailure] = []


@pytest.fixture(autouse=True)
def _nothing_heard_and_nothing_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    HEARD.clear()
    monkeypatch.setattr(shard_asset, "_RETRIES", dg.RetryPolicy(max_retries=0))


def hook(failure: RunFailure) -> None:
    HEARD.append(failure)


def tell(
    definitions: dg.Definitions, instance: dg.DagsterInstance, run: dg.DagsterRun, name: str
) -> object:
    """Show a failed run to a pipeline's sensor, as the daemon would."""
    events = instance.all_logs(run.run_id)
    (last,) = [
        e.dagster_event for e in events if e.dagster_event and e.dagster_event.is_job_failure
    ]
    (sensor,) = [s for s in definitions.sensors or () if getattr(s, "name", "") == name]
    context = dg.build_run_status_sensor_context(
        sensor_name=name, dagster_event=last, dagster_instance=instance, dagster_run=run
    ).for_run_failure()
    assert isinstance(sensor, dg.SensorDefinition)
    return sensor(context)


def failed(project: Project, job: str, *shards: str) -> dg.DagsterRun:
    run = project.instance.get_run_by_id(project.run(job, *shards).run_id)
    assert run is not None
    assert run.is_failure
    return run


def test_the_failed_shards_are_told_with_their_reasons_and_no_corpus_text(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(shard: str, **_: object) -> None:
        if shard == project.shards[0]:
            raise SettingsError("the model's folder has no tokenizer; give one that has")
        raise ValueError("cannot cut 'File b says the number 0'")

    monkeypatch.setattr(pipeline, "chunk_shard", chunk)
    definitions = build_pipeline(project.settings, on_failure=hook)
    monkeypatch.setattr(project, "definitions", definitions)
    run = failed(project, "embed", *project.shards[:2])
    tell(definitions, project.instance, run, "notes_failures")

    (heard,) = HEARD
    assert heard.run_id == run.run_id
    assert heard.reasons == {
        project.shards[0]: "the model's folder has no tokenizer; give one that has",
        project.shards[1]: "ValueError; the run's page says more",
    }
    assert "notes: run" in heard.text()
    assert "Re-execute" in heard.text()
    assert "says the number" not in heard.text()


def test_a_run_that_is_tried_again_is_not_told_yet(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "ingest_shard", lambda *_, **__: 1 / 0)
    definitions = build_pipeline(project.settings, on_failure=hook)
    monkeypatch.setattr(project, "definitions", definitions)
    run = failed(project, "embed", project.shards[0])
    project.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    again = project.instance.get_run_by_id(run.run_id)
    assert again is not None
    tell(definitions, project.instance, again, "notes_failures")
    assert HEARD == []


def test_runs_of_others_are_passed_over(project: Project) -> None:
    @dg.op
    def wrong() -> None:
        raise ValueError

    @dg.job
    def notes_of_mine() -> None:
        wrong()

    definitions = build_pipeline(project.settings, on_failure=hook)
    result = notes_of_mine.execute_in_process(instance=project.instance, raise_on_error=False)
    run = project.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert isinstance(tell(definitions, project.instance, run, "notes_failures"), dg.SkipReason)
    assert HEARD == []


def test_a_worker_that_died_is_told_too(project: Project) -> None:
    definitions = build_pipeline(project.settings, on_failure=hook)
    run = project.instance.create_run_for_job(
        definitions.resolve_job_def("notes_shards"), status=dg.DagsterRunStatus.STARTED
    )
    project.instance.report_run_failed(run, "The process of this run, 7, is gone.")
    again = project.instance.get_run_by_id(run.run_id)
    assert again is not None
    tell(definitions, project.instance, again, "notes_failures")
    assert [list(failure.reasons.values()) for failure in HEARD] == [
        ["The process of this run, 7, is gone."]
    ]


def test_the_hook_may_be_named_in_yaml(settings: PipelineSettings) -> None:
    named = load_settings({"on_failure": f"{__name__}:hook"}, base=settings)
    assert "notes_failures" in {s.name for s in build_pipeline(named).sensors or ()}


@pytest.mark.parametrize("place", ["no.such:hook", f"{__name__}:missing", f"{__name__}:HEARD"])
def test_a_hook_that_is_not_there_is_an_error_on_load(
    settings: PipelineSettings, place: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"'on_failure' is {place!r}")):
        build_pipeline(load_settings({"on_failure": place}, base=settings))


def test_a_hook_whose_module_raises_is_an_error_on_load(
    settings: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_alerts.py").write_text('import os\nTOKEN = os.environ["NO_SUCH_TOKEN"]\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match="'my_alerts:told': KeyError: 'NO_SUCH_TOKEN'"):
        build_pipeline(load_settings({"on_failure": "my_alerts:told"}, base=settings))


def test_a_long_list_is_cut() -> None:
    failure = RunFailure("notes", "1", "notes_embed", {f"s{i}": "no" for i in range(50)}, True)
    assert failure.text().splitlines()[-2:] == ["- and 30 more", "Dagster runs it again by itself."]
