"""Texts as one: a pass over the whole of them costs the same for ten books and a thousand notes.

For tokenizers whose tokens never reach beyond a blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed_assets.chunking.boundaries import characters, cut_levels, on_new_character
from embed_assets.chunking.distinct_strings import is_blank
from embed_assets.chunking.document_tokens import DocumentTokens, TokenPass, on_characters

#: Longest word, in characters. Far below half a stretch of the ordinary pass, so that a text of
#: such words has no stretch that tears one.
LONGEST_WORD = 8_192
_PART = LONGEST_WORD // 2


@dataclass(frozen=True)
class TextGroup:
    """`texts` joined by line ends, and where each begins, (n_texts + 1,); the last is where one
    more would.
    """

    texts: Sequence[str]

    @cached_property
    def text(self) -> str:
        """All of them, one after the other."""
        return "\n".join(self.texts)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Character offsets (n_texts + 1,) at which texts begin; one more would at the last."""
        return np.cumsum([0, *(len(text) + 1 for text in self.texts)], dtype=np.int64)

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """The `characters` of `text`."""
        return characters(self.text)

    def overlong(self) -> NDArray[np.bool_]:
        """Which texts (n_texts,) have a word longer than LONGEST_WORD."""
        found = np.zeros(len(self.texts), dtype=bool)
        blank = is_blank(self.kinds)
        # A word that is too long fills one of these wholly, and hardly any text has one.
        parts = blank[: len(blank) // _PART * _PART].reshape(-1, _PART)
        if parts.any(axis=1).all():
            return found
        ends = np.concatenate(([-1], np.flatnonzero(blank), [len(blank)]))
        torn = ends[:-1][np.diff(ends) > LONGEST_WORD + 1]
        found[np.searchsorted(self.starts, torn + 1, side="right") - 1] = True
        return found

    def split(self, tokens: TokenPass) -> list[DocumentTokens]:
        """The tokens of each text, from those of all, with how good a cut before each is."""
        at = on_characters(self.kinds, tokens.starts)
        words = tokens.words & on_new_character(at)
        levels = cut_levels(self.kinds, at, words, self.starts[:-1])
        bounds = np.searchsorted(at, self.starts)
        at -= np.repeat(self.starts[:-1], np.diff(bounds))
        none = np.empty(0, dtype=np.int64)
        return [
            DocumentTokens(
                tokens.ids[low:high], at[low:high], words[low:high], levels[low:high], none
            )
            for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]
