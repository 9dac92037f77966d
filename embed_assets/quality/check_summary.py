"""What became of each check over many shards, in the one sentence that every place shows.

The Dagster checks, the quality report and the command line all print these, so that they cannot
tell different stories.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from embed_assets.quality.checks import BLOCKING_CHECKS, Finding
from embed_assets.wording import counted

# However many shards fail at once, a sentence can be read and metadata stays small.
_NAMED_SHARDS = 3
_NAMED_CHUNKS = 3


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """One check over `n_shards` shards; `failed` are the findings of those that did not pass."""

    check: str
    n_shards: int
    failed: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every shard passed."""
        return not self.failed

    @property
    def is_blocking(self) -> bool:
        """Whether a failure keeps what comes after from running."""
        return self.check in BLOCKING_CHECKS

    @property
    def word(self) -> str:
        """The result: "passed", "FAILED" for a check that blocks, "warning" for another."""
        if self.passed:
            return "passed"
        return "FAILED" if self.is_blocking else "warning"

    @property
    def sentence(self) -> str:
        """How many shards failed, the first of them with detail and chunks. No text of a corpus."""
        if self.passed:
            return f"{counted(self.n_shards, 'shard')} passed"
        named = [_named(finding) for finding in self.failed[:_NAMED_SHARDS]]
        if len(self.failed) > _NAMED_SHARDS:
            named.append(f"and {len(self.failed) - _NAMED_SHARDS} more")
        return f"{len(self.failed)} of {counted(self.n_shards, 'shard')} failed: {'; '.join(named)}"

    def and_also(self, other: "CheckSummary") -> "CheckSummary":
        """The same check over the shards of both."""
        n_shards = self.n_shards + other.n_shards
        return replace(self, n_shards=n_shards, failed=(*self.failed, *other.failed))


def summarized(checks: Iterable[str], findings: Iterable[Finding]) -> list[CheckSummary]:
    """One summary per check, in their order."""
    by_check: dict[str, list[Finding]] = {check: [] for check in checks}
    for finding in findings:
        if finding.check in by_check:
            by_check[finding.check].append(finding)
    return [
        CheckSummary(check, len(found), tuple(f for f in found if not f.passed))
        for check, found in by_check.items()
    ]


def merged(
    before: Mapping[str, CheckSummary], new: Iterable[CheckSummary]
) -> dict[str, CheckSummary]:
    """Summaries by check, the shards of `new` added to those of `before`."""
    together = dict(before)
    for summary in new:
        earlier = together.get(summary.check)
        together[summary.check] = earlier.and_also(summary) if earlier else summary
    return together


def _named(finding: Finding) -> str:
    chunks = finding.chunk_ids[:_NAMED_CHUNKS]
    more = len(finding.chunk_ids) - len(chunks)
    listed = f" (chunks {', '.join(chunks)}{f' and {more} more' if more else ''})" if chunks else ""
    return f"{finding.shard}: {finding.detail}{listed}"
