"""Cut documents into token windows at the best boundary available, and tokenize them only once.

Each document is tokenized in one pass with character offsets; windows of tokens then become
chunks, and their ids are slices of that pass. For a family whose pieces depend on context
(SentencePiece, byte-level BPE), or where a cut falls inside a word, the chunk's own text is
tokenized instead, so that the ids are always those that the model itself would make of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.document_tokens import DocumentTokens
from embed_assets.chunking.tokenization import Tokenization
from embed_assets.chunking.window_spans import window_spans
from embed_assets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# One chunk in so many is tokenized again by itself, to prove that slicing is exact.
_PROOF_EVERY = 128


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]` of a document, and what the model reads for it: int32 (n_tokens,)."""

    start: int
    end: int
    token_ids: NDArray[np.int32]


# A chunk in the making: start, end, and its ids where a slice of the document's ids will do.
_Window = tuple[int, int, NDArray[np.int32] | None]


class TokenWindows:
    """Chunks of at most `max_tokens` tokens, special tokens and prompt included.

    Every non-blank character of a document stands in at least one chunk, unless the model reads
    nothing at all there. Time is linear in the length of the text. A single character of more
    tokens than there is room for is the one thing that can be over the limit.
    """

    def __init__(
        self, tokenizer: "Tokenizer", max_tokens: int, overlap: int = 0, prompt: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = overlap
        self._prompt = prompt
        self._tokenization = Tokenization(tokenizer, prompt)
        self._prefix, self._suffix = _frame(tokenizer, prompt)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 4 or overlap >= self._room:
            raise InputError(
                f"max_tokens {max_tokens} leaves room for {self._room} tokens of text beside the "
                f"prompt and special tokens, with an overlap of {overlap}; raise max_tokens or "
                "lower the overlap"
            )

    def chunk(self, texts: Sequence[str]) -> list[list[Chunk]]:
        """The chunks of each text, in order. A blank text has none."""
        way = self._tokenization.way
        documents = way.tokenize(texts)
        if documents is not None:
            windows = [
                list(self._windows(text, document, way.slices))
                for text, document in zip(texts, documents, strict=True)
            ]
            if not way.slices or self._slicing_holds(texts, windows):
                return self._completed(texts, windows)
        self._tokenization.doubt(way)
        return self.chunk(texts)

    def _windows(self, text: str, tokens: DocumentTokens, slices: bool) -> Iterator[_Window]:
        """Windows of one document; without ids where they must come from the chunk's own text."""
        n = len(tokens.ids)
        # Tokens to leave free where a chunk's own text can give a few more than were counted.
        slack = 0 if slices else min(1 + self._room // 32, self._room - self._overlap - 1)
        for first, stop in window_spans(tokens, self._room, self._overlap, slack):
            start = 0 if first == 0 else int(tokens.starts[first])
            end = len(text) if stop == n else int(tokens.starts[stop])
            # Blank edges belong to no chunk.
            start, end = _stripped(text, start, end)
            if start >= end:
                continue
            whole = slices and (first == 0 or tokens.words[first])
            whole = whole and (stop == n or tokens.words[stop])
            yield start, end, self._framed(tokens.ids[first:stop]) if whole else None

    def _framed(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.concatenate((self._prefix, ids, self._suffix))

    def _encode(self, text: str) -> NDArray[np.int32]:
        """What the model makes of a chunk's text by itself, prompt and special tokens included."""
        return np.array(self._tokenizer.encode(self._prompt + text).ids, dtype=np.int32)

    def _fitting(self, text: str, start: int, end: int, ids: NDArray[np.int32]) -> list[Chunk]:
        """Chunks for text[start:end], whose own ids are given, split while it is over the limit.

        A cut inside a word, or a family whose tokens depend on what stands before, can make a
        few tokens more than the pass over the whole document counted.
        """
        if len(ids) <= self._max_tokens or end - start == 1:
            return [Chunk(start, end, ids)] if len(ids) else []
        middle = _split_point(text, start, end)
        return [
            chunk
            for low, high in (_stripped(text, start, middle), _stripped(text, middle, end))
            if low < high
            for chunk in self._fitting(text, low, high, self._encode(text[low:high]))
        ]

    def _slicing_holds(self, texts: Sequence[str], windows: Sequence[list[_Window]]) -> bool:
        """Whether a sample of the slices is what the chunks' own texts give."""
        sliced = [
            (text, start, end, ids)
            for text, spans in zip(texts, windows, strict=True)
            for start, end, ids in spans
            if ids is not None
        ]
        proved = [(text[start:end], ids) for text, start, end, ids in sliced[::_PROOF_EVERY]]
        own = self._tokenizer.encode_batch_fast([self._prompt + text for text, _ in proved])
        return all(
            np.array_equal(encoding.ids, ids)
            for encoding, (_, ids) in zip(own, proved, strict=True)
        )

    def _completed(
        self, texts: Sequence[str], windows: Sequence[list[_Window]]
    ) -> list[list[Chunk]]:
        """Chunks from windows; the missing ids are made in one call, spread over the cores."""
        missing = [
            self._prompt + texts[i][start:end]
            for i, spans in enumerate(windows)
            for start, end, ids in spans
            if ids is None
        ]
        encodings = iter(self._tokenizer.encode_batch_fast(missing))
        chunks: list[list[Chunk]] = []
        for text, spans in zip(texts, windows, strict=True):
            document: list[Chunk] = []
            for start, end, ids in spans:
                made = np.array(next(encodings).ids, dtype=np.int32) if ids is None else ids
                if len(made) <= self._max_tokens and len(made):
                    document.append(Chunk(start, end, made))
                else:
                    document += self._fitting(text, start, end, made)
            chunks.append(_in_order(document))
        return chunks


def _in_order(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks by position, without any that lies wholly in another: overlap, then only blanks."""
    kept: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.start, -chunk.end)):
        if not kept or chunk.end > kept[-1].end:
            kept.append(chunk)
    return kept


def _frame(tokenizer: "Tokenizer", prompt: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids that the model puts before and after a text."""
    encoding = tokenizer.encode(prompt + "a")
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    ids = np.array(encoding.ids, dtype=np.int32)
    own = np.flatnonzero(~special)
    last = int(own[-1]) if len(own) else len(ids)
    return ids[:last], ids[last + 1 :]


def _split_point(text: str, start: int, end: int) -> int:
    """A place near the middle of text[start:end], at a blank where there is one."""
    middle = (start + end) // 2
    blank = max(text.rfind(" ", start + 1, middle), text.rfind("\n", start + 1, middle))
    return blank if blank > start + (end - start) // 4 else middle


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())
