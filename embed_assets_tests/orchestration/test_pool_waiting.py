"""A run that waits for the device: told, quiet, and stopped by a signal."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._utils import interrupts

from embed_assets.orchestration.pool_waiting import is_blocked_by_pool
from embed_assets.settings import PipelineSettings
from embed_assets_tests.orchestration.conftest import Project


@pytest.fixture
def project(settings: PipelineSettings, tmp_path: Path) -> Iterator[Project]:
    """On SQLite: in memory there are no pools."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        made = Project(settings, instance)
        assert made.run("shards").success
        yield made


def test_a_run_that_waits_for_the_device_asks_seldom_and_can_be_stopped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = project.instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    assert storage.claim_concurrency_slot("gpu", "another run", "its step").is_claimed
    n_asked, claim = 0, InstanceConcurrencyContext.claim

    def counted(context: InstanceConcurrencyContext, *arguments: object) -> bool:
        nonlocal n_asked
        n_asked += 1
        assert n_asked < 10, "it asks without a pause"
        # As a signal's handler notes it: a signal itself could come when the run is over.
        interrupts._received_interrupt["received"] = n_asked == 2
        return claim(context, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(InstanceConcurrencyContext, "claim", counted)
    result = project.run("embed", project.shards[0])
    assert not result.success
    assert n_asked == 2
    assert any(is_blocked_by_pool(event) for event in result.all_events)
    run = project.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert project.materialized("chunks") == {project.shards[0]}
    assert project.materialized("embeddings") == set()
    assert storage.get_concurrency_info("gpu").pending_step_count == 0
