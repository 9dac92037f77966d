"""The tokens of documents, by the fastest way that is exact for the model's tokenizer.

Some ways hold for every corpus by how a tokenizer is made, which is read from its file; what it
really does is compared with them as chunks are made, and the first difference ends a way's use.
"""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from embed_assets.chunking.distinct_words import pass_by_words
from embed_assets.chunking.document_tokens import DocumentTokens, TokenPass, tokenize
from embed_assets.chunking.fast_words import FastWords
from embed_assets.chunking.text_groups import TextGroup

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_TokenizeTexts = Callable[[Sequence[str]], list[DocumentTokens] | None]
_PassOver = Callable[[TextGroup], TokenPass | None]


@dataclass(frozen=True, slots=True)
class Way:
    """`tokenize` gives each text's tokens without special ones, or None where it cannot vouch for
    them. `slices`: a slice of them, cut between words, is what the slice's own text has.
    """

    name: str
    tokenize: _TokenizeTexts
    slices: bool


class Tokenization:
    """The ways of one tokenizer, of which the fastest is in use."""

    def __init__(self, tokenizer: "Tokenizer", prompt: str) -> None:
        self._ways = _ways(tokenizer, prompt)

    @property
    def way(self) -> Way:
        """The one in use. Another thread may find a fault with it at any time."""
        return self._ways[0]

    def doubt(self, way: Way) -> None:
        """Go on with the next, for a chunk was found to have other tokens than this one gave."""
        if way is self.way:
            self._ways = self._ways[1:]
            log.warning(
                "%s: these are not the tokens that the model's tokenizer makes of a chunk's own "
                "text; from here on: %s",
                way.name,
                self.way.name,
            )


def _ways(tokenizer: "Tokenizer", prompt: str) -> list[Way]:
    """All ways that are exact for a tokenizer as far as its file tells, the fastest first."""
    parts = json.loads(tokenizer.to_str())
    in_one_go = partial(tokenize, tokenizer)
    ways = [Way("each chunk tokenized by itself", in_one_go, slices=False)]
    if not _is_sliceable(parts, prompt):
        return ways
    ways.insert(0, Way("documents tokenized in one go", in_one_go, slices=True))
    if not _knows_words(parts):
        return ways
    # Texts that hold one of the tokenizer's added tokens, such as "[SEP]", are no plain words.
    texts = [re.escape(token["content"]) for token in parts["added_tokens"]]
    added = re.compile("|".join(texts) or "(?!)")
    by_words = partial(
        _tokenize_words, tokenizer, added, lambda group: pass_by_words(tokenizer, group.text)
    )
    ways.insert(0, Way("documents tokenized by their distinct words", by_words, slices=True))
    fast = _fast_words(tokenizer)
    if fast is not None:
        by_nanotoken = partial(_tokenize_words, tokenizer, added, fast)
        ways.insert(0, Way("documents tokenized by nanotoken", by_nanotoken, slices=True))
    return ways


def _tokenize_words(
    tokenizer: "Tokenizer", added: re.Pattern[str], pass_over: _PassOver, texts: Sequence[str]
) -> list[DocumentTokens] | None:
    """All texts at once, but for those of which no blank-delimited word stands for itself."""
    plain = [i for i, text in enumerate(texts) if not added.search(text)]
    group = TextGroup([texts[i] for i in plain])
    overlong = group.overlong()
    if overlong.any():
        plain = [i for i, too_long in zip(plain, overlong, strict=True) if not too_long]
        group = TextGroup([texts[i] for i in plain])
    tokens = pass_over(group)
    if tokens is None:
        return None
    found = dict(zip(plain, group.split(tokens), strict=True))
    others = [i for i in range(len(texts)) if i not in found]
    found |= zip(others, tokenize(tokenizer, [texts[i] for i in others]), strict=True)
    return [found[i] for i in range(len(texts))]


def _fast_words(tokenizer: "Tokenizer") -> FastWords | None:
    try:
        return FastWords(tokenizer)
    except ImportError:
        return None
    except ValueError as error:
        log.warning("nanotoken cannot stand in for the model's own tokenizer: %s", error)
        return None


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
    return bool(parts["normalizer"]["clean_text"]) and not any(
        token["normalized"] for token in parts["added_tokens"]
    )
