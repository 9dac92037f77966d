"""Which runs the sensor asks for now. Pure: what is stale, in work and asked for already in,
ranges of shards out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from embed_assets.orchestration.partitions import bridged_runs
from embed_assets.orchestration.sensor_cursor import Asked
from embed_assets.staleness import STAGES, Stale
from embed_assets.wording import counted

# Runs that may be queued or going on at once. The rest of a backlog follows as they end: a queue of
# thousands would hide what a person wants to run, and asking for it would take the daemon an hour.
_MOST_RUNS = 50
# Failed shards that are remembered, 35 bytes each. With so many of them, others would fail too.
_MOST_FAILED = 5_000


@dataclass(frozen=True)
class Shards:
    """What the sensor knows of a pipeline's shards.

    `order` are all partitions in Dagster's order; `versions` what the stale ones would be made
    from; `asked` what was asked for already; `busy` those in some run's hands; `moving` those of
    which a file is still being written; `n_moving_files` counts also such files as have no shard
    yet. `stopped` are those of `held_back` whose last run was cancelled, or failed because of them.
    """

    order: Sequence[str]
    stale: Mapping[str, Stale]
    versions: Mapping[str, str]
    asked: Mapping[str, Asked]
    busy: AbstractSet[str]
    moving: AbstractSet[str]
    n_moving_files: int
    stopped: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class DueRuns:
    """The ranges to run, what was asked for now or before and is still to be remembered, whether
    nothing is left to do until something changes, and that in words.
    """

    runs: list[list[str]]
    asked: dict[str, Asked]
    is_quiet: bool
    why: str


def still_asked(shards: Shards) -> dict[str, Asked]:
    """What was asked for and neither got up to date nor changed since."""
    return {s: was for s, was in shards.asked.items() if shards.versions.get(s) == was.version}


def held_back(shards: Shards) -> set[str]:
    """The shards that have come further since they were asked for, and that nobody works on.

    Their run ended before its last stage: Dagster skips the stages behind one in which any shard
    of a run fails.
    """
    idle = still_asked(shards).keys() - shards.busy - _by_settings(shards)
    return {s for s in idle if shards.stale[s].n_standing > shards.asked[s].n_standing}


def due_runs(shards: Shards, shards_per_run: int, n_runs: int) -> DueRuns:
    """The runs to ask for while `n_runs` are in progress.

    Each state of a shard is asked for once, and again where it was held back. What failed or was
    cancelled waits until it changes, or until somebody runs it by hand. What only the settings made
    stale waits for a person.
    """
    asked = still_asked(shards)
    by_settings = _by_settings(shards)
    held = held_back(shards) - shards.stopped
    failed = asked.keys() - shards.busy - by_settings - held
    open_ = shards.stale.keys() - by_settings - asked.keys()
    free = set(shards.order) - shards.stale.keys() - shards.busy - shards.moving
    # Shards of one stage to a run: one that fails there holds back only such as have passed it,
    # and so are seen to have come further. What was held back is finished first, and goes over no
    # other shard: that may be the one it was held back by, whose rows are damaged.
    runs = [
        run
        for wanted, between in ((held, frozenset()), (open_, free))
        for alike in _by_stage(wanted - shards.busy - shards.moving, shards.stale).values()
        for run in bridged_runs(alike, between, shards.order, shards_per_run)
    ]
    room = max(0, _MOST_RUNS - n_runs) if len(failed) < _MOST_FAILED else 0
    new = {shard for run in runs[:room] for shard in run} - free
    return DueRuns(
        runs=runs[:room],
        # What was stopped is noted where it stands now, and so not looked up again.
        asked=asked | _as_asked_for_now(new | shards.stopped, shards),
        is_quiet=not (open_ or held or shards.busy & shards.stale.keys() or shards.n_moving_files),
        why=_in_words(shards, failed, by_settings),
    )


def news_only(shards: Shards) -> DueRuns:
    """No runs: somebody else launches them. Remembers which changed shards were told of."""
    asked = still_asked(shards)
    changed = [s for s, why in shards.stale.items() if why.has_other_files and s not in asked]
    new = _as_asked_for_now(changed[:_MOST_FAILED], shards)
    words = _in_words(shards, frozenset(), frozenset(), shards.stale.keys() - shards.busy)
    return DueRuns([], asked | new, is_quiet=not new and not shards.n_moving_files, why=words)


def _by_settings(shards: Shards) -> set[str]:
    return {s for s, why in shards.stale.items() if why.by_settings}


def _by_stage(which: AbstractSet[str], stale: Mapping[str, Stale]) -> dict[str, set[str]]:
    """Shards by the stage that they wait at, in the order of the flow; no stage without any."""
    at = {stage: {s for s in which if stale[s].stage == stage} for stage in STAGES}
    return {stage: some for stage, some in at.items() if some}


def _as_asked_for_now(which: Iterable[str], shards: Shards) -> dict[str, Asked]:
    return {s: Asked(shards.versions[s], shards.stale[s].n_standing) for s in which}


def reasons(shards: Sequence[str], stale: Mapping[str, Stale]) -> str:
    """Why shards are run, such as "3 new, 1 max_tokens 256 -> 128"."""
    counts = Counter(stale[shard].reason for shard in shards if shard in stale)
    return ", ".join(f"{n} {reason}" for reason, n in counts.most_common())


def _in_words(
    shards: Shards,
    failed: AbstractSet[str],
    by_settings: AbstractSet[str],
    outdated: AbstractSet[str] = frozenset(),
) -> str:
    busy = shards.stale.keys() & shards.busy
    failed_in = [
        f"{len(some)} failed or were cancelled in {stage} ({_some(some)})"
        for stage, some in _by_stage(failed, shards.stale).items()
    ]
    told = [
        f"{len(busy)} in progress" if busy else "",
        f"{counted(shards.n_moving_files, 'file')} still being written"
        if shards.n_moving_files
        else "",
        f"{len(outdated)} outdated ({reasons(sorted(outdated), shards.stale)})" if outdated else "",
        f"{', '.join(failed_in)}; they run again when they change, or by hand" if failed else "",
        f"{len(by_settings)} are outdated by settings; run them by hand, or set automation: stale "
        f"({reasons(sorted(by_settings), shards.stale)})"
        if by_settings
        else "",
    ]
    said = "; ".join(part for part in told if part)
    return f"{counted(len(shards.order), 'shard')}: {said or 'all up to date'}"


def _some(shards: AbstractSet[str]) -> str:
    first = sorted(shards)[:3]
    return ", ".join(first) + (", ..." if len(shards) > len(first) else "")
