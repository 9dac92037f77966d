"""CSV and TSV: a header, then one document per record; big files are cut between records."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from embed_assets.settings import PipelineSettings
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.byte_ranges import cut_at_records
from embed_assets.sources.compressed import is_compressed, opened
from embed_assets.sources.csv_records import csv_records, record_starts
from embed_assets.sources.document_builder import DocumentBuilder
from embed_assets.sources.refusal import Refusal
from embed_assets.sources.source import Document, Rejection


class CsvFormat:
    """One document per record. Its position is a byte offset in the decompressed file."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def pieces(self, path: Path, file: SourceFile, shard_bytes: int) -> list[Piece]:
        """Byte ranges that begin at records; one piece for a compressed or unreadable file."""
        return cut_at_records(path, file, shard_bytes, record_starts)

    def read(
        self, path: Path, piece: Piece, settings: PipelineSettings
    ) -> Iterator[Document | Rejection]:
        """A document or a rejection per record. Raises Refusal for the file."""
        builder = DocumentBuilder(piece.source, settings)
        end = sys.maxsize if is_compressed(path.name) else piece.end
        with opened(path, settings.max_decompressed_bytes) as stream:
            records = self._records(stream, 0, end, settings)
            header = _header(records)
            if header is None:
                return
            builder.check_columns(header)
            if piece.start:
                stream.seek(piece.start)
                records = self._records(stream, piece.start, end, settings)
            for position, fields in records:
                if isinstance(fields, Refusal):
                    yield fields.at(piece.source, position)
                elif len(fields) != len(header):
                    detail = f"{len(fields)} fields where the header has {len(header)}"
                    yield Rejection(piece.source, position, "wrong number of fields", detail)
                else:
                    yield builder.build(dict(zip(header, fields, strict=True)), position)

    def _records(
        self, stream: io.BufferedIOBase, start: int, end: int, settings: PipelineSettings
    ) -> Iterator[tuple[int, list[str] | Refusal]]:
        return csv_records(stream, self._delimiter, start, end, settings.max_document_bytes)


def _header(records: Iterator[tuple[int, list[str] | Refusal]]) -> list[str] | None:
    """The column names, or None for an empty file. Raises Refusal where they cannot be parsed."""
    _, header = next(records, (0, None))
    if isinstance(header, Refusal):
        raise header
    return header
