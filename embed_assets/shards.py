"""Source files -> shards: stable, append-only, deterministic. Pure: lists in, a plan out."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from embed_assets import rows
from embed_assets.checksums import with_checksums
from embed_assets.digests import digest_of
from embed_assets.renames import renamed

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NUMBERED_KEY = re.compile(r"shard-([0-9]+)")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as listed: its name in the corpus (posix), its size, and what changes with it.

    `modified_at` is in seconds since 1970, None for what is never written while it is read.
    """

    source: str
    n_bytes: int
    version: str
    modified_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file: bytes [start, end), or rows for Parquet. `n_bytes` is its size on disk."""

    source: str
    start: int
    end: int
    n_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """One row of the manifest: the shard that a piece belongs to."""

    shard: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The new manifest, sorted by shard, source and start, and what became of the shards.

    `added`, `changed` and `removed` are sorted keys; a shard in none of them stands as it was.
    `next_number` must be given to the next plan: it keeps a removed shard's key from coming back.
    """

    manifest: list[Assignment]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    next_number: int

    @property
    def has_changed(self) -> bool:
        """Whether the manifest is another one than before."""
        return bool(self.added or self.changed or self.removed)


def plan_shards(
    manifest: Iterable[Assignment],
    files: Iterable[SourceFile],
    split: Callable[[SourceFile], list[Piece]],
    shard_bytes: int,
    next_number: int = 0,
) -> ShardPlan:
    """Assign every piece of `files` to a shard, moving nothing that `manifest` already placed.

    A file that looks like one that is gone takes its place: it was renamed, and in its own shard
    none of its texts is embedded again.
    `split` cuts a file into pieces and is called only for new or changed files. The result does
    not depend on the order of `manifest` or `files`.
    """
    before = sorted(manifest, key=_manifest_order)
    kept, unplaced, touched = _keep(before, _sorted_unique(files), split)
    first_free = max([next_number, *(_number(row.shard) + 1 for row in before)])
    keys = _Keys(first_free)
    placed = _place(unplaced, _n_bytes_per_shard(kept), shard_bytes, keys)
    touched.update(row.shard for row in placed)

    after = sorted(kept + placed, key=_manifest_order)
    keys_before = {row.shard for row in before}
    keys_after = {row.shard for row in after}
    return ShardPlan(
        manifest=after,
        added=tuple(sorted(keys_after - keys_before)),
        changed=tuple(sorted(touched & keys_before & keys_after)),
        removed=tuple(sorted(keys_before - keys_after)),
        next_number=keys.next_number,
    )


def _keep(
    before: Sequence[Assignment],
    files: Sequence[SourceFile],
    split: Callable[[SourceFile], list[Piece]],
) -> tuple[list[Assignment], list[Piece], set[str]]:
    """What goes where a manifest has it, the pieces left to place, and the shards that change."""
    rows_of: dict[str, list[Assignment]] = defaultdict(list)
    for row in sorted(before, key=lambda row: row.piece.start):
        rows_of[row.piece.source].append(row)
    listed = {file.source for file in files}
    gone = [_as_listed(old) for source, old in rows_of.items() if source not in listed]
    places = renamed(gone, [file for file in files if file.source not in rows_of])

    kept: list[Assignment] = []
    unplaced: list[Piece] = []
    touched: set[str] = set()
    for file in files:
        old = rows_of.pop(places.get(file.source, file.source), [])
        if old and all(_is_of(row.piece, file) for row in old):
            kept += old
            continue
        pieces = split(file)
        if not pieces:
            raise ValueError(f"no piece came for {file.source!r}; every file needs at least one")
        # A changed or renamed file stays: its i-th new piece goes to the shard of its i-th old one.
        kept += [Assignment(row.shard, piece) for row, piece in zip(old, pieces, strict=False)]
        touched.update(row.shard for row in old)
        unplaced += pieces[len(old) :]
    touched.update(row.shard for deleted in rows_of.values() for row in deleted)
    return kept, unplaced, touched


def _as_listed(placed: Sequence[Assignment]) -> SourceFile:
    """The file whose pieces these are, as it was listed then."""
    first = placed[0].piece
    return SourceFile(first.source, sum(row.piece.n_bytes for row in placed), first.version)


