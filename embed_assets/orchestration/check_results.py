"""Summaries of quality checks as Dagster asset checks: one result per check, bad shards named."""

from collections.abc import Iterable, Mapping

import dagster as dg

from embed_assets.quality.check_summary import CheckSummary

# A check's metadata stays small however many shards fail at once.
_MOST_NAMED = 20


def check_specs(
    asset: dg.AssetKey, checks: Mapping[str, str], *, blocking: bool
) -> list[dg.AssetCheckSpec]:
    """One spec per check (name -> what holds)."""
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking)
        for name, description in checks.items()
    ]


def check_results(
    asset: dg.AssetKey, summaries: Iterable[CheckSummary]
) -> list[dg.AssetCheckResult]:
    """One result per check over all shards of a run."""
    return [
        dg.AssetCheckResult(
            check_name=summary.check,
            asset_key=asset,
            passed=summary.passed,
            severity=_severity(summary),
            description=summary.sentence,
            metadata=_metadata(summary),
        )
        for summary in summaries
    ]


def report_checks(
    instance: dg.DagsterInstance, asset: dg.AssetKey, summaries: Iterable[CheckSummary]
) -> None:
    """Record results outside of a step: for one that fails, or of another asset."""
    for summary in summaries:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=asset,
                check_name=summary.check,
                passed=summary.passed,
                severity=_severity(summary),
                description=summary.sentence,
                metadata=_metadata(summary),
                blocking=summary.is_blocking,
            )
        )


def _severity(summary: CheckSummary) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if summary.is_blocking else dg.AssetCheckSeverity.WARN


def _metadata(summary: CheckSummary) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "shards_checked": dg.MetadataValue.int(summary.n_shards),
        "shards_failed": dg.MetadataValue.int(len(summary.failed)),
    }
    if summary.failed:
        records = [
            dg.TableRecord(
                {
                    "shard": finding.shard,
                    "detail": finding.detail,
                    "chunk_ids": " ".join(finding.chunk_ids),
                }
            )
            for finding in summary.failed[:_MOST_NAMED]
        ]
        metadata["failed"] = dg.MetadataValue.table(records)
    return metadata
