"""Which new files are files that are gone, under another name. Pure: a guess from names and sizes.

The guess decides only in which shard a file is placed, where its vectors may be found again by
text: a wrong one costs embedding and nothing else.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Protocol


class NamedFile(Protocol):
    """What is known of a file without reading it."""

    @property
    def source(self) -> str:
        """Its name in the corpus (posix)."""
        ...

    @property
    def n_bytes(self) -> int:
        """Its size."""
        ...

    @property
    def version(self) -> str:
        """Size and modification time."""
        ...


def renamed(gone: Iterable[NamedFile], new: Iterable[NamedFile]) -> dict[str, str]:
    """New source -> the source that is gone whose place it takes; each of both at most once.

    The same version is what `mv` leaves, the same size what copying and deleting leaves, or git.
    Of several candidates the one with the same base name is taken, then the first. The order of
    `gone` and `new` does not matter.
    """
    left_gone = sorted(gone, key=attrgetter("source"))
    left_new = sorted(new, key=attrgetter("source"))
    found: dict[str, str] = {}
    for likeness in _LIKENESSES:
        found |= _paired(left_gone, left_new, likeness)
        taken = set(found.values())
        left_gone = [file for file in left_gone if file.source not in taken]
        left_new = [file for file in left_new if file.source not in found]
    return found


_Likeness = Callable[[NamedFile], tuple[object, ...]]


def _base_name(file: NamedFile) -> str:
    return file.source.rpartition("/")[2]


# The surest first.
_LIKENESSES: tuple[_Likeness, ...] = (
    lambda file: (file.version, _base_name(file)),
    lambda file: (file.version,),
    lambda file: (file.n_bytes, _base_name(file)),
    lambda file: (file.n_bytes,),
)


def _paired(
    gone: Iterable[NamedFile], new: Iterable[NamedFile], likeness: _Likeness
) -> dict[str, str]:
    """The pairs of equal likeness, in the order given."""
    candidates: dict[tuple[object, ...], deque[str]] = defaultdict(deque)
    for file in gone:
        candidates[likeness(file)].append(file.source)
    return {
        file.source: candidates[likeness(file)].popleft()
        for file in new
        if candidates[likeness(file)]
    }