def _is_of(piece: Piece, file: SourceFile) -> bool:
    return (piece.source, piece.version) == (file.source, file.version)


def shard_version(pieces: Iterable[Piece]) -> str:
    """Digest of what a shard is made from; the same for the same pieces in any order."""
    parts = sorted((p.source, p.start, p.end, p.version) for p in pieces)
    return digest_of(part for piece in parts for part in piece)


def check_key(shard: str) -> str:
    """The shard key itself, if it can stand in a Delta predicate as it is; else ValueError."""
    if not _KEY.fullmatch(shard):
        raise ValueError(
            f"shard key {shard!r} is not usable; expected 1 to 128 of A-Z a-z 0-9 _ -,"
            " the first a letter or digit"
        )
    return shard


def manifest_frame(manifest: Sequence[Assignment], corpus: str) -> pl.DataFrame:
    """The manifest of a corpus as a frame of schema `rows.SHARDS`, in the order given."""
    pieces = [row.piece for row in manifest]
    columns = {
        rows.SHARD: [row.shard for row in manifest],
        "source": [piece.source for piece in pieces],
        "start": [piece.start for piece in pieces],
        "end": [piece.end for piece in pieces],
        "n_bytes": [piece.n_bytes for piece in pieces],
        "version": [piece.version for piece in pieces],
        "corpus": [corpus] * len(pieces),
    }
    return with_checksums(pl.DataFrame(columns), rows.SHARDS)


def from_manifest(frame: pl.DataFrame) -> list[Assignment]:
    """The inverse of `manifest_frame`. Raises ValueError on a key that `check_key` refuses."""
    wanted = frame.select(rows.SHARD, "source", "start", "end", "n_bytes", "version")
    return [Assignment(check_key(shard), Piece(*piece)) for shard, *piece in wanted.iter_rows()]


class _Keys:
    """Hands out shard keys in ascending order, each once."""

    def __init__(self, next_number: int) -> None:
        self.next_number = next_number

    def new(self) -> str:
        key = f"shard-{self.next_number:06d}"
        self.next_number += 1
        return key


def _place(
    pieces: Sequence[Piece], n_bytes_per_shard: Counter[str], shard_bytes: int, keys: _Keys
) -> list[Assignment]:
    """New pieces in source order: big ones alone, small ones grouped next-fit.

    Next-fit and not best-fit: neighbours in a folder stay together, so one changed folder makes
    few shards stale. Room left behind is at most half a shard each, since a shard that is less
    than half full is filled again by a later plan.
    """
    room = _less_than_half_full(n_bytes_per_shard, shard_bytes)
    shard, used = "", 0
    placed = []
    for piece in pieces:
        if 2 * piece.n_bytes >= shard_bytes:
            placed.append(Assignment(keys.new(), piece))
            continue
        if not shard or used + piece.n_bytes > shard_bytes:
            shard, used = next(room, None) or (keys.new(), 0)
        placed.append(Assignment(shard, piece))
        used += piece.n_bytes
    return placed


def _less_than_half_full(
    n_bytes_per_shard: Counter[str], shard_bytes: int
) -> Iterator[tuple[str, int]]:
    """(key, bytes used) of the shards with room, the emptiest first."""
    by_size = sorted((n_bytes, shard) for shard, n_bytes in n_bytes_per_shard.items())
    return ((shard, n_bytes) for n_bytes, shard in by_size if 2 * n_bytes < shard_bytes)


def _n_bytes_per_shard(manifest: Iterable[Assignment]) -> Counter[str]:
    n_bytes: Counter[str] = Counter()
    for row in manifest:
        n_bytes[row.shard] += row.piece.n_bytes
    return n_bytes


def _sorted_unique(files: Iterable[SourceFile]) -> list[SourceFile]:
    ordered = sorted(files, key=lambda file: file.source)
    for one, other in pairwise(ordered):
        if one.source == other.source:
            raise ValueError(f"source {one.source!r} is listed twice; a listing names a file once")
    return ordered


def _manifest_order(row: Assignment) -> tuple[str, str, int]:
    return row.shard, row.piece.source, row.piece.start


def _number(shard: str) -> int:
    """The number of a key that was made here; -1 for any other key."""
    match = _NUMBERED_KEY.fullmatch(shard)
    return int(match[1]) if match else -1
