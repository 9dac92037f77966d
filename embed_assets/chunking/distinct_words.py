"""Tokenize texts by their distinct words: the same tokens, for a fraction of the work.

A token of BERT's WordPiece never depends on what stands beyond a blank. So a group of texts is cut
behind its blanks into words, each distinct word is tokenized once, and the texts' tokens are
gathered from these: natural text repeats itself. No Python object per token or per word.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.chunking import boundaries
from embed_assets.chunking.distinct_strings import (
    begins_word,
    character_offsets,
    distinct_strings,
    taken_ranges,
)
from embed_assets.chunking.document_tokens import (
    DocumentTokens,
    TokenPass,
    on_characters,
)

#: Longest word, in bytes. Far below half a stretch of the ordinary pass, so that a text of such
#: words has no stretch that tears one.
LONGEST_WORD = 8_192

# Characters of a text taken at once: what is held beside the tokens is some ten bytes for each.
_PIECE_CHARS = 2_000_000
_WORD_END = re.compile(r"[ \t\n\r](?=[^ \t\n\r])")

# Between words where they are tokenized: a blank that ends no line and makes no heading.
_BETWEEN = "\t"

#: Tokenizes the words of a text that are separated by blanks: (text, the words, the character
#: offsets at which they begin) -> bare tokens.
TokenizeWords = Callable[[str, list[str], NDArray[np.int64]], TokenPass]


@dataclass(frozen=True, slots=True)
class _WordTable:
    """Distinct words with the blanks behind them, (n_words,) and, flat, (n_tokens,).

    Word i has the tokens `first[i]:first[i + 1]`; `starts` count from its first character. The
    level of a word's first token depends on the words before it, the others' does not.
    """

    first: NDArray[np.int64]
    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    words: NDArray[np.bool_]
    levels: NDArray[np.int8]
    filled: NDArray[np.bool_]  # not all blank
    opens: NDArray[np.bool_]  # its first token is at its first character that is not blank
    heading: NDArray[np.bool_]  # and begins a heading, if it begins a line
    ends_sentence: NDArray[np.bool_]
    lines_before: NDArray[np.int32]  # line ends before its first character that is not blank
    lines_after: NDArray[np.int32]  # and after its last; all of them if all is blank


@dataclass(frozen=True, slots=True)
class _Occurrences:
    """The words of a group of texts in order, (n,): which word, and its character offset.

    `bounds` (n_texts + 1,): text i has the occurrences `bounds[i]:bounds[i + 1]`.
    """

    word: NDArray[np.int64]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]


def tokenize_by_words(tokenize: TokenizeWords, texts: Sequence[str]) -> list[DocumentTokens | None]:
    """The tokens of each text, without special tokens; None for one with an overlong word."""
    found: list[DocumentTokens | None] = [None] * len(texts)
    short = [i for i, text in enumerate(texts) if len(text) <= _PIECE_CHARS]
    for i, tokens in zip(short, _tokenize_group(tokenize, [texts[i] for i in short]), strict=True):
        found[i] = tokens
    for i in set(range(len(texts))).difference(short):
        found[i] = _tokenize_in_pieces(tokenize, texts[i])
    return found


def _tokenize_in_pieces(tokenize: TokenizeWords, text: str) -> DocumentTokens | None:
    """The same for one long text, of which only a piece is in work at a time."""
    pieces = []
    for start, end in _pieces(text):
        (tokens,) = _tokenize_group(tokenize, [text[start:end]])
        if tokens is None:
            return None
        starts = tokens.starts + start
        if start and len(starts):
            tokens.levels[0] = _level_in_text(text, int(starts[0]))
        pieces.append(replace(tokens, starts=starts))
    return DocumentTokens(
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([piece.starts for piece in pieces]),
        np.concatenate([piece.words for piece in pieces]),
        np.concatenate([piece.levels for piece in pieces]),
        np.empty(0, dtype=np.int64),
    )


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Parts (start, end) that cover the text, all but the first beginning with a word."""
    start = 0
    while start < len(text):
        found = _WORD_END.search(text, start + _PIECE_CHARS)
        end = found.end() if found else len(text)
        yield start, end
        start = end


def _level_in_text(text: str, at: int) -> int:
    """How good a cut before a token at a character offset is, by the text around it."""
    low, width = at, 64
    while low > 0 and not text[low:at].strip():
        low, width = max(0, at - width), 8 * width
    # One more: a closing quote or bracket hides the full stop.
    low = max(0, low - 1)
    points = boundaries.code_points(text[low : at + 8])
    return int(boundaries.cut_levels(points, np.array([at - low]), np.array([True]))[0])


