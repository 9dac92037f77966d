"""Tokenize whole documents in one pass: where every token is, and how good a cut there is.

Works for every tokenizer. What the tokenizers library returns takes hundreds of bytes a token, so
it is turned into arrays a batch of stretches at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING
from unicodedata import combining

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import characters, cut_levels, is_space, on_new_character

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Longest stretch handed to the tokenizer at once: bounds its memory on a 10 MB line, and its
# worst case on text without a space, at no measurable cost in speed.
_MAX_STRETCH_CHARS = 32_768
# Where a long text is cut into stretches, the best first.
_BLANKS = ("\n", " ", "\r", "\t", "\u3000")
# Characters tokenized in one call: enough to keep all cores busy.
_CHARS_PER_CALL = 1_000_000


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


@dataclass(frozen=True, slots=True)
class TokenPass:
    """The bare tokens of a text, (n_tokens,) each: ids, character offsets as the tokenizer has
    them, and which begin a word of the tokenizer.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    words: NDArray[np.bool_]


# Part of a text: its number, start, end, and whether its start tears a word.
_Stretch = tuple[int, int, int, bool]


def tokenize(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[DocumentTokens]:
    """The tokens of each text, without special tokens."""
    passes: list[list[TokenPass]] = [[] for _ in texts]
    forced: list[list[int]] = [[] for _ in texts]
    for batch in _batches(texts):
        stretches = [texts[i][start:end] for i, start, end, _ in batch]
        # One call for all: the tokenizer spreads it over the cores.
        encodings = tokenizer.encode_batch(stretches, add_special_tokens=False)
        for (i, start, _, torn), encoding in zip(batch, encodings, strict=True):
            if torn:
                forced[i].append(sum(len(done.ids) for done in passes[i]))
            passes[i].append(_arrays(encoding, start))
        del encodings
    return [
        _with_levels(text, joined(own), cuts)
        for text, own, cuts in zip(texts, passes, forced, strict=True)
    ]


def token_pass(tokenizer: "Tokenizer", text: str) -> TokenPass:
    """The bare tokens of one text, without special tokens."""
    parts = []
    for batch in _batches([text]):
        stretches = [text[start:end] for _, start, end, _ in batch]
        encodings = tokenizer.encode_batch(stretches, add_special_tokens=False)
        parts += [
            _arrays(encoding, start)
            for (_, start, _, _), encoding in zip(batch, encodings, strict=True)
        ]
    return joined(parts)


def joined(parts: Sequence[TokenPass]) -> TokenPass:
    """The tokens of the parts of a text, one after the other."""
    return TokenPass(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.words for part in parts]),
    )


def shifted(tokens: TokenPass, by: int) -> TokenPass:
    """The tokens of a part that begins at character `by` of its text."""
    return TokenPass(tokens.ids, tokens.starts + by, tokens.words)


def _batches(texts: Sequence[str]) -> Iterator[list[_Stretch]]:
    """The stretches of all texts, in groups of about _CHARS_PER_CALL characters."""
    batch: list[_Stretch] = []
    n_chars = 0
    for i, text in enumerate(texts):
        for start, end, torn in _stretches(text):
            batch.append((i, start, end, torn))
            n_chars += end - start
            if n_chars >= _CHARS_PER_CALL:
                yield batch
                batch, n_chars = [], 0
    if batch:
        yield batch


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


def _arrays(encoding: "Encoding", offset: int) -> TokenPass:
    """What the tokenizers library returns for a stretch at `offset`, as arrays."""
    ids = np.array(encoding.ids, dtype=np.int32)
    starts = np.fromiter(map(itemgetter(0), encoding.offsets), dtype=np.int64, count=len(ids))
    # None: an added token that stands in the text, which is a word of its own.
    word = np.array([-1 if w is None else w for w in encoding.word_ids], dtype=np.int64)
    first = np.ones(len(word), dtype=bool)
    first[1:] = (word[1:] != word[:-1]) | (word[1:] < 0)
    return TokenPass(ids, starts + offset, first)


def _with_levels(text: str, tokens: TokenPass, forced: Sequence[int]) -> DocumentTokens:
    """A document's tokens, with what only the text tells: the levels of cuts."""
    kinds = characters(text)
    at = on_characters(kinds, tokens.starts)
    words = tokens.words & on_new_character(at)
    cuts = np.array([f for f in forced if 0 < f < len(at)], dtype=np.int64)
    return DocumentTokens(tokens.ids, at, words, cut_levels(kinds, at, words), cuts)


def on_characters(kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Token offsets moved off a leading blank, which byte-level BPE counts in."""
    if not len(kinds) or not len(starts):
        return starts
    if not is_space(kinds.take(starts, mode="clip")).any():
        return np.maximum.accumulate(starts)
    spaces = is_space(kinds)
    following = np.where(spaces, len(kinds), np.arange(len(kinds), dtype=np.int32))
    following = np.minimum.accumulate(following[::-1])[::-1]
    moved = following[np.minimum(starts, len(kinds) - 1)]
    # Behind the last character there is only blank: stay.
    return np.maximum.accumulate(np.where(moved < len(kinds), moved, starts))
