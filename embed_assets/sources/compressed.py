"""Open a plain, gzip or zstd file as one stream of decompressed bytes.

A 4 MB file may hold 4 GB: nothing here ever decompresses more than the caller asks for, plus one
buffer. Truncated and corrupt streams are told apart from a file that simply ends.
"""

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from embed_assets.sources.refusal import Refusal, TooMuch

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What may stand after a format's own suffix.
COMPRESSIONS = (".gz", ".zst")

_BLOCK_BYTES = 1 << 20

# zstd packs 128 KiB of equal bytes into 4, so 1 KiB of input gives at most 32 MiB at once.
_ZSTD_INPUT_BYTES = 1 << 10


@contextmanager
def opened(path: Path, max_decompressed_bytes: int = sys.maxsize) -> Iterator[io.BufferedIOBase]:
    """The file's decompressed bytes. Raises Refusal, also while being read within the `with`;
    TooMuch where a compressed file gives more than `max_decompressed_bytes`.
    """
    try:
        with ExitStack() as stack:
            yield _stream(path, max_decompressed_bytes, stack)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise Refusal("corrupt compression", str(error)) from error
    except OSError as error:
        raise Refusal("unreadable file", error.strerror or type(error).__name__) from error


def is_compressed(name: str) -> bool:
    """Whether a file of this name cannot be read from the middle."""
    return name.lower().endswith(COMPRESSIONS)


def read_all(stream: io.BufferedIOBase, max_bytes: int) -> bytes:
    """All bytes of the stream. Raises Refusal where there are more than `max_bytes`."""
    blocks: list[bytes] = []
    n_bytes = 0
    while block := stream.read(_BLOCK_BYTES):
        n_bytes += len(block)
        if n_bytes > max_bytes:
            raise Refusal("document too large", f"more than max_document_bytes, {max_bytes}")
        blocks.append(block)
    return b"".join(blocks)


def _stream(path: Path, max_bytes: int, stack: ExitStack) -> io.BufferedIOBase:
    raw = stack.enter_context(_opened_regular(path))
    if not is_compressed(path.name):
        return raw
    is_gzip = path.name.lower().endswith(".gz")
    unpacked = gzip.GzipFile(fileobj=raw) if is_gzip else io.BufferedReader(_ZstdStream(raw))
    limited = _Limited(stack.enter_context(unpacked), max_bytes)
    return stack.enter_context(io.BufferedReader(limited))


def _opened_regular(path: Path) -> io.BufferedReader:
    # What was a file when the corpus was listed may be a pipe by now, which nobody ever writes to.
    raw = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        raise Refusal("not a regular file", "only regular files are opened")
    return raw


class _Limited(io.RawIOBase):
    """The bytes of a decompressed stream; TooMuch where there are more than allowed.

    Counted here and not by whoever reads lines: a line that is passed over counts too.
    """

    def __init__(self, unpacked: io.BufferedIOBase, max_bytes: int) -> None:
        self._unpacked = unpacked
        self._max_bytes = max_bytes
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._n_bytes

    def readinto(self, buffer: "WriteableBuffer") -> int:
        # Not readinto: that wants the buffer full, and loses what stands before a break.
        n_bytes = self._unpacked.readinto1(buffer)
        self._n_bytes += n_bytes
        if self._n_bytes > self._max_bytes:
            raise TooMuch(
                "unpacks to too much", f"more than max_decompressed_bytes, {self._max_bytes}"
            )
        return n_bytes


class _ZstdStream(io.RawIOBase):
    """Decompressed bytes of all frames of a zstd file; EOFError where the last one is cut short.

    zstandard's own `stream_reader` takes a truncated file for a complete one.
    """

    def __init__(self, compressed: io.BufferedIOBase) -> None:
        self._compressed = compressed
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._within_frame = False
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        while not self._output:
            if not (piece := self._next_input()):
                return 0
            self._output = memoryview(self._frame.decompress(piece))
            self._within_frame = not self._frame.eof
        n_bytes = min(len(target), len(self._output))
        target[:n_bytes] = self._output[:n_bytes]
        self._output = self._output[n_bytes:]
        return n_bytes

    def _next_input(self) -> bytes:
        piece = b""
        if self._frame.eof:
            piece = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        piece = piece or self._compressed.read(_ZSTD_INPUT_BYTES)
        if not piece and self._within_frame:
            raise EOFError("the file ends within a zstd frame")
        return piece
