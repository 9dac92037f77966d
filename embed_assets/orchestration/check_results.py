"""Findings of quality checks as Dagster asset checks: one result per check, bad shards named."""

from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from embed_assets.quality.checks import Finding

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
    asset: dg.AssetKey, checks: Iterable[str], findings: Sequence[Finding], *, blocking: bool
) -> list[dg.AssetCheckResult]:
    """One result per check over all shards of a run."""
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
    results = []
    for check in checks:
        of_check = [finding for finding in findings if finding.check == check]
        failed = [finding for finding in of_check if not finding.passed]
        metadata: dict[str, dg.MetadataValue] = {
            "shards_checked": dg.MetadataValue.int(len(of_check)),
            "shards_failed": dg.MetadataValue.int(len(failed)),
        }
        if failed:
            metadata["failed"] = dg.MetadataValue.table(
                [
                    dg.TableRecord(
                        {
                            "shard": finding.shard,
                            "detail": finding.detail,
                            "chunk_ids": " ".join(finding.chunk_ids),
                        }
                    )
                    for finding in failed[:_MOST_NAMED]
                ]
            )
        results.append(
            dg.AssetCheckResult(
                check_name=check,
                asset_key=asset,
                passed=not failed,
                severity=severity,
                description=f"{failed[0].shard}: {failed[0].detail}" if failed else None,
                metadata=metadata,
            )
        )
    return results
