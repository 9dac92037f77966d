"""Texts to compare two encoders by: English prose of many lengths, at hand wherever Python is."""

from collections.abc import Callable

import numpy as np

from embed_assets.embedding.token_rows import TokenRows

_N_TEXTS = 64
#: Texts over which tokenizers disagree: blanks, case, accents, scripts, names of special tokens.
HARD_TEXTS = (
    "A plain sentence, and another one.",
    "  blanks\tbefore \n\n and behind  ",
    "no-break\u00a0space, zero\u200bwidth, soft\u00adhyphen, carriage\r\nreturn, nul\x00",
    "ÀÉÎõü Straße ﬁne ½ I\u0307stanbul e\u0301",
    "漢字かな交じり文。한국어 ไทย हिन्दी العربية",
    "👩\u200d👩\u200d👧 \U0001f1e9\U0001f1ea",
    "[CLS] [SEP] [MASK] <s> </s> <|endoftext|> <pad>",
    "x" * 300,
    "one word after another " * 400,
)


def probe_tokens(token_ids: Callable[[str], list[int]], every: int = 1) -> TokenRows:
    """64 texts of Python's own documentation, 40 to 2,560 characters; or one of `every` so many."""
    from pydoc_data.topics import topics

    texts = [text[: 40 * (i + 1)] for i, text in enumerate(list(topics.values())[:_N_TEXTS])]
    ids = [np.asarray(token_ids(text), dtype=np.int32) for text in texts[::every]]
    return TokenRows(np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64))
