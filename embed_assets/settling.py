"""Which files of a listing stand still. Pure: what was seen before and what is there now.

A file that is still being written is not planned in: what stands for it stays, until two looks
find it the same or nobody has written to it for a while.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from embed_assets.digests import digest, digest_of
from embed_assets.shards import SourceFile

# Files remembered from one look to the next, 30 bytes each. Of more only a digest is kept: they
# wait until all of them stand still, or until their modification times are old enough.
_MOST_REMEMBERED = 1000
# A log that never stands still must not hold back the other files of its shard for ever.
_LONGEST_WAIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Seen:
    """New and changed files as the last look saw them: short digest of the name -> (short digest
    of the version, when it was first found moving, in seconds since 1970).
    """

    files: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    others: str = ""
    looked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """A listing to plan from, the names of the files that are left as they were, and what to
    remember for the next look.
    """

    files: list[SourceFile]
    moving: frozenset[str]
    seen: Seen


def settle(
    files: Sequence[SourceFile],
    placed: Mapping[str, str],
    seen: Seen,
    now: float,
    settle_seconds: float,
) -> Settled:
    """Tell files that stand still from files that move. `placed` is name -> version as planned.

    A moving file that is placed is given as it was placed, a moving new one is left out. A file
    that nobody has seen before stands still if it was last written `settle_seconds` ago; one that
    the last look saw, if it has not changed since. Where clocks differ, a time in the future waits
    for the second look and no longer. A file that is gone is gone at once. 0 seconds hold nothing
    back.
    """
    fresh = [file for file in files if placed.get(file.source) != file.version]
    others = digest_of(part for file in fresh for part in (file.source, file.version))
    all_stand = others == seen.others and now - seen.looked_at >= settle_seconds
    since: dict[str, float] = {}
    for file in fresh:
        began = _moving_since(file, seen, now, settle_seconds) if settle_seconds else None
        if began is not None and not all_stand and now - began < _LONGEST_WAIT_SECONDS:
            since[file.source] = began
    return Settled(
        files=list(_as_planned(files, placed, since)),
        moving=frozenset(since),
        seen=Seen(dict(_remembered(fresh, since, now)), others if fresh else "", now),
    )


def _moving_since(file: SourceFile, seen: Seen, now: float, settle_seconds: float) -> float | None:
    """When a file was first found moving; None if it stands still."""
    known = seen.files.get(_short(file.source))
    if known is None:
        is_old = file.modified_at is None or now - file.modified_at >= settle_seconds
        return None if is_old else now
    version, began = known
    stands = version == _short(file.version)
    return None if stands and now - seen.looked_at >= settle_seconds else began


def _as_planned(
    files: Iterable[SourceFile], placed: Mapping[str, str], moving: Mapping[str, float]
) -> Iterator[SourceFile]:
    for file in files:
        if file.source not in moving:
            yield file
        elif file.source in placed:
            yield replace(file, version=placed[file.source])


def _remembered(
    fresh: Sequence[SourceFile], since: Mapping[str, float], now: float
) -> Iterator[tuple[str, tuple[str, float]]]:
    """What to remember of each file, those that move first.

    Also of those taken just now: if they change again, their clock is not ours and they are moving.
    """
    ordered = sorted(fresh, key=lambda file: (file.source not in since, file.source))
    for file in ordered[:_MOST_REMEMBERED]:
        yield _short(file.source), (_short(file.version), since.get(file.source, now))


def _short(text: str) -> str:
    return digest(text)[:10]
