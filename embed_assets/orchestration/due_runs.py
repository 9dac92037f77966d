"""Which runs the sensor asks for now. Pure: what is stale, in work and asked for already in,
ranges of shards out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from embed_assets.orchestration.partitions import bridged_runs
from embed_assets.staleness import Stale

# Runs that may be queued or going on at once. The rest of a backlog follows as they end: a queue of
# thousands would hide what a person wants to run, and asking for it would take the daemon an hour.
_MOST_RUNS = 50
# Failed shards that are remembered, 30 bytes each. With so many of them, others would fail too.
_MOST_FAILED = 5_000


@dataclass(frozen=True)
class Shards:
    """What the sensor knows of a pipeline's shards.

    `order` are all partitions in Dagster's order; `versions` what the stale ones would be made
    from; `asked` the versions that were asked for already; `busy` those in some run's hands;
    `moving` those of which a file is still being written; `n_moving_files` counts also such files
    as have no shard yet.
    """

    order: Sequence[str]
    stale: Mapping[str, Stale]
    versions: Mapping[str, str]
    asked: Mapping[str, str]
    busy: AbstractSet[str]
    moving: AbstractSet[str]
    n_moving_files: int


@dataclass(frozen=True)
class DueRuns:
    """The ranges to run, what was asked for now or before and is still to be remembered, whether
    nothing is left to do until something changes, and that in words.
    """

    runs: list[list[str]]
    asked: dict[str, str]
    is_quiet: bool
    why: str


def still_asked(shards: Shards) -> dict[str, str]:
    """What was asked for and neither got up to date nor changed since."""
    return {s: version for s, version in shards.asked.items() if shards.versions.get(s) == version}


def due_runs(shards: Shards, shards_per_run: int, n_runs: int) -> DueRuns:
    """The runs to ask for while `n_runs` are in progress.

    Each state of a shard is asked for once: what failed or was cancelled waits until it changes, or
    until somebody runs it by hand. What only the settings made stale waits for a person.
    """
    asked = still_asked(shards)
    by_settings = {s for s, why in shards.stale.items() if why.by_settings}
    failed = asked.keys() - shards.busy - by_settings
    open_ = shards.stale.keys() - by_settings - asked.keys()
    wanted = open_ - shards.busy - shards.moving
    free = set(shards.order) - shards.stale.keys() - shards.busy - shards.moving
    room = max(0, _MOST_RUNS - n_runs) if len(failed) < _MOST_FAILED else 0
    runs = bridged_runs(wanted, free, shards.order, shards_per_run)[:room]
    new = {shard: shards.versions[shard] for run in runs for shard in run if shard in wanted}
    return DueRuns(
        runs=runs,
        asked=asked | new,
        is_quiet=not (open_ or shards.busy & shards.stale.keys() or shards.n_moving_files),
        why=_in_words(shards, failed, by_settings),
    )


def news_only(shards: Shards) -> DueRuns:
    """No runs: somebody else launches them. Remembers which changed shards were told of."""
    asked = still_asked(shards)
    changed = [s for s, why in shards.stale.items() if why.has_other_files and s not in asked]
    new = {shard: shards.versions[shard] for shard in changed[:_MOST_FAILED]}
    words = _in_words(shards, frozenset(), frozenset())
    return DueRuns([], asked | new, is_quiet=not new and not shards.n_moving_files, why=words)


def reasons(shards: Sequence[str], stale: Mapping[str, Stale]) -> str:
    """Why shards are run, such as "3 new, 1 max_tokens 256 -> 128"."""
    counted = Counter(stale[shard].reason for shard in shards if shard in stale)
    return ", ".join(f"{n} {reason}" for reason, n in counted.most_common())


def _in_words(shards: Shards, failed: AbstractSet[str], by_settings: AbstractSet[str]) -> str:
    busy = shards.stale.keys() & shards.busy
    told = [
        f"{len(busy)} in progress" if busy else "",
        f"{shards.n_moving_files} files are still being written" if shards.n_moving_files else "",
        f"{len(failed)} failed or were cancelled; they run again when they change, or by hand "
        f"({_some(failed)})"
        if failed
        else "",
        f"{len(by_settings)} are outdated by settings; run them by hand, or set automation: stale "
        f"({reasons(sorted(by_settings), shards.stale)})"
        if by_settings
        else "",
    ]
    said = "; ".join(part for part in told if part)
    return f"{len(shards.order)} shards: {said or 'all up to date'}"


def _some(shards: AbstractSet[str]) -> str:
    first = sorted(shards)[:3]
    return ", ".join(first) + (", ..." if len(shards) > len(first) else "")
