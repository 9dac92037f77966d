"""Dagster's state in a real PostgreSQL: the switch, and a pipeline's runs over it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from embed_assets.errors import SettingsError
from embed_assets.orchestration import project
from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.partitions import range_tags
from embed_assets_tests.deploy.postgres import needs_postgres, postgres
from embed_assets_tests.deploy.servers import ROOT
from embed_assets_tests.small_pipelines import settings_for, write_files

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
SWITCH = "DAGSTER_POSTGRES_URL"

#: What a process does that comes up on an empty database: a run, and a partition.
NEWCOMER = """
import sys
import dagster as dg

@dg.asset
def one() -> None: ...

with dg.DagsterInstance.get() as instance:
    instance.add_dynamic_partitions("newcomers", [sys.argv[1]])
    assert dg.materialize([one], instance=instance).success
"""


def load(path: str) -> dict[str, object]:
    return dict(yaml.safe_load((ROOT / path).read_text()))


def test_both_configurations_say_the_same_but_for_storage_and_how_many_runs() -> None:
    sqlite, on_postgres = load("dagster.yaml"), load("deploy/dagster-postgres.yaml")
    assert on_postgres.pop("storage") == {"postgres": {"postgres_url": {"env": SWITCH}}}
    for config, n_runs in ((sqlite, 4), (on_postgres, 10)):
        concurrency = config["concurrency"]
        assert isinstance(concurrency, dict)
        assert concurrency["runs"].pop("max_concurrent_runs") == n_runs
    assert sqlite == on_postgres


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with nothing but the two configurations."""
    for folder in ("deploy", "embed_assets/defs"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("pyproject.toml", "dagster.yaml", "deploy/dagster-postgres.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv(SWITCH, raising=False)
    return tmp_path


def test_a_url_without_the_driver_is_refused_and_its_password_kept(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "postgresql://ada:lovelace@db/dagster")
    with pytest.raises(SettingsError, match=r"write postgresql\+psycopg2://") as raised:
        project.open_instance()
    assert "lovelace" not in str(raised.value)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as url:
        yield url


@needs_postgres
def test_the_switch_is_one_variable_and_goes_both_ways(
    checkout: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def storage() -> str:
        with project.open_instance() as instance:
            return type(instance.event_log_storage).__name__

    assert storage() == "SqliteEventLogStorage"
    monkeypatch.setenv(SWITCH, url)
    assert storage() == "PostgresEventLogStorage"
    monkeypatch.delenv(SWITCH)
    assert storage() == "SqliteEventLogStorage"
    # A file that somebody put there stays.
    config = checkout / ".dagster/dagster.yaml"
    config.unlink()
    config.write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv(SWITCH, url)
    assert storage() == "SqliteEventLogStorage"


@needs_postgres
@pytest.mark.soak
def test_several_processes_may_meet_an_empty_database(checkout: Path) -> None:
    home = checkout / "home"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(checkout / "deploy/dagster-postgres.yaml")
    with postgres() as url, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", str(home))
        environment.setenv(SWITCH, url)
        environment.setenv("PYTHONPATH", str(ROOT))
        command = [sys.executable, "-c", NEWCOMER]
        started = [
            subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in "ab"
        ]
        said = [process.communicate()[1] for process in started]
        assert [process.returncode for process in started] == [0] * 2, "\n".join(said)
        with dg.DagsterInstance.get() as instance:
            assert sorted(instance.get_dynamic_partitions("newcomers")) == ["a", "b"]
            assert [run.is_success for run in instance.get_runs()] == [True] * 2


@needs_postgres
@pytest.mark.slow
def test_a_pipeline_runs_over_it(
    checkout: Path, url: str, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, url)
    write_files(checkout / "corpus", {f"{name}.txt": "A word or two. " * 60 for name in "abc"})
    settings = settings_for(checkout, tiny_bert, name="notes")
    definitions = build_pipeline(settings)
    with project.open_instance() as instance:
        shards_job = definitions.resolve_job_def("notes_shards")
        assert shards_job.execute_in_process(instance=instance, run_config=QUIET).success
        shards = list(instance.get_dynamic_partitions("notes_shards"))
        assert len(shards) >= 2
        result = definitions.resolve_job_def("notes_embed").execute_in_process(
            instance=instance, tags=range_tags(shards), run_config=QUIET
        )
        run = instance.get_run_by_id(result.run_id)
        pool = instance.event_log_storage.get_concurrency_info("gpu")
        events = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)

    # Another process sees all of it.
    with project.open_instance() as instance:
        embeddings = dg.AssetKey(["notes", "embeddings"])
        assert instance.get_materialized_partitions(embeddings) == set(shards)
    assert run is not None
    assert run.is_success
    assert len(events) >= 4 * len(shards)
    assert (pool.slot_count, pool.claimed_slots, pool.pending_steps) == (1, [], [])
