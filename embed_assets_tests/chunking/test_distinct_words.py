"""Tokens gathered from distinct words, against those of each text in one go."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_assets.chunking import distinct_words
from embed_assets.chunking.distinct_words import tokenize_by_words
from embed_assets.chunking.document_tokens import DocumentTokens, token_pass, tokenize
from embed_assets.chunking.fast_words import FastWords
from embed_assets.chunking.token_windows import TokenWindows
from embed_assets.chunking.word_pieces import pass_by_pieces
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets_tests.chunking.test_token_windows import HOSTILE
from embed_assets_tests.tiny_models import TEXTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What added tokens stand in, TokenWindows keeps from these functions.
PLAIN = [text for name, text in HOSTILE.items() if name != "names of special tokens"]
PARTS = st.sampled_from(
    ["a", "the", "tortoise", "x" * 101, "1,234", "a.b", '."', "?)", ")", "#", "## ", "###### b"]
) | st.sampled_from(
    ["\u0301", "(\u0301", "e\u0301", "\u200b", "\x0c", "\x85", "\x01", "\xa0", "\u3000", "\u2028"]
)
PARTS |= st.sampled_from(["東京", "。」", "İ", "ß", "ﷺ", "\u1fef", "\u037e", "👩\u200d"])
PARTS |= st.sampled_from([" ", "  ", "\n", "\n\n", "\r", "\r\n"])
ANY_TEXT = st.one_of(st.text(max_size=80), st.lists(PARTS, max_size=40).map("".join))


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Callable[[str], Path]) -> "Tokenizer":
    return load_tokenizer(tiny_model("bert-mean"))


@pytest.fixture(params=["nanotoken", "the model's own"])
def words(
    request: pytest.FixtureRequest, tokenizer: "Tokenizer", monkeypatch: pytest.MonkeyPatch
) -> FastWords:
    if request.param == "nanotoken":
        pytest.importorskip("nanotoken")
    else:
        monkeypatch.setitem(sys.modules, "nanotoken", None)
    return FastWords(tokenizer)


def assert_same(found: Sequence[DocumentTokens | None], expected: Sequence[DocumentTokens]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        for part in ("ids", "starts", "words", "levels", "forced"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part), part)


def test_hostile_texts_have_the_same_tokens(tokenizer: "Tokenizer", words: FastWords) -> None:
    texts = [*TEXTS, *PLAIN, "", " ", "\n# a", "#", "# "]
    fitting = [text for text in texts if max(map(len, text.split() or [""])) < 8_000]
    was_on = words.is_on
    assert_same(tokenize_by_words(words, fitting), tokenize(tokenizer, fitting))
    assert words.is_on is was_on


@given(texts=st.lists(ANY_TEXT, max_size=4), piece_chars=st.sampled_from([10, 40, 2_000_000]))
def test_any_texts_have_the_same_tokens(
    tokenizer: "Tokenizer", texts: list[str], piece_chars: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct_words, "_PIECE_CHARS", piece_chars)
        found = tokenize_by_words(FastWords(tokenizer), texts)
    assert_same(found, tokenize(tokenizer, texts))


@given(text=ANY_TEXT)
def test_pieces_of_words_have_the_same_tokens(tokenizer: "Tokenizer", text: str) -> None:
    found, expected = pass_by_pieces(tokenizer, text), token_pass(tokenizer, text)
    for part in ("ids", "starts", "words"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), part)


def test_a_text_with_an_overlong_word_is_left_out(words: FastWords, tokenizer: "Tokenizer") -> None:
    long, piece = "x" * 9_000 + " a", "one two " * 5
    found = tokenize_by_words(words, [piece, long, "b"])
    assert found[1] is None
    assert_same([found[0], found[2]], tokenize(tokenizer, [piece, "b"]))


def test_repeated_words_are_tokenized_once(tokenizer: "Tokenizer") -> None:
    seen: list[str] = []
    counting: Any = SimpleNamespace(
        to_str=tokenizer.to_str,
        encode=tokenizer.encode,
        encode_batch=lambda texts, **kwargs: (
            seen.extend(texts) or tokenizer.encode_batch(texts, **kwargs)  # type: ignore[func-returns-value]
        ),
        encode_batch_fast=tokenizer.encode_batch_fast,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nanotoken", None)
        windows = TokenWindows(counting, 32)
    windows.chunk(["the hare and the tortoise " * 1_000] * 3)
    assert sum(map(len, seen)) < 100


def test_other_tokens_of_nanotoken_switch_it_off_with_a_warning(
    tokenizer: "Tokenizer", caplog: pytest.LogCaptureFixture
) -> None:
    nanotoken = pytest.importorskip("nanotoken")
    real = nanotoken.Tokenizer(tokenizer)

    def wrong(words: list[str], **kwargs: Any) -> Any:  # noqa: ANN401
        rows = real.encode_batch(words, **kwargs)
        return SimpleNamespace(ids=rows.ids[::-1].copy(), offsets=rows.offsets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nanotoken, "Tokenizer", lambda source: SimpleNamespace(encode_batch=wrong))
        words = FastWords(tokenizer)
    with caplog.at_level(logging.WARNING):
        assert_same(tokenize_by_words(words, TEXTS), tokenize(tokenizer, TEXTS))
    assert not words.is_on
    assert "nanotoken makes other tokens" in caplog.text


def test_where_words_do_not_stand_for_themselves_texts_are_tokenized_in_one_go(
    tokenizer: "Tokenizer", caplog: pytest.LogCaptureFixture
) -> None:
    windows, expected = TokenWindows(tokenizer, 32), TokenWindows(tokenizer, 32)
    expected._words = None
    wrong: Any = lambda text, words, starts: token_pass(tokenizer, text.replace("e", "o"))  # noqa: E731
    windows._words = wrong
    with caplog.at_level(logging.WARNING):
        found = windows.chunk(TEXTS)
    assert "depend on context" in caplog.text
    for mine, theirs in zip(found, expected.chunk(TEXTS), strict=True):
        assert [(c.start, c.end) for c in mine] == [(c.start, c.end) for c in theirs]
        assert [c.token_ids.tolist() for c in mine] == [c.token_ids.tolist() for c in theirs]
