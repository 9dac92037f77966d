"""Tokens of many texts at once, by words, against those of each text in one go."""

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
from numpy.typing import NDArray

from embed_assets.chunking import distinct_words, token_windows, tokenization
from embed_assets.chunking.document_tokens import DocumentTokens, TokenPass, token_pass, tokenize
from embed_assets.chunking.token_windows import Chunk, TokenWindows
from embed_assets.chunking.tokenization import Tokenization, Way
from embed_assets_tests.chunking.test_token_windows import HOSTILE
from embed_assets_tests.tiny_models import TEXTS, tokenizer_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
    return tokenizer_of(tiny_model("bert-mean"))


def ways_of(tokenizer: "Tokenizer") -> dict[str, Way]:
    tokenization = Tokenization(tokenizer, "")
    ways = {}
    while (way := tokenization.way).name not in ways and way.slices:
        ways[way.name] = way
        tokenization.doubt(way)
    return ways


@pytest.fixture(
    params=["documents tokenized by nanotoken", "documents tokenized by their distinct words"]
)
def way(request: pytest.FixtureRequest, tokenizer: "Tokenizer") -> Way:
    if "nanotoken" in request.param:
        pytest.importorskip("nanotoken")
    return ways_of(tokenizer)[request.param]


def assert_same(found: Sequence[DocumentTokens] | None, expected: Sequence[DocumentTokens]) -> None:
    assert found is not None
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for part in ("ids", "starts", "words", "levels", "forced"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part), part)


def test_hostile_texts_have_the_same_tokens(tokenizer: "Tokenizer", way: Way) -> None:
    texts = [*TEXTS, *HOSTILE.values(), "", " ", "\n# a", "#", "# "]
    assert_same(way.tokenize(texts), tokenize(tokenizer, texts))
    for text in texts:
        assert_same(way.tokenize([text]), tokenize(tokenizer, [text]))


@given(texts=st.lists(ANY_TEXT, max_size=4), part_chars=st.sampled_from([10, 40, 4_000_000]))
def test_any_texts_have_the_same_tokens(
    tokenizer: "Tokenizer", texts: list[str], part_chars: int
) -> None:
    expected = tokenize(tokenizer, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct_words, "_PART_CHARS", part_chars)
        for way in ways_of(tokenizer).values():
            assert_same(way.tokenize(texts), expected)


def test_a_text_with_an_overlong_word_is_tokenized_in_one_go(
    way: Way, tokenizer: "Tokenizer"
) -> None:
    texts = ["one two " * 5, "x" * 40_000 + " a", "b", "a " + "y" * 9_000]
    assert_same(way.tokenize(texts), tokenize(tokenizer, texts))


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


def backwards(ids: NDArray[np.uint32], tokenizer: "Tokenizer") -> NDArray[np.uint32]:
    return ids[::-1].copy()


def full_stops_unknown(ids: NDArray[np.uint32], tokenizer: "Tokenizer") -> NDArray[np.uint32]:
    # They cover the text as the right ones do: only the tokens of a chunk's own text tell.
    vocabulary = tokenizer.get_vocab()
    return np.where(ids == vocabulary["."], np.uint32(vocabulary["[UNK]"]), ids)


@pytest.mark.parametrize("mistake", [backwards, full_stops_unknown])
def test_other_tokens_of_nanotoken_switch_it_off_with_a_warning(
    tokenizer: "Tokenizer",
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[NDArray[np.uint32], "Tokenizer"], NDArray[np.uint32]],
) -> None:
    nanotoken = pytest.importorskip("nanotoken")
    real = nanotoken.Tokenizer(tokenizer)
    expected = TokenWindows(tokenizer, 32).chunk(TEXTS)

    def wrong(texts: list[str], **kwargs: Any) -> Any:  # noqa: ANN401
        return SimpleNamespace(ids=mistake(real.encode_batch(texts, **kwargs).ids, tokenizer))

    monkeypatch.setattr(token_windows, "_PROOF_EVERY", 1)
    monkeypatch.setattr(nanotoken, "Tokenizer", lambda source: SimpleNamespace(encode_batch=wrong))
    windows = TokenWindows(tokenizer, 32)
    with caplog.at_level(logging.WARNING):
        found = windows.chunk(TEXTS)
    assert_same_chunks(found, expected)
    (record,) = caplog.records
    assert "by nanotoken: these are not the tokens" in record.getMessage()


def test_where_words_do_not_stand_for_themselves_texts_are_tokenized_in_one_go(
    tokenizer: "Tokenizer", caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(tokenizer: "Tokenizer", text: str) -> TokenPass:
        return token_pass(tokenizer, text.replace("e", "o"))

    expected = TokenWindows(tokenizer, 32).chunk(TEXTS)
    monkeypatch.setitem(sys.modules, "nanotoken", None)
    monkeypatch.setattr(tokenization, "pass_by_words", wrong)
    with caplog.at_level(logging.WARNING):
        found = TokenWindows(tokenizer, 32).chunk(TEXTS)
    assert "from here on: documents tokenized in one go" in caplog.text
    assert_same_chunks(found, expected)


def assert_same_chunks(found: list[list[Chunk]], expected: list[list[Chunk]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert [(c.start, c.end) for c in mine] == [(c.start, c.end) for c in theirs]
        assert [c.token_ids.tolist() for c in mine] == [c.token_ids.tolist() for c in theirs]
