"""Chunks: all of the text, never too long, cut where a reader would cut."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.chunking.token_windows import Chunk, TokenWindows
from embed_assets.errors import InputError
from embed_assets_tests import tiny_models
from embed_assets_tests.tiny_models import TEXTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZERS = {"wordpiece": "bert-mean", "byte-level": "roberta", "unigram": "xlm-roberta"}
LIMITS = [(64, 0), (16, 0), (32, 8)]

HOSTILE = {
    "empty": "",
    "blank": " \n\t\r\n \u3000\u2028 ",
    "one character": "x",
    "one blank": "\r",
    "two blanks": "\n ",
    "one character among blanks": "\n\n  x \n",
    "CJK without spaces": "東京は日本の首都です。人口は約千四百万人。" * 40,
    "Thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 40,
    "zalgo": "z\u0351\u036b\u0343a\u0300\u0301\u0302\u0303l\u0321\u0322g\u0334o\u0336 " * 50,
    "only combining marks": "\u0301\u0302\u0303" * 100,
    "emoji with joiners": "👩‍👩‍👧‍👦👍🏽🏴\U000e0067\U000e0062❤\ufe0f" * 40,
    "control characters": "a\x01b\x02 c\x0cd\x0be\x1cf\x1dg\x85h\x7f " * 40,
    "CR only": "One line here.\rAnd another.\r\rA paragraph." * 30,
    "mixed line ends": "a b\r\nc d\ne f\rg h\n\r\n\r\ri j " * 30,
    "names of special tokens": "[CLS] a [SEP] b [UNK][PAD] <s> c </s><pad><mask> [MASK]" * 20,
    "NUL": "a\0b \0\0 c" * 60,
    "private use": "\ue000\uf8ff \U000f0000x\U0010ffff " * 40,
    "noncharacters": "\ufdd0\uffff\ufffe\ufffd a " * 40,
    "one huge word": "before " + "Donaudampfschifffahrt" * 500 + " after",
    "many short lines": "\n".join("abc de f"[: i % 9] for i in range(2_000)),
    "zero width only": "\u200b\u200c\u200d\ufeff\u2060" * 50,
    "zero width within": "ze\u200bro wi\u200ddth \ufeffhere " * 60,
    "right to left": "שלום עולם \u202eabc\u202c العربية " * 40,
    "ligatures and fractions": "ﬁ ﬃ ½ ㎏ ﷺ İ ß Σ ς " * 40,
    "Hangul": "대한민국의 수도는 서울이다 한국어" * 40,
    "long runs of blanks": ("one two three four five six seven " + "\n" * 99 + " " * 99) * 5,
    "tabs": "a\tb\tc\t" * 300,
    "punctuation": "...!?,;:--()[]{}\"'" * 60,
}
# More than one stretch of the tokenizer's.
HUGE = {
    "200,000 characters without a space": "abcdefghij" * 20_000,
    "70,000 CJK characters": "漢字仮名交じり文" * 8_750,
    "CR only, without a space": "one\r" * 20_000,
    "surrogate pairs at a stretch's end": "😀" * 33_000,
}


@pytest.fixture(scope="session")
def tokenizer_of(tiny_model: Callable[[str], Path]) -> "Callable[[str], Tokenizer]":
    return cache(lambda name: tiny_models.tokenizer_of(tiny_model(TOKENIZERS[name])))


def assert_sound(
    tokenizer: "Tokenizer", texts: Sequence[str], max_tokens: int, overlap: int, prompt: str = ""
) -> list[list[Chunk]]:
    """What holds for all chunks of any text."""
    chunks = TokenWindows(tokenizer, max_tokens, overlap, prompt).chunk(texts)
    assert len(chunks) == len(texts)
    for text, own in zip(texts, chunks, strict=True):
        for chunk in own:
            part = text[chunk.start : chunk.end]
            assert part
            assert part == part.strip()
            assert len(chunk.token_ids) <= max_tokens
            assert chunk.token_ids.dtype == np.int32
        starts = [chunk.start for chunk in own]
        ends = [chunk.end for chunk in own]
        assert starts == sorted(set(starts))
        assert ends == sorted(set(ends))
        gaps = zip([0, *ends], [*starts, len(text)], strict=True)
        assert not any(text[end:start].strip() for end, start in gaps)
        if overlap == 0:
            assert all(end <= start for end, start in zip(ends[:-1], starts[1:], strict=True))
        alone = tokenizer.encode_batch([prompt + text[c.start : c.end] for c in own])
        assert [c.token_ids.tolist() for c in own] == [encoding.ids for encoding in alone]
    return chunks


@pytest.mark.parametrize(("max_tokens", "overlap"), LIMITS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_hostile_texts_become_sound_chunks(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, max_tokens: int, overlap: int
) -> None:
    for name, text in HOSTILE.items():
        (chunks,) = assert_sound(tokenizer_of(kind), [text], max_tokens, overlap)
        assert bool(chunks) == bool(text.strip()), name


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_huge_texts_become_sound_chunks(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, name: str
) -> None:
    assert_sound(tokenizer_of(kind), [HUGE[name]], 64, 0)


@pytest.mark.parametrize("prompt", ["passage: ", "query:", "Instruct\n", "the", "[", "¿é"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_prompt_is_part_of_every_chunk(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, prompt: str
) -> None:
    texts = [*TEXTS, HOSTILE["names of special tokens"], "CLS] mark", "\u0301accent"]
    assert_sound(tokenizer_of(kind), texts, 48, 0, prompt)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_documents_do_not_depend_on_their_neighbours(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str
) -> None:
    texts = [*TEXTS, "", HOSTILE["control characters"], HOSTILE["zalgo"]]
    together = assert_sound(tokenizer_of(kind), texts, 32, 8)
    for text, chunks in zip(texts, together, strict=True):
        (alone,) = assert_sound(tokenizer_of(kind), [text], 32, 8)
        assert [(c.start, c.end) for c in alone] == [(c.start, c.end) for c in chunks]


# Where tokenizers, str.isspace and Unicode disagree: form feeds, joiners, accents, special tokens.
WORDS = (
    st.sampled_from(["the", "tortoise", "_", "1,234", "'s", "x" * 40, "東京", "İ", "[SEP]", "<s>"])
    | st.sampled_from(["\u0301", "\u200b", "\u200d", "\U0001f469", "\x0c", "\x85", "# ", "## A"])
    | st.sampled_from([" ", "  ", "\t", "\n", "\n\n", "\r\n", " " * 30, ". ", "? ", "。"])
)
ANY_TEXT = st.one_of(st.text(max_size=120), st.lists(WORDS, max_size=60).map("".join))


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(data=st.data())
def test_any_text_becomes_sound_chunks(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, data: st.DataObject
) -> None:
    texts = data.draw(st.lists(ANY_TEXT, max_size=3))
    # 24: some characters, such as U+FDFA, become eighteen letters.
    max_tokens, overlap = data.draw(st.sampled_from([(24, 0), (32, 8), (32, 16)]))
    assert_sound(tokenizer_of(kind), texts, max_tokens, overlap)


PROSE = "The hare was amused at the idea. So the fox agreed, and marked the distance at last. "


@pytest.mark.parametrize("overlap", [4, 8, 16, 31])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_neighbours_share_text_and_every_chunk_brings_new_text(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, overlap: int
) -> None:
    tokenizer = tokenizer_of(kind)
    (chunks,) = assert_sound(tokenizer, [PROSE * 20], 64, overlap)
    pairs = list(pairwise(chunks))
    shared = [first.end - second.start for first, second in pairs]
    # A word can be longer than four tokens: then there is no place to begin a shared part.
    assert sum(n > 0 for n in shared) >= (0.5 if overlap == 4 else 1) * len(pairs)
    n_tokens = len(tokenizer.encode(PROSE * 20).ids)
    assert sum(len(chunk.token_ids) for chunk in chunks) < 4 * n_tokens


def cut(tokenizer: "Tokenizer", text: str, max_tokens: int = 64, overlap: int = 0) -> list[str]:
    (chunks,) = TokenWindows(tokenizer, max_tokens, overlap).chunk([text])
    return [text[chunk.start : chunk.end] for chunk in chunks]


LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz")
HALF = " ".join("abcdefghijklmnopqrst")  # 20 tokens of WordPiece


@pytest.mark.parametrize(
    ("text", "first"),
    [
        # In each, the better boundary comes first and the worse ones after it, within the window.
        (f"{HALF}\n# b c. d\n\ne\nf g {LETTERS}", HALF),
        (f"{HALF}\n###### b\n\nc {LETTERS}", HALF),
        (f"{HALF} a\n\nb. c\nd e {LETTERS}", f"{HALF} a"),
        (f"{HALF} a\r\n\r\nb. c\r\nd e {LETTERS}", f"{HALF} a"),
        (f"{HALF} a\r\rb. c\rd e {LETTERS}", f"{HALF} a"),
        (f"{HALF} a\n \t\nb. c\nd e {LETTERS}", f"{HALF} a"),
        (f"{HALF} a. b\nc d {LETTERS}", f"{HALF} a."),
        (f'{HALF} a?" b\nc d {LETTERS}', f'{HALF} a?"'),
        (f"{HALF} 東京。東\nc d {LETTERS}", f"{HALF} 東京。"),
        (f"{HALF} a\nb c {LETTERS}", f"{HALF} a"),
        # None of these begins a heading or ends a sentence, so the line's end is as good as any.
        (f"{HALF} a #b c\nd {LETTERS}", f"{HALF} a #b c"),
        (f"{HALF}\n#b c\nd {LETTERS}", f"{HALF}\n#b c"),
        (f"{HALF}\n####### c\nd {LETTERS}", f"{HALF}\n####### c"),
        (f"{HALF} 3.14 a\nd {LETTERS}", f"{HALF} 3.14 a"),
        # The last of equals: windows stay well filled.
        (f"{HALF} a. b. c. d {LETTERS}", f"{HALF} a. b. c."),
        # In the first half a boundary counts only where the second has none.
        (f"a b\n\nc {LETTERS} {LETTERS}", f"a b\n\nc {LETTERS} a"),
    ],
)
def test_a_chunk_ends_at_the_best_boundary(
    tokenizer_of: "Callable[[str], Tokenizer]", text: str, first: str
) -> None:
    # 32 tokens, of which 30 are text and the last 15 may bring the cut.
    assert cut(tokenizer_of("wordpiece"), text, 32)[0] == first


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_heading_begins_a_chunk(tokenizer_of: "Callable[[str], Tokenizer]", kind: str) -> None:
    chunks = cut(tokenizer_of(kind), TEXTS[0])
    assert "## The race" in [chunk.partition("\n")[0] for chunk in chunks]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\r", "\u3000"])
def test_no_word_is_torn_while_there_is_a_blank(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, blank: str
) -> None:
    # Longer than one stretch.
    text = blank.join(["tortoise", "hare", "mocking", "laughs"] * 1_400)
    words = {"tortoise", "hare", "mocking", "laughs"}
    assert {word for chunk in cut(tokenizer_of(kind), text, 40) for word in chunk.split()} == words


def test_a_tokenizer_that_knows_no_words_tears_none(
    tokenizer_of: "Callable[[str], Tokenizer]",
) -> None:
    """SentencePiece BPE as in Gemma or Mistral: the whole text is one word to it."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.train_from_iterator(
        PROSE.split(),
        trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False),
    )
    assert_sound(tokenizer, TEXTS, 40, 8)
    words = {word for chunk in cut(tokenizer, PROSE * 20, 40) for word in chunk.split()}
    assert words == set(PROSE.split())


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_stretches_of_a_long_text_are_joined_without_a_seam(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str
) -> None:
    text = PROSE * 1_000
    (chunks,) = assert_sound(tokenizer_of(kind), [text], 64, 0)
    assert {text[c.start : c.end].split()[-1][-1] for c in chunks} == {"."}


