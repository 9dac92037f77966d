"""A small corpus with a pipeline over it, for tests that run Dagster for real."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.partitions import range_tags
from embed_assets.settings import PipelineSettings, load_settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four files of about 1 kB, so that 1 kB shards hold one each."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in "abcd":
        sentences = [f"File {name} says the number {i} of its kind." for i in range(30)]
        (folder / f"{name}.txt").write_text(" ".join(sentences))
    return folder


@pytest.fixture
def settings(tmp_path: Path, corpus: Path, tiny_bert: Path) -> PipelineSettings:
    """A pipeline of four shards."""
    return load_settings(
        {
            "name": "notes",
            "corpus": str(corpus),
            "tables": str(tmp_path / "tables"),
            "model": str(tiny_bert),
            "shard_bytes": 1024,
            "shards_per_run": 2,
        }
    )


class Project:
    """A pipeline's definitions with an instance to run them in."""

    def __init__(self, settings: PipelineSettings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.definitions = build_pipeline(settings)

    def run(self, job: str, *shards: str, force: bool = False) -> dg.ExecuteInProcessResult:
        """Run one of the pipeline's jobs; shards are the first and last of a range."""
        stages = ("raw_corpus", "chunks", "embeddings", "quality_metrics")
        ops = {f"{self.settings.name}__{stage}": {"config": {"force": force}} for stage in stages}
        return self.definitions.resolve_job_def(f"{self.settings.name}_{job}").execute_in_process(
            instance=self.instance,
            tags=range_tags((shards[0], shards[-1])) if shards else {},
            run_config={**QUIET, **({"ops": ops} if shards else {})},
            raise_on_error=False,
        )

    def run_stage(self, stage: str) -> None:
        """Materialise one asset alone, for all shards; it must succeed."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey([self.settings.name, stage])],
            tags=range_tags((self.shards[0], self.shards[-1])),
            run_config=QUIET,
        )
        assert result.success

    @property
    def shards(self) -> list[str]:
        """The registered partitions, in order."""
        return list(self.instance.get_dynamic_partitions(f"{self.settings.name}_shards"))

    def materialized(self, asset: str) -> set[str]:
        """The partitions of an asset that Dagster counts as materialised."""
        key = dg.AssetKey([self.settings.name, asset])
        return self.instance.get_materialized_partitions(key)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance of its own for each test."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def fresh(settings: PipelineSettings, instance: dg.DagsterInstance) -> Project:
    """The pipeline that nobody has looked at yet."""
    return Project(settings, instance)


@pytest.fixture
def project(fresh: Project) -> Project:
    """The pipeline with its shards registered."""
    result = fresh.run("shards")
    assert result.success, [
        str(e.step_failure_data) for e in result.all_events if e.is_step_failure
    ]
    return fresh
