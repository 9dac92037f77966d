"""Where a text may be cut, and how good each place is. Pure numpy, linear in the text."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# How good a cut before a token is. INSIDE is within a word: only where nothing else is left.
# TOKEN is between a word and its punctuation, or between two CJK characters.
INSIDE, TOKEN, WORD, LINE, SENTENCE, PARAGRAPH, HEADING = range(7)

# What a character beyond ASCII is, where that matters for a cut.
_OTHER, _SPACE, _ENDER, _CJK_ENDER, _IDEOGRAPH, _CLOSER = range(0x80, 0x86)
_SPACES = [code for code in range(0x80, 0x3001) if chr(code).isspace()]
# Scripts without spaces, where nearly every character is a word: the blocks of CJK ideographs.
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def _table(kinds: Iterable[int]) -> NDArray[np.bool_]:
    """Which of all kinds of characters are among some, (256,)."""
    table = np.zeros(256, dtype=bool)
    table[list(kinds)] = True
    return table


_CJK_ENDERS = _table([_CJK_ENDER])
_ENDERS = _table([*map(ord, ".!?"), _ENDER, _CJK_ENDER])
_CLOSERS = _table([*map(ord, "\"')]}"), _CLOSER])


def characters(text: str) -> NDArray[np.uint8]:
    """The text's characters, (n_chars,): ASCII by its codes, all others by what they are to cuts,
    0x80 or more. One byte each, because whole texts are looked over many times.
    """
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    kinds = points.astype(np.uint8)
    at = np.flatnonzero(points > 0x7F)
    beyond = points[at]
    of_beyond = np.full(len(at), _OTHER, dtype=np.uint8)
    for low, high in _IDEOGRAPHS:
        of_beyond[(beyond >= low) & (beyond <= high)] = _IDEOGRAPH
    of_beyond[np.isin(beyond, _SPACES)] = _SPACE
    of_beyond[np.isin(beyond, [ord(c) for c in "…"])] = _ENDER
    # These end a sentence without any space behind them.
    of_beyond[np.isin(beyond, [ord(c) for c in "。！？｡"])] = _CJK_ENDER
    of_beyond[np.isin(beyond, [ord(c) for c in "”’»」』"])] = _CLOSER
    kinds[at] = of_beyond
    return kinds


def is_space(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of some `characters` are blank, as str.isspace says."""
    # Comparing the whole array takes a tenth of what looking into a table takes.
    spaces: NDArray[np.bool_] = (kinds == 0x20) | (kinds == _SPACE)
    spaces |= (kinds >= 0x09) & (kinds <= 0x0D)
    spaces |= (kinds >= 0x1C) & (kinds <= 0x1F)
    return spaces


