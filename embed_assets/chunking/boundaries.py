"""Where a text may be cut, and how good each place is. Pure numpy, linear in the text."""

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

_ENDERS = np.array([*map(ord, ".!?"), _ENDER, _CJK_ENDER], dtype=np.uint8)
_CLOSERS = np.array([*map(ord, "\"')]}"), _CLOSER], dtype=np.uint8)


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
    word of the tokenizer. A blank, the end of a CJK sentence or an ideograph on either side make a
    word's beginning too: some tokenizers know no words, and to others all between two blanks is
    one. `text_starts` are the offsets at which texts begin where the text is several, with a line
    end between each two.
    """
    if not len(kinds) or not len(starts):
        return np.full(len(starts), INSIDE, dtype=np.int8)
    previous = _filled_before(kinds, starts)
    at_start = np.zeros(len(starts), dtype=bool)
    begins = np.zeros(1, dtype=np.int64) if text_starts is None else text_starts
    first = np.searchsorted(starts, begins)
    first, begins = first[first < len(starts)], begins[first < len(starts)]
    # A text does not know what stands before it. Of texts without a token the next one counts.
    at_start[first] = previous[first] < begins
    previous[first] = np.maximum(previous[first], begins - 1)
    gap = starts - previous > 1
    before, after = kinds[previous], kinds[np.minimum(starts, len(kinds) - 1)]
    new = on_new_character(starts)
    ends = np.empty(0, dtype=np.int64)
    if (kinds == _CJK_ENDER).any():
        ends = np.flatnonzero(_ends_sentence(kinds, previous, _ENDERS[-1:]) & ~at_start & new)
    cut = word_start | gap | (after == _IDEOGRAPH) | ((before == _IDEOGRAPH) & ~at_start)
    cut[ends] = True
    cut &= new
    levels = np.where(cut, np.int8(TOKEN), np.int8(INSIDE))
    levels[ends] = SENTENCE
    # Behind a blank, or the first: two in five tokens.
    opening = np.flatnonzero(cut & (gap | at_start))
    levels[opening] = _opening_levels(kinds, starts[opening], previous[opening], at_start[opening])
    return levels


def _opening_levels(
    kinds: NDArray[np.uint8],
    starts: NDArray[np.int64],
    previous: NDArray[np.int64],
    at_start: NDArray[np.bool_],
) -> NDArray[np.int8]:
    """The same for tokens behind a blank or at the start, (n,), all of which are cuts."""
    line_ends = _line_ends_before(kinds)
    n_line_ends = line_ends[starts] - line_ends[previous + 1]
    levels = np.full(len(starts), WORD, dtype=np.int8)
    levels[n_line_ends >= 1] = LINE
    levels[_ends_sentence(kinds, previous, _ENDERS) & ~at_start] = SENTENCE
    levels[n_line_ends >= 2] = PARAGRAPH
    levels[_is_heading(kinds, starts) & (at_start | (n_line_ends >= 1))] = HEADING
    return levels


def on_new_character(starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens begin on a character that the token before does not: an emoji can be several."""
    new = np.ones(len(starts), dtype=bool)
    new[1:] = starts[1:] > starts[:-1]
    return new


def _filled_before(kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest non-blank character before each of some places, (n,); -1 where there is none."""
    previous = starts - 1
    behind_blank = np.flatnonzero(is_space(kinds[previous]))
    previous[behind_blank] -= 1
    # Most of these stand behind a single blank.
    found = previous[behind_blank]
    farther = behind_blank[is_space(kinds[np.maximum(found, 0)]) | (found < 0)]
    if len(farther):
        blank = is_space(kinds)
        # What stands before two blanks or more; where nothing does, -1.
        before_gap = np.flatnonzero(~blank[:-2] & blank[1:-1] & blank[2:])
        before_gap = np.append(-1, before_gap)
        gap = np.searchsorted(before_gap, starts[farther]) - 1
        previous[farther] = before_gap[gap]
    return previous


def _line_ends_before(kinds: NDArray[np.uint8]) -> NDArray[np.int32]:
    """How many line ends stand before each character and before the end, (n_chars + 1,): line
    feeds, and carriage returns that stand alone (old Mac text).
    """
    line_ends = kinds == ord("\n")
    returns = kinds == ord("\r")
    if returns.any():
        line_ends |= returns & ~np.append(line_ends[1:], False)
    before = np.zeros(len(kinds) + 1, dtype=np.int32)
    np.cumsum(line_ends, out=before[1:])
    return before


def _ends_sentence(
    kinds: NDArray[np.uint8], previous: NDArray[np.int64], enders: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Whether a sentence ends with the character at each place."""
    last = kinds[previous]
    # A closing quote or bracket hides the full stop: look one further.
    closed = np.flatnonzero(np.isin(last, _CLOSERS))
    last[closed] = kinds[np.maximum(previous[closed] - 1, 0)]
    ends: NDArray[np.bool_] = np.isin(last, enders)
    return ends


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
