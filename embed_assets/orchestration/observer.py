"""What the command line wants to hear while assets run in its own process."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from embed_assets.outcome import Outcome
from embed_assets.quality.check_summary import CheckSummary


class Observer(Protocol):
    """Hears about the work as it goes on. In the Dagster UI nobody listens: events say it all."""

    @property
    def started_at(self) -> datetime | None:
        """When the command began that the runs belong to; None if each run stands for itself."""
        ...

    def stage_started(self, stage: str, shards: Sequence[str]) -> None:
        """A stage begins for these shards."""
        ...

    def shard_waits(self, shard: str) -> None:
        """Another run of this machine works on a shard. Called from other threads."""
        ...

    def tokens_embedded(self, shard: str, n_tokens: int) -> None:
        """A device has done so many more tokens of a shard. Called from other threads."""
        ...

    def shard_done(self, outcome: Outcome) -> None:
        """A shard went through a stage."""
        ...

    def shard_failed(self, stage: str, shard: str, reason: str) -> None:
        """A shard did not get through a stage."""
        ...

    def checked(self, summaries: Sequence[CheckSummary]) -> None:
        """Some shards went through checks."""
        ...

    def corpus_checked(self, summaries: Sequence[CheckSummary]) -> None:
        """All shards that stand went through all checks."""
        ...


class Silent:
    """Hears nothing."""

    started_at: datetime | None = None

    def stage_started(self, stage: str, shards: Sequence[str]) -> None:
        """Ignore."""

    def shard_waits(self, shard: str) -> None:
        """Ignore."""

    def tokens_embedded(self, shard: str, n_tokens: int) -> None:
        """Ignore."""

    def shard_done(self, outcome: Outcome) -> None:
        """Ignore."""

    def shard_failed(self, stage: str, shard: str, reason: str) -> None:
        """Ignore."""

    def checked(self, summaries: Sequence[CheckSummary]) -> None:
        """Ignore."""

    def corpus_checked(self, summaries: Sequence[CheckSummary]) -> None:
        """Ignore."""