def cut_levels(
    kinds: NDArray[np.uint8],
    starts: NDArray[np.int64],
    word_start: NDArray[np.bool_],
    text_starts: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """How good a cut before each token is, (n_tokens,): INSIDE to HEADING.

    `kinds` are the `characters` of the text, `starts` the tokens' offsets among them in order,
    each on a non-blank character where the token has one; `word_start` says which tokens begin a
    word of the tokenizer. A blank, the beginning of a text, the end of a CJK sentence or an
    ideograph on either side make a word's beginning too: some tokenizers know no words, and to
    others all between two blanks is one. `text_starts` are the offsets at which texts begin where
    the text is several, with a line end between each two.
    """
    if not len(kinds) or not len(starts):
        return np.full(len(starts), INSIDE, dtype=np.int8)
    begins = np.zeros(1, dtype=np.int64) if text_starts is None else text_starts
    # By character and not by token: passes over bytes, and then one look for each token.
    levels = _levels_of_words(kinds, begins)[starts]
    np.maximum(levels, word_start.view(np.int8), out=levels)
    if (kinds == _IDEOGRAPH).any() or (kinds == _CJK_ENDER).any():
        np.maximum(levels, _levels_in_cjk(kinds)[starts], out=levels)
    levels *= on_new_character(starts)
    return levels


def _levels_of_words(kinds: NDArray[np.uint8], begins: NDArray[np.int64]) -> NDArray[np.int8]:
    """How good a cut is before each character and at the end, (n_chars + 1,): WORD to HEADING
    where a word begins behind a blank or a text begins, INSIDE elsewhere.
    """
    blank = is_space(kinds)
    edges = np.flatnonzero(np.diff(blank, prepend=True, append=True))
    starts, ends = edges[::2], edges[1::2]
    # What is behind the word before; of the first word of each text, behind nothing.
    behind = np.append(0, ends)[:-1]
    first = np.searchsorted(starts, begins)
    first, begins = first[first < len(starts)], begins[first < len(starts)]
    is_first = np.zeros(len(starts), dtype=bool)
    is_first[first] = behind[first] <= begins
    behind[first] = np.maximum(behind[first], begins)
    line_ends = _line_ends(kinds)
    n_line_ends = np.bincount(np.searchsorted(starts, line_ends), minlength=len(starts))
    n_line_ends[first] = _n_between(line_ends, behind[first], starts[first])
    n_line_ends = n_line_ends[: len(starts)]
    levels = np.full(len(starts), WORD, dtype=np.int8)
    levels[n_line_ends >= 1] = LINE
    levels[_ends_sentence(kinds, behind - 1, _ENDERS) & ~is_first] = SENTENCE
    levels[n_line_ends >= 2] = PARAGRAPH
    levels[_is_heading(kinds, starts) & (is_first | (n_line_ends >= 1))] = HEADING
    by_character = np.full(len(kinds) + 1, INSIDE, dtype=np.int8)
    by_character[starts] = levels
    return by_character


def _levels_in_cjk(kinds: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The same for text without blanks: TOKEN on either side of an ideograph, and SENTENCE where a
    CJK sentence ends.
    """
    levels = np.full(len(kinds) + 1, INSIDE, dtype=np.int8)
    ideograph = np.flatnonzero(kinds == _IDEOGRAPH)
    levels[ideograph] = TOKEN
    levels[ideograph + 1] = TOKEN
    blank = is_space(kinds)
    behind = np.flatnonzero(~blank[1:] & ~blank[:-1]) + 1
    levels[behind[_ends_sentence(kinds, behind - 1, _CJK_ENDERS)]] = SENTENCE
    return levels


def on_new_character(starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens begin on a character that the token before does not: an emoji can be several."""
    new = np.ones(len(starts), dtype=bool)
    new[1:] = starts[1:] > starts[:-1]
    return new


def _line_ends(kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where line feeds are, and carriage returns that stand alone (old Mac text)."""
    line_ends = kinds == ord("\n")
    returns = kinds == ord("\r")
    if returns.any():
        line_ends |= returns & ~np.append(line_ends[1:], False)
    return np.flatnonzero(line_ends)


def _n_between(
    places: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many of some places in order are in each range [low, high), (n,)."""
    return np.subtract(np.searchsorted(places, high), np.searchsorted(places, low))


def _ends_sentence(
    kinds: NDArray[np.uint8], at: NDArray[np.int64], enders: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether a sentence ends with the character at each place, (n,); `enders` is a `_table`."""
    last = kinds[at]
    # A closing quote or bracket hides the full stop: look one further.
    closed = np.flatnonzero(_CLOSERS[last])
    last[closed] = kinds[np.maximum(at[closed] - 1, 0)]
    return enders[last]


def _is_heading(kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where ATX headings begin: one to six # and a space (CommonMark 4.2)."""
    last = len(kinds) - 1
    heading: NDArray[np.bool_] = kinds[np.minimum(starts, last)] == ord("#")
    # Few places have a #: the rest is done for these only.
    rows = np.flatnonzero(heading)
    heading[rows] = False
    for width in range(1, 7):
        at = starts[rows] + width
        rows = rows[kinds[np.minimum(at - 1, last)] == ord("#")]
        at = np.minimum(starts[rows] + width, last)
        heading[rows] |= kinds[at] == ord(" ")
    return heading
