"""Digests of many rows at once: text hashes and chunk ids. BLAKE3, of which 128 bits are kept.

Beside `digests`, which a bare GPU machine without polars imports.
"""

import polars as pl
import polars_hash as plh

_HEX_CHARS = 32


def text_hashes(texts: pl.Series) -> pl.Series:
    """Hex digest (32 characters) of each text's UTF-8 bytes, (n,)."""
    hashes = plh.col(texts.name).chash.blake3().str.head(_HEX_CHARS)
    return texts.to_frame().select(hashes).to_series()


def row_digests(frame: pl.DataFrame) -> pl.Series:
    """Hex digest (32 characters) of each row's columns in order, (n,)."""
    texts = [pl.col(name).cast(pl.String) for name in frame.columns]
    framed = [pl.format("{}:{}", text.str.len_bytes(), text) for text in texts]
    return text_hashes(frame.select(pl.concat_str(framed)).to_series())
