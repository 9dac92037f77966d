"""Which file names can be read, and by what. A new format is one new file and one line here."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.compressed import COMPRESSIONS
from embed_assets.sources.csv_files import CsvFormat
from embed_assets.sources.jsonl import JsonLinesFormat
from embed_assets.sources.parquet import ParquetFormat
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection
from embed_assets.sources.text_files import TextFormat

_PLAIN = re.compile(r"[.\w+~-]{1,30}|\(no suffix\)", re.ASCII)


class Format(Protocol):
    """A kind of file. `path` is where `file` or `piece.source` stands on this machine."""

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """The file cut into pieces of about `shard_bytes`, at least one. Never raises."""
        ...

    def read(
        self, path: Path, piece: Piece, settings: PipelineSettings
    ) -> Iterator[Document | Rejection]:
        """What is in a piece, in order; nothing if it holds no record. Raises Refusal, at any
        point, where the rest of the piece cannot be read.
        """
        ...


_STREAMED: dict[str, Format] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), TextFormat()),
    **dict.fromkeys((".jsonl", ".ndjson"), JsonLinesFormat()),
    ".csv": CsvFormat(","),
    ".tsv": CsvFormat("\t"),
}

#: By suffix, lower case.
FORMATS: dict[str, Format] = {
    **_STREAMED,
    **{suffix + packed: form for suffix, form in _STREAMED.items() for packed in COMPRESSIONS},
    ".parquet": ParquetFormat(),
}


def format_of(name: str) -> Format:
    """What reads a file of this name. Raises Refusal for an unknown type."""
    suffix = suffix_of(name)
    if suffix not in FORMATS:
        raise Refusal("unknown file type", f"{suffix}; readable types: {', '.join(FORMATS)}")
    return FORMATS[suffix]


def suffix_of(name: str) -> str:
    """A file name's type in lower case, `.gz` and `.zst` together with what they pack.

    Of letters, digits and the like alone: messages and the UI show it.
    """
    # By hand: pathlib took a third of the time of listing 100,000 files.
    base = name.lower().rpartition("/")[2]
    suffixes = [] if base.endswith(".") else [f".{s}" for s in base.lstrip(".").split(".")[1:]]
    n_parts = 2 if suffixes and suffixes[-1] in COMPRESSIONS else 1
    suffix = "".join(suffixes[-n_parts:]) or "(no suffix)"
    return suffix if _PLAIN.fullmatch(suffix) else "(odd suffix)"
