"""Where a text may be cut, and how good each place is. Pure numpy, linear in the text."""

import numpy as np
from numpy.typing import NDArray

# How good a cut before a token is. INSIDE is within a word: only where nothing else is left.
# TOKEN is between a word and its punctuation, or between two CJK characters.
INSIDE, TOKEN, WORD, LINE, SENTENCE, PARAGRAPH, HEADING = range(7)

_SPACE = np.array([chr(code).isspace() for code in range(0x3001)])
_ENDERS = np.array([ord(c) for c in ".!?…"], dtype=np.uint32)
# These end a sentence without any space behind them.
_CJK_ENDERS = np.array([ord(c) for c in "。！？｡"], dtype=np.uint32)
# Scripts without spaces, where nearly every character is a word: the blocks of CJK ideographs.
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_CLOSERS = np.array([ord(c) for c in "\"')]}”’»」』"], dtype=np.uint32)


def code_points(text: str) -> NDArray[np.uint32]:
    """The text's characters as numbers, (n_chars,)."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def is_space(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which characters are blank, as str.isspace says."""
    spaces = np.zeros(len(points), dtype=bool)
    low = points < len(_SPACE)
    spaces[low] = _SPACE[points[low]]
    return spaces


def cut_levels(
    points: NDArray[np.uint32], starts: NDArray[np.int64], word_start: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """How good a cut before each token is, (n_tokens,): INSIDE to HEADING.

    `starts` are the tokens' character offsets in order, each on a non-blank character where the
    token has one; `word_start` says which tokens begin a word of the tokenizer. A blank, the end
    of a CJK sentence or an ideograph on either side make a word's beginning too: some tokenizers
    know no words, and to others all between two blanks is one.
    """
    levels = np.full(len(starts), INSIDE, dtype=np.int8)
    if not len(points) or not len(starts):
        return levels
    spaces = is_space(points)
    # For every character, the nearest non-blank one before it; -1 where there is none.
    # int32: half the memory on a large document, and no text has two billion characters.
    before = np.where(spaces, np.int32(-1), np.arange(len(points), dtype=np.int32))
    np.maximum.accumulate(before, out=before)
    previous = np.where(starts > 0, before[np.maximum(starts, 1) - 1], -1).astype(np.int64)
    del before
    gap = starts - previous > 1
    newlines = line_ends_before(points)
    n_newlines = newlines[starts] - newlines[previous + 1]
    del newlines
    at_start = previous < 0

    ends = ends_sentence(points, previous, gap)
    ideographs = _is_ideograph(points)
    at = np.minimum(starts, len(points) - 1)
    beside_ideograph = ideographs[at] | (ideographs[previous] & ~at_start)
    cut = (word_start | gap | ends | beside_ideograph) & on_new_character(starts)
    levels[cut] = TOKEN
    levels[cut & (gap | at_start)] = WORD
    levels[cut & (n_newlines >= 1)] = LINE
    levels[cut & ends] = SENTENCE
    levels[cut & (n_newlines >= 2)] = PARAGRAPH
    levels[cut & is_heading(points, starts) & (at_start | (n_newlines >= 1))] = HEADING
    return levels


def on_new_character(starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens begin on a character that the token before does not: an emoji can be several."""
    new = np.ones(len(starts), dtype=bool)
    new[1:] = starts[1:] > starts[:-1]
    return new


def _is_ideograph(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    found = np.zeros(len(points), dtype=bool)
    for low, high in _IDEOGRAPHS:
        found |= (points >= low) & (points <= high)
    return found


def line_ends_before(points: NDArray[np.uint32]) -> NDArray[np.int32]:
    """How many line ends stand before each character and before the end, (n_chars + 1,)."""
    before = np.zeros(len(points) + 1, dtype=np.int32)
    np.cumsum(_line_ends(points), out=before[1:])
    return before


def _line_ends(points: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Line feeds, and carriage returns that stand alone (old Mac text)."""
    feeds = points == ord("\n")
    returns = points == ord("\r")
    followed = np.append(feeds[1:], False)
    alone: NDArray[np.bool_] = feeds | (returns & ~followed)
    return alone


def ends_sentence(
    points: NDArray[np.uint32], previous: NDArray[np.int64], gap: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether a sentence ends with the character at each place; `gap`: blank follows it."""
    last = points[np.maximum(previous, 0)]
    # A closing quote or bracket hides the full stop: look one further.
    closer = np.isin(last, _CLOSERS)
    last = np.where(closer, points[np.maximum(previous - 1, 0)], last)
    ends = (np.isin(last, _ENDERS) & gap) | np.isin(last, _CJK_ENDERS)
    return ends & (previous >= 0)


def is_heading(points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where ATX headings begin: one to six # and a space (CommonMark 4.2)."""
    last = len(points) - 1
    heading: NDArray[np.bool_] = points[np.minimum(starts, last)] == ord("#")
    # Few places have a #: the rest is done for these only.
    rows = np.flatnonzero(heading)
    heading[rows] = False
    for width in range(1, 7):
        at = starts[rows] + width
        rows = rows[points[np.minimum(at - 1, last)] == ord("#")]
        at = np.minimum(starts[rows] + width, last)
        heading[rows] |= points[at] == ord(" ")
    return heading
