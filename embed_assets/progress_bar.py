"""One bar for a whole run: shards done, chunks, tokens per second, time left."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from embed_assets.outcome import Outcome
from embed_assets.quality.check_summary import CheckSummary, merged
from embed_assets.terminal import console


class ProgressBar:
    """Moves with the bytes of the shards that have work to do, and keeps what became of each.

    Bytes, because they are known before the first shard is read; within a shard the bar moves
    with the tokens embedded, which is where the time goes.
    """

    def __init__(self, n_bytes: Mapping[str, int], started_at: datetime | None = None) -> None:
        self.started_at = started_at
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        self.failures: dict[str, tuple[str, str]] = {}
        self.checks: dict[str, CheckSummary] = {}
        self._n_bytes = n_bytes
        self._finished: set[str] = set()
        self._shard_tokens: Counter[str] = Counter()
        self._tokens = 0
        self._since: float | None = None
        self._stage = "starting"
        self._awaited: set[str] = set()
        self._has_said = False
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console(stderr=True),
            speed_estimate_period=120,
        )
        total = max(1, sum(n_bytes.values()))
        self._task = self._progress.add_task(self._stage, total=total, figures="")

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage_started(self, stage: str, shards: Sequence[str]) -> None:
        """Name the stage; the embedding clock starts with its first tokens."""
        # A model is loaded when its first shard is read; for the first time that takes a while.
        is_loading = stage == "embeddings" and self._since is None
        self._stage = stage
        self._progress.update(self._task, description="loading the model" if is_loading else stage)

    def shard_waits(self, shard: str) -> None:
        """Say so: the bar would seem to hang."""
        self._awaited.add(shard)
        self._say_once(f"another run is working on {shard}; waiting for what it makes")
        self._show()

    def device_awaited(self) -> None:
        """Another run has the device, which is a pool of Dagster's."""
        self._say_once("another run has the device; waiting until it lets go of it")
        self._progress.update(self._task, description="waiting for the device")

    def _say_once(self, line: str) -> None:
        """Where the bar does not show, as in a file, its words do not either."""
        if not self._progress.console.is_terminal and not self._has_said:
            self._has_said = True
            self._progress.console.print(line)

    def tokens_embedded(self, shard: str, n_tokens: int) -> None:
        """Move within the shard."""
        if self._since is None:
            self._since = time.monotonic()
        self._tokens += n_tokens
        self._awaited.discard(shard)
        self._shard_tokens[shard] += n_tokens
        self._show()

    @property
    def embedded(self) -> set[str]:
        """The shards whose vectors stand now, for all that this run knows."""
        return {shard for stage, shard in self.outcomes if stage == "embeddings"}

    def shard_done(self, outcome: Outcome) -> None:
        """Count it; a shard is done on the bar when its vectors stand."""
        self.outcomes[outcome.stage, outcome.shard] = outcome
        self._awaited.discard(outcome.shard)
        if outcome.stage == "embeddings":
            self._finished.add(outcome.shard)
        self._show()

    def shard_failed(self, stage: str, shard: str, reason: str) -> None:
        """Keep the reason for the end; the bar goes on with the others."""
        self.failures[shard] = (stage, reason)
        self._awaited.discard(shard)
        self._finished.add(shard)
        self._show()

    def checked(self, summaries: Sequence[CheckSummary]) -> None:
        """Keep them for the end, shards of one check together."""
        self.checks = merged(self.checks, summaries)

    def corpus_checked(self, summaries: Sequence[CheckSummary]) -> None:
        """These stand for all before, but for vectors that were refused and so do not stand."""
        refused = {c: s for c, s in self.checks.items() if s.is_blocking and not s.passed}
        self.checks = {summary.check: summary for summary in summaries} | refused

    def _show(self) -> None:
        done = float(sum(self._n_bytes.get(shard, 0) for shard in self._finished))
        for shard, embedded in dict(self._shard_tokens).items():
            chunks = self.outcomes.get(("chunks", shard))
            if shard not in self._finished and chunks and chunks.numbers.get("tokens"):
                share = min(1.0, embedded / chunks.numbers["tokens"])
                done += share * self._n_bytes.get(shard, 0)
        n_chunks = sum(o.n_rows for (stage, _), o in self.outcomes.items() if stage == "embeddings")
        shards = f"{len(self._finished)}/{len(self._n_bytes)}"
        awaited = sorted(self._awaited)
        waiting = f", another run has {awaited[0]}" if awaited else ""
        elapsed = time.monotonic() - self._since if self._since is not None else 0.0
        speed = f"{self._tokens / elapsed:,.0f} tokens/s" if elapsed > 1 else ""
        self._progress.update(
            self._task,
            description=self._stage + waiting,
            completed=done,
            figures=f"{shards} shards  {n_chunks:,} chunks  {speed}",
        )
