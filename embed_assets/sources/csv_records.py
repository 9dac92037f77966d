"""Records of a CSV stream with their byte offsets, and where a big file may be cut between them.

Quoting as in RFC 4180: a newline within quotes belongs to its field. Python's csv module parses;
this file feeds it bounded lines, because one unclosed quote turns the rest of a file into a field.
"""

import codecs
import csv
import io
from collections.abc import Iterable, Iterator

from embed_assets.sources.refusal import Refusal, TooMuch

_BLOCK_BYTES = 1 << 20
# The csv module's own limit is one for the whole process; ours comes from the settings.
_NO_FIELD_LIMIT = 2**31 - 1


def csv_records(
    stream: io.BufferedIOBase, delimiter: str, start: int, end: int, max_bytes: int
) -> Iterator[tuple[int, list[str] | Refusal]]:
    """(byte offset, fields) of the records in [start, end), or why one could not be parsed.

    `stream` stands at `start`, where a record begins. Blank lines are passed over. Raises what
    the stream raises.
    """
    csv.field_size_limit(_NO_FIELD_LIMIT)
    lines = _Lines(stream, start, end, max_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        position = lines.begin_record()
        try:
            fields = next(reader)
            if fields:
                _check_utf8(fields)
                yield position, fields
        except StopIteration:
            return
        except csv.Error as error:
            yield position, Refusal("invalid CSV", str(error))
        except TooMuch:
            raise
        except Refusal as refusal:
            yield position, refusal


def record_starts(stream: io.BufferedIOBase, ideal: Iterable[int]) -> list[int]:
    """For each ideal cut the first record start at or after it, in one pass from the beginning.

    A newline ends a record where the number of quotes before it is even; counting them block by
    block runs at about the speed of the disk.
    """
    starts: list[int] = []
    offset, quoted = 0, False
    wanted = iter(ideal)
    target = next(wanted, None)
    while target is not None and (block := stream.read(_BLOCK_BYTES)):
        at = 0
        while target is not None and at < len(block):
            # One byte before the target: a newline there makes the target itself a start.
            near = min(max(target - 1 - offset, at), len(block))
            quoted ^= block.count(b'"', at, near) % 2 == 1
            at, quoted, found = _next_record(block, near, quoted)
            if found:
                starts.append(offset + at)
                while target is not None and target <= offset + at:
                    target = next(wanted, None)
        offset += len(block)
    return starts


def _next_record(block: bytes, at: int, quoted: bool) -> tuple[int, bool, bool]:
    """From `at` past the newline that ends a record: (offset, still quoted, whether found)."""
    while at < len(block):
        quote = block.find(b'"', at)
        if not quoted:
            newline = block.find(b"\n", at, len(block) if quote < 0 else quote)
            if newline >= 0:
                return newline + 1, False, True
        if quote < 0:
            break
        at, quoted = quote + 1, not quoted
    return len(block), quoted, False


def _check_utf8(fields: list[str]) -> None:
    try:
        "".join(fields).encode("utf-8")
    except UnicodeEncodeError as error:
        # "surrogateescape" turned byte 0xNN into U+DCNN.
        byte = ord(error.object[error.start]) - 0xDC00
        raise Refusal("not UTF-8", f"byte 0x{byte:02x} in the record") from None


class _Lines:
    """The lines that the csv module asks for, counted, and never more of a record than allowed.

    An iterator and not a generator: the reader goes on after a Refusal.
    """

    def __init__(self, stream: io.BufferedIOBase, start: int, end: int, max_bytes: int) -> None:
        self._stream = stream
        self._position = start
        self._end = end
        self._max_bytes = max_bytes
        self._record_start = start
        self._n_quotes = 0

    def begin_record(self) -> int:
        """Starts counting anew; returns the byte offset of the record that comes."""
        self._record_start = self._position
        self._n_quotes = 0
        return self._position

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        room = self._record_start + self._max_bytes - self._position
        position = self._position
        line = self._read(room + 1)
        if not line:
            raise StopIteration
        if len(line) > room:
            self._skip_record(line)
            raise Refusal("record too long", "longer than max_document_bytes")
        return _decoded_line(line, position)

    def _read(self, n_bytes: int) -> bytes:
        line = self._stream.readline(n_bytes) if self._position < self._end else b""
        self._position += len(line)
        self._n_quotes += line.count(b'"')
        return line

    def _skip_record(self, line: bytes) -> None:
        while line and (self._n_quotes % 2 or not line.endswith(b"\n")):
            line = self._read(_BLOCK_BYTES)


def _decoded_line(line: bytes, position: int) -> str:
    """A bad byte survives as a lone surrogate until its record is complete: see `_check_utf8`."""
    body = line.removeprefix(codecs.BOM_UTF8) if position == 0 else line
    return body.decode("utf-8", "surrogateescape")
