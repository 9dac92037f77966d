"""Tokenize whole documents in one pass: where every token is, and how good a cut there is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import combining

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import code_points, cut_levels, is_space, on_new_character

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Longest stretch handed to the tokenizer at once: bounds its memory on a 10 MB line, and its
# worst case on text without a space, at no measurable cost in speed.
_MAX_STRETCH_CHARS = 32_768
# Where a long text is cut into stretches, the best first.
_BLANKS = ("\n", " ", "\r", "\t", "\u3000")


@dataclass(frozen=True, slots=True)
class DocumentTokens:
    """A document's tokens: ids, character offsets, which begin a word of the tokenizer, how good
    a cut is before each, forced cuts.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    words: NDArray[np.bool_]
    levels: NDArray[np.int8]
    forced: NDArray[np.int64]


def tokenize(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[DocumentTokens]:
    """The tokens of each text, without special tokens."""
    stretches = [list(_stretches(text)) for text in texts]
    # One call for all: the tokenizer spreads it over the cores.
    encodings = iter(
        tokenizer.encode_batch(
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


def _stretches(text: str) -> Iterator[tuple[int, int, bool]]:
    """Parts (start, end, forced) that cover the text; `forced` marks a start without a blank.

    A part begins behind a line feed or another blank where there is one in the last half of the
    stretch, so that no word is torn; else the tear is a forced chunk boundary.
    """
    start, forced = 0, False
    while len(text) - start > _MAX_STRETCH_CHARS:
        low, high = start + _MAX_STRETCH_CHARS // 2, start + _MAX_STRETCH_CHARS
        end = next(filter(None, (text.rfind(blank, low, high) + 1 for blank in _BLANKS)), 0)
        torn = not end
        end = end or _whole_character(text, low, high)
        yield start, end, forced
        start, forced = end, torn
    yield start, len(text), forced


def _whole_character(text: str, low: int, high: int) -> int:
    """The last place in (low, high] that does not tear an accent from its letter."""
    end = high
    while end > low and (combining(text[end]) or text[end] in "\u200d\ufe0f"):
        end -= 1
    return end if end > low else high


def _join(
    text: str, parts: Sequence[tuple[int, int, bool]], encodings: Sequence["Encoding"]
) -> DocumentTokens:
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
    word_start = np.concatenate(words) & on_new_character(at)
    return DocumentTokens(
        np.concatenate(ids),
        at,
        word_start,
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
