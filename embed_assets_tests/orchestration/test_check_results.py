"""Checks say the same everywhere: in the UI, in the report and on the command line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from numpy.typing import NDArray

from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import TorchEncoder
from embed_assets.errors import InputError
from embed_assets.orchestration.build import build_pipeline
from embed_assets.progress_bar import ProgressBar
from embed_assets.quality.check_summary import CheckSummary, merged, summarized
from embed_assets.quality.checks import BLOCKING_CHECKS, Finding
from embed_assets_tests.orchestration.conftest import Project


def latest(project: Project, asset: str, check: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(["notes", asset]), check)
    records = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    record: AssetCheckExecutionRecord = records[key]
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def finding(shard: str, passed: bool = False, check: str = "norms_right") -> Finding:
    return Finding(check, passed, shard, f"detail of {shard}", () if passed else ("c1", "c2"))


def test_a_sentence_names_shards_and_chunks_and_stays_short() -> None:
    findings = [finding(f"s{n}") for n in range(9)] + [finding("good", passed=True)]
    (summary,) = summarized(["norms_right"], findings)
    assert summary.sentence == (
        "9 of 10 shards failed: s0: detail of s0 (chunks c1, c2); s1: detail of s1 (chunks c1, c2);"
        " s2: detail of s2 (chunks c1, c2); and 6 more"
    )
    assert summary.word == "FAILED"
    (passed,) = summarized(["norms_right"], [finding("good", passed=True)])
    assert (passed.word, passed.sentence) == ("passed", "1 shard passed")


def test_the_runs_of_one_command_count_together() -> None:
    runs = [summarized(["norms_right"], [finding(s)]) for s in ("a", "b")]
    together: dict[str, CheckSummary] = {}
    for run in runs:
        together = merged(together, run)
    assert together["norms_right"].sentence.startswith("2 of 2 shards failed: a: ")


def test_a_refused_shard_fails_its_check_and_the_ui_says_what_the_command_says(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = TorchEncoder.encode

    def spoilt(
        self: TorchEncoder, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        for batch, vectors in encode(self, tokens, batches):
            yield batch, np.zeros_like(vectors)

    monkeypatch.setattr(TorchEncoder, "encode", spoilt)
    project.settings = project.settings.model_copy(update={"backend": "torch", "device": "cpu"})
    bar = ProgressBar({})
    project.definitions = build_pipeline(project.settings, observer=bar)
    shard = project.shards[0]
    result = project.run("embed", shard)
    assert not result.success
    assert "notes__quality_metrics" not in {
        event.step_key for event in result.all_events if event.is_step_start
    }
    evaluation = latest(project, "embeddings", "norms_right")
    assert not evaluation.passed
    assert evaluation.blocking
    assert evaluation.description == bar.checks["norms_right"].sentence
    assert f"1 of 1 shard failed: {shard}: " in evaluation.description
    assert "(chunks " in evaluation.description
    stage, reason = bar.failures[shard]
    assert stage == "embeddings"
    assert bar.checks["norms_right"].failed[0].detail in reason
    assert InputError.__name__ not in reason


@pytest.mark.usefixtures("without_pictures")
def test_the_report_brings_every_check_up_to_date(project: Project) -> None:
    project.settings = project.settings.model_copy(update={"max_duplicate_share": 0.0})
    bar = ProgressBar({})
    project.definitions = build_pipeline(project.settings, observer=bar)
    first, *_, last = project.shards
    # 128 tokens to a chunk: several chunks are the same text.
    (Path(project.settings.corpus) / "a.txt").write_text("again and " * 2000)
    project.run("shards")
    assert project.run("embed", first, last).success
    # A later run of a good shard alone leaves a green check behind.
    good = project.shards[-1]
    assert project.run("embed", good).success
    assert latest(project, "quality_metrics", "few_duplicates").passed
    assert project.run("report").success
    evaluation = latest(project, "quality_metrics", "few_duplicates")
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert evaluation.description == bar.checks["few_duplicates"].sentence
    assert set(bar.checks) >= set(BLOCKING_CHECKS) | {"shards_near_centroid"}
