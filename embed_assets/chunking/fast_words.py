"""Tokenize words by nanotoken, many times faster, where its tokens are the model's own.

The optional extra `fast`. nanotoken gives ids without offsets: those follow from the lengths of the
tokens, as long as a word is plain ASCII, of which the tokenizer drops no character and knows all.
Every other word goes to the model's own tokenizer, and so does a sample of the plain ones, each
time: the first difference switches this off, with a warning.
"""

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import code_points
from embed_assets.chunking.document_tokens import TokenPass, joined
from embed_assets.chunking.word_pieces import pass_by_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

# One plain word in so many is tokenized by the model's own tokenizer, too, of few words more.
_PROOF_EVERY, _PROVED_WORDS = 100, 500
_BLANKS = np.array([ord(c) for c in " \t\n\r"], dtype=np.uint32)


class FastWords:
    """Tokenizes words as TokenizeWords; by nanotoken where `is_on`."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._nanotoken = _open(tokenizer)
        parts = json.loads(tokenizer.to_str())
        prefix = parts["model"]["continuing_subword_prefix"]
        added = {token["id"] for token in parts["added_tokens"]}
        vocabulary = parts["model"]["vocab"]
        # What a token covers of a word; 0 where that is not told by its own text.
        self._lengths = np.zeros(1 + max(vocabulary.values(), default=0), dtype=np.int64)
        self._continues = np.zeros(len(self._lengths), dtype=bool)
        for token, number in vocabulary.items():
            if number not in added and token != parts["model"]["unk_token"]:
                self._continues[number] = token.startswith(prefix)
                self._lengths[number] = len(token.removeprefix(prefix))

    @property
    def is_on(self) -> bool:
        """Whether nanotoken is used."""
        return self._nanotoken is not None

    def __call__(self, text: str, words: list[str], starts: NDArray[np.int64]) -> TokenPass:
        """The tokens of a text of words that are separated by blanks and begin at `starts`."""
        nanotoken = self._nanotoken
        if nanotoken is None or not words:
            return pass_by_pieces(self._tokenizer, text)
        rows = nanotoken.encode_batch(words, add_special_tokens=False)
        points = code_points(text)
        blank = np.isin(points, _BLANKS)
        # Behind each word stands one blank, before which it ends.
        ends = np.append(starts[1:], len(points)) - 1
        ids, offsets = rows.ids.astype(np.int32), rows.offsets
        lengths = self._lengths[ids]
        odd = ~blank & ((points <= 0x20) | (points > 0x7E))
        plain = (
            (_sums(odd, starts, ends) == 0)
            & (_sums(lengths == 0, offsets[:-1], offsets[1:]) == 0)
            & (_sums(lengths, offsets[:-1], offsets[1:]) == _sums(~blank, starts, ends))
        )
        ids = ids[np.repeat(plain, np.diff(offsets))]
        lengths = self._lengths[ids]
        # The tokens cover the characters of the plain words one after the other.
        covered = np.flatnonzero(~blank & np.append(False, np.repeat(plain, ends - starts + 1)))
        at = covered[np.cumsum(lengths) - lengths]
        fast = TokenPass(ids, at, ~self._continues[ids])
        if not self._agrees(fast, text, starts, ends, np.flatnonzero(plain)):
            self._nanotoken = None
            return pass_by_pieces(self._tokenizer, text)
        return _in_order(fast, self._own(text, starts, ends, np.flatnonzero(~plain)))

    def _agrees(
        self,
        fast: TokenPass,
        text: str,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        plain: NDArray[np.int64],
    ) -> bool:
        """Whether the model's own tokenizer says the same of a sample of the plain words."""
        sample = plain[:: max(1, min(_PROOF_EVERY, len(plain) // _PROVED_WORDS))]
        own = self._own(text, starts, ends, sample)
        word = np.searchsorted(starts, fast.starts, side="right") - 1
        sampled = np.isin(word, sample)
        agrees = all(
            np.array_equal(getattr(fast, part)[sampled], getattr(own, part))
            for part in ("ids", "starts", "words")
        )
        if not agrees:
            log.warning(
                "nanotoken makes other tokens of this corpus than the model's own tokenizer, which "
                "is used instead from here on"
            )
        return agrees

    def _own(
        self,
        text: str,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        chosen: NDArray[np.int64],
    ) -> TokenPass:
        """The tokens of some of the words, by the model's own tokenizer."""
        spans = zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        part = " ".join([text[start:end] for start, end in spans])
        lengths = ends[chosen] - starts[chosen] + 1
        begins = np.cumsum(lengths) - lengths
        tokens = pass_by_pieces(self._tokenizer, part)
        word = np.searchsorted(begins, tokens.starts, side="right") - 1
        shift = starts[chosen] - begins
        return TokenPass(tokens.ids, tokens.starts + shift[word], tokens.words)


def _open(tokenizer: "Tokenizer") -> Any:  # noqa: ANN401  it is not installed everywhere
    """A nanotoken.Tokenizer for the model; None where it is not installed or cannot do it."""
    try:
        import nanotoken
    except ImportError:
        return None
    try:
        return nanotoken.Tokenizer(tokenizer)
    except ValueError as error:
        log.warning("nanotoken cannot stand in for the model's own tokenizer: %s", error)
        return None


def _sums(
    values: NDArray[np.generic], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sums of values[start:end], (n,)."""
    before = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    total: NDArray[np.int64] = before[ends] - before[starts]
    return total


def _in_order(one: TokenPass, other: TokenPass) -> TokenPass:
    """The tokens of both, by their place in the text."""
    both = joined([one, other])
    order = np.argsort(both.starts, kind="stable")
    return TokenPass(both.ids[order], both.starts[order], both.words[order])