def _tokenize_group(tokenize: TokenizeWords, texts: Sequence[str]) -> list[DocumentTokens | None]:
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    text_starts = np.concatenate(([0], np.cumsum([len(part) for part in encoded], dtype=np.int64)))
    del encoded
    starts = _word_starts(data, text_starts)
    bounds = np.searchsorted(starts[:-1], text_starts)
    overlong = _overlong(starts, bounds)
    if overlong.any():
        fitting = [text for text, too_long in zip(texts, overlong, strict=True) if not too_long]
        found = iter(_tokenize_group(tokenize, fitting))
        return [None if too_long else next(found) for too_long in overlong]
    distinct, word = distinct_strings(data, starts)
    characters = character_offsets(data, starts[:-1])
    origins = np.cumsum([0, *map(len, texts[:-1])], dtype=np.int64)[: len(texts)]
    characters = characters - np.repeat(origins, np.diff(bounds))
    del data, starts
    table = _word_table(tokenize, distinct)
    return list(_gathered(table, _Occurrences(word, characters, bounds)))


def _word_starts(data: NDArray[np.uint8], text_starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where words begin in UTF-8 text: behind blanks and where a text begins; and the end."""
    begins = begins_word(data)
    begins[text_starts] = True
    return np.flatnonzero(begins)


def _overlong(starts: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which texts have a word longer than LONGEST_WORD."""
    before = np.concatenate(([0], np.cumsum(np.diff(starts) > LONGEST_WORD)))
    found: NDArray[np.bool_] = before[bounds[1:]] > before[bounds[:-1]]
    return found


def _word_table(tokenize: TokenizeWords, distinct: pl.Series) -> _WordTable:
    """Everything about each distinct word that does not depend on what stands around it."""
    words = distinct.to_list()
    lengths = distinct.str.len_chars().to_numpy().astype(np.int64)
    # A blank before each word and behind it.
    text = _BETWEEN + _BETWEEN.join(words) + _BETWEEN
    ends = np.cumsum(lengths + 1)
    starts = ends - lengths
    tokens = tokenize(text, words, starts)
    del words
    points = boundaries.code_points(text)
    at = on_characters(points, tokens.starts)
    first = np.concatenate((np.searchsorted(at, starts), [len(at)]))
    begins = tokens.words & boundaries.on_new_character(at)
    filled = np.flatnonzero(~boundaries.is_space(points))
    lines = boundaries.line_ends_before(points)
    low, high = np.searchsorted(filled, starts), np.searchsorted(filled, ends)
    is_filled = low < high
    # Of words that are all blank, places that exist, whatever stands there.
    front = np.where(is_filled, np.append(filled, 0)[low], starts)
    back = np.where(is_filled, np.append(filled, 0)[high - 1], starts - 1)
    opening = np.append(at, -1)[first[:-1]]
    return _WordTable(
        first,
        tokens.ids,
        (at - np.repeat(starts, np.diff(first))).astype(np.int32),
        begins,
        boundaries.cut_levels(points, at, begins),
        is_filled,
        opens=is_filled & (first[:-1] < first[1:]) & (opening == front),
        heading=boundaries.is_heading(points, front),
        ends_sentence=boundaries.ends_sentence(points, back, np.ones(len(back), bool)) & is_filled,
        lines_before=np.where(is_filled, lines[front] - lines[starts], 0),
        lines_after=lines[ends] - lines[back + 1],
    )


def _gathered(table: _WordTable, occurrences: _Occurrences) -> list[DocumentTokens]:
    """Each text's tokens, from those of its words."""
    word = occurrences.word
    taken, n_tokens = taken_ranges(table.first, word)
    bounds = np.concatenate(([0], np.cumsum(n_tokens)))
    ids, words = table.ids[taken], table.words[taken]
    starts = np.repeat(occurrences.starts, n_tokens)
    starts += table.starts[taken]
    levels = table.levels[taken]
    del taken
    opening = np.flatnonzero(table.opens[word])
    levels[bounds[opening]] = _opening_levels(table, occurrences)[opening]
    none = np.empty(0, dtype=np.int64)
    spans = bounds[occurrences.bounds]
    return [
        DocumentTokens(ids[low:high], starts[low:high], words[low:high], levels[low:high], none)
        for low, high in zip(spans[:-1].tolist(), spans[1:].tolist(), strict=True)
    ]


def _opening_levels(table: _WordTable, occurrences: _Occurrences) -> NDArray[np.int8]:
    """How good a cut before each word is, (n,): what `cut_levels` says where a word begins."""
    word = occurrences.word
    order = np.arange(len(word))
    filled = table.filled[word]
    # The nearest word before it that is not all blank; none where its text begins.
    before = np.concatenate(([-1], np.maximum.accumulate(np.where(filled, order, -1))[:-1]))[
        : len(word)
    ]
    text_start = np.repeat(occurrences.bounds[:-1], np.diff(occurrences.bounds))
    at_start = before < text_start
    lines = np.concatenate(([0], np.cumsum(table.lines_after[word])))
    n_lines = lines[order] - lines[np.where(at_start, text_start, before)]
    n_lines += table.lines_before[word]
    ends_sentence = table.ends_sentence[word[np.maximum(before, 0)]] & ~at_start
    levels = np.full(len(word), boundaries.WORD, dtype=np.int8)
    levels[n_lines >= 1] = boundaries.LINE
    levels[ends_sentence] = boundaries.SENTENCE
    levels[n_lines >= 2] = boundaries.PARAGRAPH
    levels[table.heading[word] & (at_start | (n_lines >= 1))] = boundaries.HEADING
    return levels
