"""Tokenize texts by nanotoken, many times faster, where its tokens stand in the text for sure.

The optional extra `fast`. nanotoken gives ids without offsets. Of words of printable ASCII these
follow from the tokens' own texts, and every token is compared with the text at its place. All
other words go to the model's own tokenizer.
"""

import json
import string
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.distinct_strings import is_blank
from embed_assets.chunking.distinct_words import pass_by_words
from embed_assets.chunking.document_tokens import TokenPass
from embed_assets.chunking.text_groups import TextGroup

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPACE = 0x20
# Words that nanotoken remembers, for each thread that ever called it: with its own limit of a
# million every new thread took some 15 MB.
_CACHE_ENTRIES = 1 << 16
# What a byte of ASCII is to BERT's pre-tokenizer. Every mark is a piece by itself.
_BLANK, _LETTER, _MARK = range(3)
_ROLES = bytes(
    _BLANK if chr(code) in " \t\n\r" else _MARK if chr(code) in string.punctuation else _LETTER
    for code in range(256)
)


class FastWords:
    """Gives the bare tokens of texts, as `pass_by_words` does. Raises ImportError where nanotoken
    is not installed, and ValueError where it cannot stand in for the tokenizer.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        import nanotoken

        nanotoken.set_cache_entries(_CACHE_ENTRIES)
        self._tokenizer = tokenizer
        self._nanotoken: Any = nanotoken.Tokenizer(tokenizer)
        parts = json.loads(tokenizer.to_str())
        self._lowercases = bool(parts["normalizer"]["lowercase"])
        prefix, unknown = parts["model"]["continuing_subword_prefix"], parts["model"]["unk_token"]
        vocabulary = parts["model"]["vocab"]
        n = 1 + max(vocabulary.values(), default=0)
        # How much of its piece a token covers, and how that begins; 0 for what covers all of it.
        self._lengths = np.zeros(n, dtype=np.int64)
        self._initials = np.zeros(n, dtype=np.uint8)
        self._begins = np.ones(n, dtype=bool)
        for token, number in vocabulary.items():
            if token != unknown:
                covered = token.removeprefix(prefix)
                self._begins[number] = not token.startswith(prefix)
                self._lengths[number] = len(covered)
                self._initials[number] = min(ord(covered[:1] or "\0"), 0x7F)

    def __call__(self, group: TextGroup) -> TokenPass | None:
        """The tokens of texts that have no word longer than LONGEST_WORD; None where those that
        nanotoken gives do not stand in them.
        """
        starts, ends = _odd_words(group.kinds)
        if not len(starts):
            return self._plain(group.kinds.tobytes())
        text, spans = group.text, zip(starts.tolist(), ends.tolist(), strict=True)
        plain = group.kinds.copy()
        plain[_ranges(starts, ends)] = _SPACE
        fast = self._plain(plain.tobytes())
        if fast is None:
            return None
        own = pass_by_words(self._tokenizer, " ".join([text[start:end] for start, end in spans]))
        lengths = ends - starts + 1
        begins = np.cumsum(lengths) - lengths
        word = np.searchsorted(begins, own.starts, side="right") - 1
        own = TokenPass(own.ids, own.starts + (starts - begins)[word], own.words)
        return _in_order(fast, own)

    def _plain(self, text: bytes) -> TokenPass | None:
        """The tokens of a text of printable ASCII."""
        rows = self._nanotoken.encode_batch([text.decode("ascii")], add_special_tokens=False)
        # Numpy looks up by 64-bit numbers, and `take` does so at half the cost of brackets.
        at = rows.ids.astype(np.int64)
        roles = np.frombuffer(text.translate(_ROLES), dtype=np.uint8)
        pieces = _piece_starts(roles)
        begins = self._begins.take(at)
        first = np.flatnonzero(begins)
        if len(first) != len(pieces) or (len(at) and not begins[0]):
            return None
        lengths = self._lengths.take(at)
        starts = np.cumsum(lengths) - lengths
        starts += np.repeat(pieces - starts.take(first), np.diff(first, append=len(at)))
        if not self._stand_in(text, roles, at, starts, lengths):
            return None
        return TokenPass(rows.ids.astype(np.int32), starts, begins)

    def _stand_in(
        self,
        text: bytes,
        roles: NDArray[np.uint8],
        ids: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> bool:
        """Whether each token begins as the text does at its place, and together they cover it."""
        characters = np.frombuffer(text.lower() if self._lowercases else text, dtype=np.uint8)
        unknown = lengths == 0
        if int(starts.max(initial=0)) >= max(1, len(characters)):
            return False
        as_text = (characters.take(starts) == self._initials.take(ids)) | unknown
        n_covered = int(lengths.sum())
        if unknown.any():
            ends = _piece_ends(roles)
            at = starts[unknown]
            n_covered += int((ends[np.searchsorted(ends, at, side="right")] - at).sum())
        return bool(as_text.all()) and n_covered == int(np.count_nonzero(roles))


def _odd_words(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the words between blanks begin and end that are not wholly of printable ASCII."""
    blank = is_blank(kinds)
    odd = ~blank & ((kinds < _SPACE) | (kinds > 0x7E))
    if not odd.any():
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    edges = np.flatnonzero(np.diff(blank, prepend=True, append=True))
    starts, ends = edges[::2], edges[1::2]
    word = np.unique(np.searchsorted(starts, np.flatnonzero(odd), side="right") - 1)
    return starts[word], ends[word]


def _ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from starts[i] up to ends[i], for each i one after the other."""
    lengths = ends - starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _piece_starts(roles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where pieces begin: at every mark, and at a letter that follows none."""
    begins = roles == _MARK
    letter = roles == _LETTER
    begins[:1] |= letter[:1]
    begins[1:] |= letter[1:] & ~letter[:-1]
    return np.flatnonzero(begins)


def _piece_ends(roles: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where pieces end: behind every mark, and behind a letter that no other follows."""
    ends = roles == _MARK
    letter = roles == _LETTER
    ends[-1:] |= letter[-1:]
    ends[:-1] |= letter[:-1] & ~letter[1:]
    return np.flatnonzero(ends) + 1


def _in_order(one: TokenPass, other: TokenPass) -> TokenPass:
    """The tokens of both, by their place in the text; of the other there are few."""
    at = np.searchsorted(one.starts, other.starts)
    return TokenPass(
        np.insert(one.ids, at, other.ids),
        np.insert(one.starts, at, other.starts),
        np.insert(one.words, at, other.words),
    )
