"""`dg launch`: one shard or a range of them, in this process, without a daemon."""

import json
import os
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster_dg_cli.cli import create_dg_cli

from embed_assets.orchestration.run_processes import PROCESS_TAG
from embed_assets.settings import PipelineSettings
from embed_assets_tests.deploy.servers import ROOT
from embed_assets_tests.orchestration.conftest import Project

CODE = """import json
from pathlib import Path

from embed_assets import build_pipeline, load_settings

settings = load_settings(json.loads(Path(__file__).with_name("settings.json").read_text()))
defs = build_pipeline(settings)
"""


@pytest.fixture
def home(tmp_path: Path, settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """DAGSTER_HOME, which knows the shards; the code is in the working folder."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    (tmp_path / "definitions.py").write_text(CODE)
    with dg.DagsterInstance.get() as instance:
        assert Project(settings, instance).run("shards").success
    return home


def launch(*arguments: str) -> Result:
    command = ["launch", "-f", "definitions.py", *arguments]
    program = create_dg_cli()  # type: ignore[no-untyped-call]
    return CliRunner().invoke(program, command, catch_exceptions=False)


@pytest.mark.parametrize("what", [["--assets", "notes/raw_corpus"], ["--job", "notes_embed"]])
def test_a_range_goes_in_one_run_which_can_be_told_from_a_dead_one(
    what: list[str], settings: PipelineSettings, home: Path
) -> None:
    with dg.DagsterInstance.get() as instance:
        project = Project(settings, instance)
        first, *_, last = project.shards
        assert len(project.shards) > settings.shards_per_run
        result = launch(*what, "--partition-range", f"{first}...{last}")
        assert result.exit_code == 0, result.output

        assert project.materialized("raw_corpus") == set(project.shards)
        (run,) = [run for run in instance.get_runs() if run.job_name != "notes_shards"]
        assert json.loads(run.tags[PROCESS_TAG])["pid"] == os.getpid()


def test_a_range_that_is_written_backwards_fails_and_is_not_tried_again(
    settings: PipelineSettings, home: Path
) -> None:
    with dg.DagsterInstance.get() as instance:
        first, *_, last = Project(settings, instance).shards
        result = launch("--job", "notes_embed", "--partition-range", f"{last}...{first}")
        assert result.exit_code == 1
        (run,) = [run for run in instance.get_runs() if run.job_name == "notes_embed"]
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        (failure,) = [event for event in events if event and event.is_step_failure]
        told = failure.step_failure_data.user_failure_data
        assert told is not None
        assert f"no shard is in the range {last}...{first}" in str(told.description)
        assert not [event for event in events if event and event.is_step_up_for_retry]


def test_elsewhere_a_backfill_is_cut_into_runs_of_shards_per_run(
    settings: PipelineSettings, home: Path
) -> None:
    with dg.DagsterInstance.get() as instance:
        (embeddings,) = (
            asset
            for asset in Project(settings, instance).definitions.resolve_asset_graph().asset_nodes
            if asset.key.path[-1] == "embeddings"
        )
    assert embeddings.backfill_policy == dg.BackfillPolicy.multi_run(settings.shards_per_run)
