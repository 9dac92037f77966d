"""The chunks of a shard's documents, made on a few threads in groups of bounded size."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl

from embed_assets.chunking.token_windows import Chunk, TokenWindows
from embed_assets.frames import ChunkedDocument

# Characters chunked in one call: enough for words to repeat, little enough that what is made
# besides the chunks never stands in memory for a whole shard.
_CHARS_PER_CALL = 2_000_000

# (doc_id, source, text) of some documents.
_Group = list[tuple[str, str, str]]


def chunked_documents(
    documents: pl.DataFrame, chunker: TokenWindows, n_threads: int
) -> Iterator[ChunkedDocument]:
    """The chunks of each document (doc_id, source, text), in order.

    Tokenized ahead of whoever makes rows of them: nearly all of it is library code that lets other
    threads run.
    """
    with ThreadPoolExecutor(n_threads, "chunking") as pool:
        ahead: deque[tuple[_Group, Future[list[list[Chunk]]]]] = deque()
        for group in _groups(documents):
            ahead.append((group, pool.submit(chunker.chunk, [text for _, _, text in group])))
            if len(ahead) > n_threads:
                yield from _with_chunks(*ahead.popleft())
        while ahead:
            yield from _with_chunks(*ahead.popleft())


def _groups(documents: pl.DataFrame) -> Iterator[_Group]:
    """The documents in groups of about _CHARS_PER_CALL characters."""
    group: _Group = []
    n_chars = 0
    for row in documents.select("doc_id", "source", "text").iter_rows():
        group.append(row)
        n_chars += len(row[2])
        if n_chars >= _CHARS_PER_CALL:
            yield group
            group, n_chars = [], 0
    if group:
        yield group


def _with_chunks(group: _Group, chunks: Future[list[list[Chunk]]]) -> Iterator[ChunkedDocument]:
    for (doc_id, source, text), found in zip(group, chunks.result(), strict=True):
        yield doc_id, source, text, found
