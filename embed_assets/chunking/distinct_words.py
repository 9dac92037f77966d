"""Tokenize a text by its distinct words: the same tokens, for a fraction of the work.

A token of BERT's WordPiece never depends on what stands beyond a blank, nor, within a word, beyond
plain punctuation. So each distinct word is tokenized once, by its distinct pieces in turn.
"""

import re
import string
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from embed_assets.chunking.distinct_strings import begins_word, pass_by_distinct
from embed_assets.chunking.document_tokens import TokenPass, joined, shifted, token_pass

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Characters of a text taken at once: what is held beside the tokens is some ten bytes for each.
_PART_CHARS = 4_000_000
_WORD_END = re.compile(r"[ \t\n\r](?=[^ \t\n\r])")
_PUNCTUATION = np.zeros(256, dtype=bool)
_PUNCTUATION[[ord(c) for c in string.punctuation]] = True


def pass_by_words(tokenizer: "Tokenizer", text: str) -> TokenPass:
    """The bare tokens of a text that has no word longer than LONGEST_WORD."""
    by_pieces = partial(_pass_by_pieces, tokenizer)
    parts = []
    for start, end in _parts(text):
        data = np.frombuffer(text[start:end].encode(), dtype=np.uint8)
        parts.append(shifted(pass_by_distinct(by_pieces, data, begins_word(data)), start))
    return joined(parts)


def _pass_by_pieces(tokenizer: "Tokenizer", text: str) -> TokenPass:
    """The same from the distinct pieces between blanks and punctuation: words are mostly other
    words with punctuation around them, which is a token by itself.
    """
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    # Punctuation beside anything but plain ASCII stays with it: accents and the like.
    plain, mark = (data > 0x20) & (data < 0x7F), _PUNCTUATION[data]
    begins = begins_word(data)
    begins[1:-1] |= plain[:-1] & plain[1:] & (mark[:-1] | mark[1:])
    return pass_by_distinct(partial(token_pass, tokenizer), data, begins)


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Parts (start, end) that cover the text, all but the first beginning with a word."""
    start = 0
    while found := _WORD_END.search(text, start + _PART_CHARS):
        yield start, found.end()
        start = found.end()
    yield start, len(text)
