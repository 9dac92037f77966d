"""Tokenize words by their distinct pieces between punctuation, for BERT's WordPiece."""

import string
from typing import TYPE_CHECKING

import numpy as np

from embed_assets.chunking.distinct_strings import (
    begins_word,
    character_offsets,
    distinct_strings,
    taken_ranges,
)
from embed_assets.chunking.document_tokens import TokenPass, token_pass

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PUNCTUATION = np.zeros(256, dtype=bool)
_PUNCTUATION[[ord(c) for c in string.punctuation]] = True


def pass_by_pieces(tokenizer: "Tokenizer", text: str) -> TokenPass:
    """The bare tokens of a text, from those of its distinct pieces between blanks and punctuation.

    Words are mostly other words with punctuation around them, which is a token by itself.
    """
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    # Punctuation beside anything but plain ASCII stays with it: accents and the like.
    plain, mark = (data > 0x20) & (data < 0x7F), _PUNCTUATION[data]
    begins = begins_word(data)
    begins[1:-1] |= plain[:-1] & plain[1:] & (mark[:-1] | mark[1:])
    starts = np.flatnonzero(begins)
    distinct, which = distinct_strings(data, starts)
    lengths = distinct.str.len_chars().to_numpy().astype(np.int64) + 1
    origins = np.cumsum(lengths) - lengths
    tokens = token_pass(tokenizer, " ".join(distinct.to_list()))
    first = np.searchsorted(np.maximum.accumulate(tokens.starts), np.append(origins, lengths.sum()))
    taken, counts = taken_ranges(first, which)
    shift = character_offsets(data, starts[:-1]) - origins[which]
    return TokenPass(
        tokens.ids[taken], tokens.starts[taken] + np.repeat(shift, counts), tokens.words[taken]
    )
