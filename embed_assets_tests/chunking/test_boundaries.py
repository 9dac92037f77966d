"""How good each cut is, against a plain reading of the rules character by character."""

import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.chunking.boundaries import (
    HEADING,
    INSIDE,
    LINE,
    PARAGRAPH,
    SENTENCE,
    TOKEN,
    WORD,
    characters,
    cut_levels,
    is_space,
)


def test_blank_means_what_python_means_by_it() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    expected = [character.isspace() for character in every]
    np.testing.assert_array_equal(is_space(characters("".join(every))), expected)
    np.testing.assert_array_equal(is_space(characters("".join(every[:128]))), expected[:128])


def levels_of(text: str, word_starts: set[int] | None = None) -> dict[int, int]:
    """Level of each non-blank character, every one a token; by default all begin words."""
    starts = [i for i, character in enumerate(text) if not character.isspace()]
    words = [word_starts is None or start in word_starts for start in starts]
    levels = cut_levels(
        characters(text), np.array(starts, dtype=np.int64), np.array(words, dtype=bool)
    )
    return dict(zip(starts, levels.tolist(), strict=True))


def expected_level(text: str, start: int, begins_word: bool) -> int:
    """The rules, said plainly for one place."""
    before = text[:start].rstrip()
    gap = text[len(before) : start]
    n_line_ends = len(re.findall(r"\r\n|\n|\r", gap))
    end = before[-2:-1] if before[-1:] in tuple("\"')]}”’»」』") and before[-2:-1] else before[-1:]
    ends_sentence = bool(end) and (end in "。！？｡" or (bool(gap) and end in ".!?…"))
    heading = re.match(r"#{1,6} ", text[start:]) and (not before or n_line_ends)
    beside_ideograph = re.search(r"[一-鿿]", text[start] + before[-1:])
    if before and not (begins_word or gap or ends_sentence or beside_ideograph):
        return INSIDE
    if heading:
        return HEADING
    if n_line_ends >= 2:
        return PARAGRAPH
    if ends_sentence:
        return SENTENCE
    if n_line_ends == 1:
        return LINE
    return WORD if gap or not before else TOKEN


PIECES = st.sampled_from(
    [
        "a",
        "b.",
        "c!",
        '"',
        ")",
        "#",
        "# ",
        "###### ",
        "。",
        "」",
        "東",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\t",
    ]
)


@given(pieces=st.lists(PIECES, max_size=12), data=st.data())
def test_levels_follow_the_rules(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    words = data.draw(st.sets(st.integers(0, max(0, len(text) - 1))))
    expected = {
        start: expected_level(text, start, start in words)
        for start, character in enumerate(text)
        if not character.isspace()
    }
    assert levels_of(text, words) == expected


@pytest.mark.parametrize(
    ("text", "at", "level"),
    [
        ("a", 0, WORD),
        ("# a", 0, HEADING),
        ("\n\n a", 3, PARAGRAPH),
        ("a ######", 2, WORD),
        ("a\n######", 2, LINE),
        ("a\n# ", 2, HEADING),
        ("a\n#", 2, LINE),
        (". a", 2, SENTENCE),
        (") a", 2, WORD),
        ("a.) b", 4, SENTENCE),
        ("3.1", 2, TOKEN),
        ("a。b", 2, SENTENCE),
        ("a\u2028b", 2, WORD),
        ("\U0010ffff\U00020000", 1, TOKEN),
    ],
)
def test_edges_of_a_text(text: str, at: int, level: int) -> None:
    assert levels_of(text)[at] == level


def test_a_sentence_in_a_script_without_spaces_ends_even_within_a_tokenizers_word() -> None:
    text = "ここに。いる"
    assert levels_of(text, set()) == {0: WORD, 1: INSIDE, 2: INSIDE, 3: INSIDE, 4: SENTENCE, 5: 0}


def test_no_cut_falls_between_tokens_of_one_character() -> None:
    starts = np.array([0, 2, 2, 2, 3], dtype=np.int64)
    levels = cut_levels(characters("a 😀b"), starts, np.ones(5, dtype=bool))
    assert levels.tolist() == [WORD, WORD, INSIDE, INSIDE, TOKEN]


@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_tokens_has_no_cuts(text: str) -> None:
    assert levels_of(text) == {}
