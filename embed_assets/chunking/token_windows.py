"""Cut documents into token windows at the best boundary available, and tokenize them only once.

Each document is tokenized in one pass with character offsets; windows of tokens then become
chunks, and their ids are slices of that pass. For a family whose pieces depend on context
(SentencePiece, byte-level BPE), or where a cut falls inside a word, the chunk's own text is
tokenized instead, so that the ids are always those that the model itself would make of it.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import INSIDE, TOKEN, code_points, cut_levels, is_space
from embed_assets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

log = logging.getLogger(__name__)

# Longest stretch handed to the tokenizer at once: bounds its memory on a 10 MB line, and its
# worst case on text without a space, at no measurable cost in speed.
_MAX_STRETCH_CHARS = 32_768
# One chunk in so many is tokenized again by itself, to prove that slicing is exact.
_PROOF_EVERY = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]` of a document, and what the model reads for it: int32 (n_tokens,)."""

    start: int
    end: int
    token_ids: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """A document's tokens: ids, character offsets, how good a cut is before each, forced cuts."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    levels: NDArray[np.int8]
    forced: NDArray[np.int64]


# A chunk in the making: start, end, and its ids where a slice of the document's ids will do.
_Window = tuple[int, int, NDArray[np.int32] | None]


class TokenWindows:
    """Chunks of at most `max_tokens` tokens, special tokens and prompt included.

    Every non-blank character of a document stands in at least one chunk. Time is linear in the
    length of the text.
    """

    def __init__(
        self, tokenizer: "Tokenizer", max_tokens: int, overlap: int = 0, prompt: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = overlap
        self._prompt = prompt
        self._slices = _is_sliceable(tokenizer, prompt)
        self._prefix, self._suffix = _frame(tokenizer, prompt)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 4 or overlap >= self._room:
            raise InputError(
                f"max_tokens {max_tokens} leaves room for {self._room} tokens of text beside the "
                f"prompt and special tokens, with an overlap of {overlap}; raise max_tokens"
            )

    def chunk(self, texts: Sequence[str]) -> list[list[Chunk]]:
        """The chunks of each text, in order. A blank text has none."""
        documents = self._tokenize(texts)
        windows = [
            list(self._windows(text, document))
            for text, document in zip(texts, documents, strict=True)
        ]
        if self._slices and not self._slicing_holds(texts, windows):
            log.warning(
                "this tokenizer's pieces depend on context: tokenizing each chunk by itself"
            )
            self._slices = False
            windows = [[(start, end, None) for start, end, _ in spans] for spans in windows]
        return self._completed(texts, windows)

    def _tokenize(self, texts: Sequence[str]) -> list[_Tokens]:
        stretches = [list(_stretches(text)) for text in texts]
        # One call for all: the tokenizer spreads it over the cores.
        encodings = iter(
            self._tokenizer.encode_batch(
                [
                    text[start:end]
                    for text, parts in zip(texts, stretches, strict=True)
                    for start, end, _ in parts
                ],
                add_special_tokens=False,
            )
        )
        return [
            _join(text, parts, [next(encodings) for _ in parts])
            for text, parts in zip(texts, stretches, strict=True)
        ]

    def _windows(self, text: str, tokens: _Tokens) -> Iterator[_Window]:
        """Windows of one document; without ids where they must come from the chunk's own text."""
        points = code_points(text)
        filled = np.flatnonzero(~is_space(points))
        n = len(tokens.ids)
        for first, stop in self._spans(tokens):
            start = 0 if first == 0 else int(tokens.starts[first])
            end = len(text) if stop == n else int(tokens.starts[stop])
            # Blank edges belong to no chunk; `filled` holds the positions of all other characters.
            low, high = np.searchsorted(filled, (start, end))
            if low == high:
                continue
            start, end = int(filled[low]), int(filled[high - 1]) + 1
            whole = first == 0 or tokens.levels[first] > INSIDE
            whole = whole and (stop == n or tokens.levels[stop] > INSIDE)
            yield (
                start,
                end,
                self._framed(tokens.ids[first:stop]) if whole and self._slices else None,
            )

    def _spans(self, tokens: _Tokens) -> Iterator[tuple[int, int]]:
        """Token ranges [first, stop) of the windows, greedily, each cut at its best boundary."""
        n, first = len(tokens.ids), 0
        if n == 0:
            yield 0, 0
        while first < n:
            limit = first + self._room
            forced = _next(tokens.forced, first, n)
            stop = forced if forced <= limit else _best_cut(tokens.levels, first, limit)
            yield first, stop
            if stop >= n:
                return
            first = stop if stop == forced else self._overlapped(tokens.levels, first, stop)

    def _overlapped(self, levels: NDArray[np.int8], first: int, stop: int) -> int:
        """Where the next window begins: up to `overlap` tokens before `stop`, at a word."""
        earliest = max(first + 1, stop - self._overlap)
        words = np.flatnonzero(levels[earliest:stop] >= TOKEN)
        return earliest + int(words[0]) if len(words) else stop

    def _framed(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.concatenate((self._prefix, ids, self._suffix))

    def _encode(self, text: str) -> NDArray[np.int32]:
        """What the model makes of a chunk's text by itself, prompt and special tokens included."""
        return np.array(self._tokenizer.encode(self._prompt + text).ids, dtype=np.int32)

    def _own(self, text: str, start: int, end: int) -> list[Chunk]:
        """Chunks for text[start:end] tokenized by itself, split while it is over the limit.

        A cut inside a word, or a family whose tokens depend on what stands before, can make a
        few tokens more than the pass over the whole document counted.
        """
        ids = self._encode(text[start:end])
        if len(ids) <= self._max_tokens or end - start == 1:
            return [Chunk(start, end, ids)]
        middle = _split_point(text, start, end)
        return [
            chunk
            for low, high in (_stripped(text, start, middle), _stripped(text, middle, end))
            if low < high
            for chunk in self._own(text, low, high)
        ]

    def _slicing_holds(self, texts: Sequence[str], windows: Sequence[list[_Window]]) -> bool:
        """Whether a sample of the slices is what the chunks' own texts give."""
        sliced = [
            (texts[i][start:end], ids)
            for i, spans in enumerate(windows)
            for start, end, ids in spans
            if ids is not None
        ]
        return all(np.array_equal(self._encode(text), ids) for text, ids in sliced[::_PROOF_EVERY])

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
                fits = len(made) <= self._max_tokens
                document += [Chunk(start, end, made)] if fits else self._own(text, start, end)
            chunks.append(document)
        return chunks


def _is_sliceable(tokenizer: "Tokenizer", prompt: str) -> bool:
    """Whether tokens of a word never depend on what stands around it: BERT's WordPiece."""
    parts = json.loads(tokenizer.to_str())
    kinds = {
        part: (parts[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")
    }
    bert = {
        "normalizer": "BertNormalizer",
        "pre_tokenizer": "BertPreTokenizer",
        "model": "WordPiece",
    }
    # A prompt that ends in a letter would grow together with the first word.
    return kinds == bert and not prompt[-1:].isalnum()


def _frame(tokenizer: "Tokenizer", prompt: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids that the model puts before and after a text."""
    encoding = tokenizer.encode(prompt + "a")
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    ids = np.array(encoding.ids, dtype=np.int32)
    last = int(np.flatnonzero(~special)[-1])
    return ids[:last], ids[last + 1 :]


def _stretches(text: str) -> Iterator[tuple[int, int, bool]]:
    """Parts (start, end, forced) that cover the text; `forced` marks a start without a blank.

    A part begins behind a line feed or a space where there is one in the last half of the
    stretch, so that no word is torn; else the tear is a forced chunk boundary.
    """
    start, forced = 0, False
    while len(text) - start > _MAX_STRETCH_CHARS:
        low, high = start + _MAX_STRETCH_CHARS // 2, start + _MAX_STRETCH_CHARS
        end = max(text.rfind("\n", low, high), -1) + 1 or text.rfind(" ", low, high) + 1
        torn = not end
        end = end or _whole_character(text, low, high)
        yield start, end, forced
        start, forced = end, torn
    yield start, len(text), forced


def _whole_character(text: str, low: int, high: int) -> int:
    """The last place in (low, high] that does not tear an accent from its letter."""
    from unicodedata import combining

    end = high
    while end > low and (combining(text[end]) or text[end] in "\u200d\ufe0f"):
        end -= 1
    return end if end > low else high


def _join(
    text: str, parts: Sequence[tuple[int, int, bool]], encodings: Sequence["Encoding"]
) -> _Tokens:
    """One document's tokens from the encodings of its parts."""
    ids, starts, words, forced, n = [], [], [], [], 0
    for (offset, _, is_forced), encoding in zip(parts, encodings, strict=True):
        if is_forced:
            forced.append(n)
        ids.append(np.array(encoding.ids, dtype=np.int32))
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        starts.append(spans[:, 0] + offset)
        word = np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int64)
        first = np.ones(len(word), dtype=bool)
        first[1:] = (word[1:] != word[:-1]) | (word[1:] < 0)
        words.append(first)
        n += len(encoding.ids)
    points = code_points(text)
    at = _on_characters(points, np.concatenate(starts))
    word_start = np.concatenate(words)
    # Two tokens can share a character (an emoji of several bytes): no cut between them.
    word_start[1:] &= at[1:] > at[:-1]
    return _Tokens(
        np.concatenate(ids),
        at,
        cut_levels(points, at, word_start),
        np.array([f for f in forced if 0 < f < n], dtype=np.int64),
    )


def _on_characters(points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Token offsets moved off a leading blank, which byte-level BPE counts in."""
    if not len(points) or not len(starts):
        return starts
    following = np.where(is_space(points), len(points), np.arange(len(points)))
    following = np.minimum.accumulate(following[::-1])[::-1]
    moved = following[np.minimum(starts, len(points) - 1)]
    # Behind the last character there is only blank: stay.
    return np.maximum.accumulate(np.where(moved < len(points), moved, starts))


def _next(forced: NDArray[np.int64], first: int, n: int) -> int:
    """The first forced cut after `first`, else the end."""
    i = int(np.searchsorted(forced, first, side="right"))
    return int(forced[i]) if i < len(forced) else n


def _best_cut(levels: NDArray[np.int8], first: int, limit: int) -> int:
    """The last best boundary in the second half of [first, limit]; any word in the first half; else
    `limit`, inside a word. The second half only, so that windows stay well filled.
    """
    for low in (first + (limit - first + 1) // 2, first + 1):
        window = levels[low : limit + 1][::-1]
        best = int(window.argmax())
        if window[best] > INSIDE:
            return limit - best
    return limit


def _split_point(text: str, start: int, end: int) -> int:
    """A place near the middle of text[start:end], at a blank where there is one."""
    middle = (start + end) // 2
    blank = max(text.rfind(" ", start + 1, middle), text.rfind("\n", start + 1, middle))
    return blank if blank > start + (end - start) // 4 else middle


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())
