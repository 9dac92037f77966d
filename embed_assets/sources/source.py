"""What a corpus looks like to the pipeline: files to list, pieces to read, documents to get."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from embed_assets.shards import Piece, SourceFile


@dataclass(frozen=True, slots=True)
class Document:
    """One text to embed. `text` is valid Unicode: no lone surrogates, no byte order mark."""

    doc_id: str
    source: str
    title: str
    text: str
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One file or record that could not become a document, and why.

    `position` is where in the file: a byte offset, or a row number for Parquet. `reason` is a
    short fixed phrase to group by, `detail` says more; neither quotes corpus text.
    """

    source: str
    position: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a corpus, sorted by source, and what was passed over: a count per file type."""

    files: list[SourceFile]
    skipped: Counter[str]


class Source(Protocol):
    """A corpus. Implementations: `FolderSource` (files in known formats), `PythonDocsSource`."""

    def files(self) -> Listing:
        """Every file of the corpus. Reads no file's content. Raises InputError if it is missing."""
        ...

    def pieces(self, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """A file cut into pieces of about `shard_bytes`; one piece where it cannot be cut."""
        ...

    def read(self, piece: Piece) -> Iterator[Document | Rejection]:
        """The documents of a piece in order. Broken content yields a Rejection, never raises.

        Raises RuntimeError if somebody kills the process that reads Parquet: the shard fails then.
        """
        ...