class CountingTokenizer:
    """Counts the characters that pass through a tokenizer."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self.n_chars = 0
        self.longest = 0

    def encode(self, text: str, **arguments: Any) -> Any:  # noqa: ANN401
        self._count([text])
        return self._tokenizer.encode(text, **arguments)

    def encode_batch(self, texts: list[str], **arguments: Any) -> Any:  # noqa: ANN401
        self._count(texts)
        return self._tokenizer.encode_batch(texts, **arguments)

    def encode_batch_fast(self, texts: list[str], **arguments: Any) -> Any:  # noqa: ANN401
        self._count(texts)
        return self._tokenizer.encode_batch_fast(texts, **arguments)

    def to_str(self) -> str:
        return self._tokenizer.to_str()

    def _count(self, texts: list[str]) -> None:
        self.n_chars += sum(map(len, texts))
        self.longest = max([self.longest, *map(len, texts)])


@pytest.mark.parametrize(
    "text",
    ["abcdefghij" * 100_000, PROSE * 3_000, "漢字仮名" * 60_000],
    ids=["one word", "one line of prose", "CJK"],
)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_very_long_line_takes_linear_work(
    tokenizer_of: "Callable[[str], Tokenizer]", kind: str, text: str
) -> None:
    counting: Any = CountingTokenizer(tokenizer_of(kind))
    (chunks,) = TokenWindows(counting, 64).chunk([text])
    assert chunks[-1].end == len(text.rstrip())
    assert counting.n_chars < 2.2 * len(text)
    # Some tokenizers take quadratic time or much memory for a single long text.
    assert counting.longest <= 32_768


@pytest.mark.parametrize(("overlap", "most_work"), [(31, 3.5), (45, 6)])
def test_overlap_repeats_text_a_few_times_at_most(
    tokenizer_of: "Callable[[str], Tokenizer]", overlap: int, most_work: float
) -> None:
    """A paragraph's end must not hold back window after window that overlaps it."""
    text = ("The hare lay down to nap\n\n" + "a " * 30) * 100
    counting: Any = CountingTokenizer(tokenizer_of("byte-level"))
    TokenWindows(counting, 64, overlap).chunk([text])
    assert counting.n_chars < most_work * len(text)


def test_a_prompt_that_leaves_no_room_is_refused(
    tokenizer_of: "Callable[[str], Tokenizer]",
) -> None:
    with pytest.raises(InputError, match="max_tokens 16 leaves room for -") as refusal:
        TokenWindows(tokenizer_of("wordpiece"), 16, 0, "represent this document for search: ")
    assert "\n" not in str(refusal.value)


def test_an_overlap_that_fills_the_window_is_refused(
    tokenizer_of: "Callable[[str], Tokenizer]",
) -> None:
    with pytest.raises(InputError, match="with an overlap of 14"):
        TokenWindows(tokenizer_of("wordpiece"), 16, 14)
