"""JSONL: one JSON object per line; big files are cut at line starts and read as streams."""

import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import cut_at_records
from embed_assets.sources.compressed import is_compressed, opened
from embed_assets.sources.decoding import decoded
from embed_assets.sources.document_builder import DocumentBuilder
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection

# A line that is skipped is read in parts of this size, never as a whole.
_SKIP_BYTES = 1 << 16


class JsonLinesFormat:
    """One document per line. Its position is the line's byte offset in the decompressed file."""

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """Byte ranges that begin at line starts; one piece for a compressed or unreadable file."""
        return cut_at_records(path, file, shard_bytes, _line_starts)

    def read(
        self, path: Path, piece: Piece, settings: PipelineSettings
    ) -> Iterator[Document | Rejection]:
        """A document or a rejection per line that is not blank. Raises Refusal for the file."""
        builder = DocumentBuilder(piece.source, settings)
        with opened(path, settings.max_decompressed_bytes) as stream:
            start, end = (0, sys.maxsize) if is_compressed(path.name) else (piece.start, piece.end)
            if start:
                stream.seek(start)
            for position, line in _lines(stream, start, end, settings.max_document_bytes):
                try:
                    record = _record(line, position)
                except Refusal as refusal:
                    yield refusal.at(piece.source, position)
                    continue
                if record is not None:
                    yield builder.build(record, position)


def _line_starts(stream: io.BufferedIOBase, ideal: Iterable[int]) -> Iterator[int]:
    """For each ideal cut the first line start at or after it."""
    start = 0
    for target in ideal:
        if start < target:
            # One byte earlier: if that is a newline, the target itself is a line start.
            stream.seek(target - 1)
            _skip_line(stream)
            start = stream.tell()
        yield start


def _skip_line(stream: io.BufferedIOBase) -> int:
    """Moves past the next newline and returns the number of bytes passed."""
    n_bytes = 0
    while part := stream.readline(_SKIP_BYTES):
        n_bytes += len(part)
        if part.endswith(b"\n"):
            break
    return n_bytes


def _lines(
    stream: io.BufferedIOBase, start: int, end: int, max_bytes: int
) -> Iterator[tuple[int, bytes | None]]:
    """(position, line) of the lines that begin in [start, end); None for one that is too long."""
    position = start
    while position < end and (line := stream.readline(max_bytes + 1)):
        n_bytes = len(line)
        if n_bytes > max_bytes and not line.endswith(b"\n"):
            del line
            n_bytes += _skip_line(stream)
            yield position, None
        else:
            yield position, line
        position += n_bytes


def _record(line: bytes | None, position: int) -> dict[str, object] | None:
    """The object on a line, None for a blank line. Raises Refusal for anything else."""
    if line is None:
        raise Refusal("line too long", "longer than max_document_bytes")
    text = decoded(line, position)
    if not text.strip():
        return None
    try:
        # NaN and Infinity are not JSON, but common; they become null.
        record = json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise Refusal(
            "invalid JSON", f"{error.msg.removesuffix(' at')} at character {error.pos} of the line"
        ) from None
    except RecursionError:
        raise Refusal("nested too deeply", "more levels than Python's JSON reader takes") from None
    except ValueError:
        # Python refuses integers of more than 4300 digits with an error that quotes no position.
        raise Refusal("invalid JSON", "a number with too many digits") from None
    if not isinstance(record, dict):
        raise Refusal(
            "no text column", f"the line is of type {type(record).__name__}, not an object"
        )
    return record
