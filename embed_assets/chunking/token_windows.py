"""Cut documents into token windows at the best boundary available, and tokenize them only once.

Each document is tokenized in one pass with character offsets; windows of tokens then become
chunks, and their ids are slices of that pass. For a family whose pieces depend on context
(SentencePiece, byte-level BPE), or where a cut falls inside a word, the chunk's own text is
tokenized instead, so that the ids are always those that the model itself would make of it.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import HEADING, INSIDE, TOKEN
from embed_assets.chunking.distinct_words import tokenize_by_words
from embed_assets.chunking.document_tokens import DocumentTokens, tokenize
from embed_assets.chunking.fast_words import FastWords
from embed_assets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

# One chunk in so many is tokenized again by itself, to prove that slicing is exact.
_PROOF_EVERY = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]` of a document, and what the model reads for it: int32 (n_tokens,)."""

    start: int
    end: int
    token_ids: NDArray[np.int32]


# A chunk in the making: start, end, and its ids where a slice of the document's ids will do.
_Window = tuple[int, int, NDArray[np.int32] | None]


class TokenWindows:
    """Chunks of at most `max_tokens` tokens, special tokens and prompt included.

    Every non-blank character of a document stands in at least one chunk, unless the model reads
    nothing at all there. Time is linear in the length of the text. A single character of more
    tokens than there is room for is the one thing that can be over the limit.
    """

    def __init__(
        self, tokenizer: "Tokenizer", max_tokens: int, overlap: int = 0, prompt: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._overlap = overlap
        self._prompt = prompt
        parts = json.loads(tokenizer.to_str())
        self._slices = _is_sliceable(parts, prompt)
        # Texts that hold one of the tokenizer's added tokens, such as "[SEP]", are no plain words.
        self._added = [token["content"] for token in parts["added_tokens"]]
        self._words = FastWords(tokenizer) if _knows_words(parts) else None
        self._prefix, self._suffix = _frame(tokenizer, prompt)
        self._room = max_tokens - len(self._prefix) - len(self._suffix)
        if self._room < 4 or overlap >= self._room:
            raise InputError(
                f"max_tokens {max_tokens} leaves room for {self._room} tokens of text beside the "
                f"prompt and special tokens, with an overlap of {overlap}; raise max_tokens or "
                "lower the overlap"
            )

    def chunk(self, texts: Sequence[str]) -> list[list[Chunk]]:
        """The chunks of each text, in order. A blank text has none."""
        words = self._words if self._slices else None
        windows = [
            list(self._windows(text, document))
            for text, document in zip(texts, self._tokenized(texts, words), strict=True)
        ]
        if self._slices and not self._slicing_holds(texts, windows):
            log.warning(
                "this tokenizer's pieces depend on context: tokenizing each chunk by itself"
            )
            if words is not None:
                # Words do not stand for themselves either: begin again, without them.
                self._words = None
                return self.chunk(texts)
            self._slices = False
            windows = [[(start, end, None) for start, end, _ in spans] for spans in windows]
        return self._completed(texts, windows)

    def _tokenized(self, texts: Sequence[str], words: FastWords | None) -> list[DocumentTokens]:
        """The tokens of each text: by its distinct words where that is the same, else in one go."""
        if words is None:
            return tokenize(self._tokenizer, texts)
        plain = [i for i, text in enumerate(texts) if not any(a in text for a in self._added)]
        by_words = dict(
            zip(plain, tokenize_by_words(words, [texts[i] for i in plain]), strict=True)
        )
        others = [i for i in range(len(texts)) if by_words.get(i) is None]
        in_one_go = tokenize(self._tokenizer, [texts[i] for i in others])
        found = by_words | dict(zip(others, in_one_go, strict=True))
        return [tokens for i in range(len(texts)) if (tokens := found[i]) is not None]

    def _windows(self, text: str, tokens: DocumentTokens) -> Iterator[_Window]:
        """Windows of one document; without ids where they must come from the chunk's own text."""
        n = len(tokens.ids)
        for first, stop in self._spans(tokens):
            start = 0 if first == 0 else int(tokens.starts[first])
            end = len(text) if stop == n else int(tokens.starts[stop])
            # Blank edges belong to no chunk.
            start, end = _stripped(text, start, end)
            if start >= end:
                continue
            whole = first == 0 or tokens.words[first]
            whole = whole and (stop == n or tokens.words[stop])
            yield (
                start,
                end,
                self._framed(tokens.ids[first:stop]) if whole and self._slices else None,
            )

    def _spans(self, tokens: DocumentTokens) -> Iterator[tuple[int, int]]:
        """Token ranges [first, stop) of the windows, greedily, each cut at its best boundary."""
        n, first, stop = len(tokens.ids), 0, 0
        if n == 0:
            yield 0, 0
        # Searching bytes takes a fraction of what numpy takes for so short a range.
        levels = tokens.levels.tobytes()
        cuts = (tokens.levels >= TOKEN).tobytes() if self._overlap else b""
        room = self._room - self._slack()
        while stop < n:
            forced = _next(tokens.forced, first, n)
            stop = forced if forced <= first + self._room else _best_cut(levels, stop, first + room)
            yield first, stop
            first = stop if stop == forced else self._overlapped(cuts, first, stop)

    def _slack(self) -> int:
        """Tokens to leave free where a chunk's own text can give a few more than were counted."""
        spare = self._room - self._overlap - 1
        return 0 if self._slices else min(1 + self._room // 32, spare)

    def _overlapped(self, cuts: bytes, first: int, stop: int) -> int:
        """Where the next window begins: up to `overlap` tokens before `stop`, at a word."""
        word = cuts.find(1, max(first + 1, stop - self._overlap), stop)
        return word if word >= 0 else stop

    def _framed(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.concatenate((self._prefix, ids, self._suffix))

    def _encode(self, text: str) -> NDArray[np.int32]:
        """What the model makes of a chunk's text by itself, prompt and special tokens included."""
        return np.array(self._tokenizer.encode(self._prompt + text).ids, dtype=np.int32)

    def _fitting(self, text: str, start: int, end: int, ids: NDArray[np.int32]) -> list[Chunk]:
        """Chunks for text[start:end], whose own ids are given, split while it is over the limit.

        A cut inside a word, or a family whose tokens depend on what stands before, can make a
        few tokens more than the pass over the whole document counted.
        """
        if len(ids) <= self._max_tokens or end - start == 1:
            return [Chunk(start, end, ids)] if len(ids) else []
        middle = _split_point(text, start, end)
        return [
            chunk
            for low, high in (_stripped(text, start, middle), _stripped(text, middle, end))
            if low < high
            for chunk in self._fitting(text, low, high, self._encode(text[low:high]))
        ]

    def _slicing_holds(self, texts: Sequence[str], windows: Sequence[list[_Window]]) -> bool:
        """Whether a sample of the slices is what the chunks' own texts give."""
        sliced = [
            (texts[i][start:end], ids)
            for i, spans in enumerate(windows)
            for start, end, ids in spans
            if ids is not None
        ]
        proved = sliced[::_PROOF_EVERY]
        own = self._tokenizer.encode_batch_fast([self._prompt + text for text, _ in proved])
        return all(
            np.array_equal(encoding.ids, ids)
            for encoding, (_, ids) in zip(own, proved, strict=True)
        )

    def _completed(
        self, texts: Sequence[str], windows: Sequence[list[_Window]]
    ) -> list[list[Chunk]]:
        """Chunks from windows; the missing ids are made in one call, spread over the cores."""
        missing = [
            self._prompt + texts[i][start:end]
            for i, spans in enumerate(windows)
            for start, end, ids in spans
            if ids is None
        ]
        encodings = iter(self._tokenizer.encode_batch_fast(missing))
        chunks: list[list[Chunk]] = []
        for text, spans in zip(texts, windows, strict=True):
            document: list[Chunk] = []
            for start, end, ids in spans:
                made = np.array(next(encodings).ids, dtype=np.int32) if ids is None else ids
                if len(made) <= self._max_tokens and len(made):
                    document.append(Chunk(start, end, made))
                else:
                    document += self._fitting(text, start, end, made)
            chunks.append(_in_order(document))
        return chunks


def _in_order(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks by position, without any that lies wholly in another: overlap, then only blanks."""
    kept: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.start, -chunk.end)):
        if not kept or chunk.end > kept[-1].end:
            kept.append(chunk)
    return kept


def _is_sliceable(parts: dict[str, Any], prompt: str) -> bool:
    """Whether tokens of a word never depend on what stands around it: BERT's WordPiece."""
    kinds = {
        part: (parts[part] or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")
    }
    bert = {
        "normalizer": "BertNormalizer",
        "pre_tokenizer": "BertPreTokenizer",
        "model": "WordPiece",
    }
    # A prompt that ends otherwise could grow together with the first word.
    return kinds == bert and (not prompt or prompt[-1] == ":" or prompt[-1].isspace())


def _knows_words(parts: dict[str, Any]) -> bool:
    """Whether, on top of that, no token begins on a blank and none is made of several words."""
    return (
        _is_sliceable(parts, "")
        and parts["normalizer"]["clean_text"]
        and not any(token["normalized"] for token in parts["added_tokens"])
    )


def _frame(tokenizer: "Tokenizer", prompt: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids that the model puts before and after a text."""
    encoding = tokenizer.encode(prompt + "a")
    special = np.array(encoding.special_tokens_mask, dtype=bool)
    ids = np.array(encoding.ids, dtype=np.int32)
    own = np.flatnonzero(~special)
    last = int(own[-1]) if len(own) else len(ids)
    return ids[:last], ids[last + 1 :]


def _next(forced: NDArray[np.int64], first: int, n: int) -> int:
    """The first forced cut after `first`, else the end."""
    i = int(np.searchsorted(forced, first, side="right")) if len(forced) else 0
    return int(forced[i]) if i < len(forced) else n


def _best_cut(levels: bytes, covered: int, limit: int) -> int:
    """The last best boundary in the second half of (covered, limit]; any word in the first half;
    else `limit`, inside a word. `covered` is where the window before stopped. The second half
    only, so that windows stay well filled, and never far behind the one before.
    """
    for low in (covered + (limit - covered + 1) // 2, covered + 1):
        for level in range(HEADING, INSIDE, -1):
            found = levels.rfind(level, low, limit + 1)
            if found >= 0:
                return found
    return limit


def _split_point(text: str, start: int, end: int) -> int:
    """A place near the middle of text[start:end], at a blank where there is one."""
    middle = (start + end) // 2
    blank = max(text.rfind(" ", start + 1, middle), text.rfind("\n", start + 1, middle))
    return blank if blank > start + (end - start) // 4 else middle


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())
