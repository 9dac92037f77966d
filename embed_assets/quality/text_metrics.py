"""What a shard's chunks are like as texts: lengths, repeats, and whether each has its vector."""

import numpy as np
import polars as pl

_PERCENTILES = (5, 50, 95, 99)


def duplicate_text_share(text_hashes: pl.Series) -> float:
    """Share of chunks that repeat another chunk's text: 1 - distinct / n; 0 for no chunks."""
    if len(text_hashes) == 0:
        return 0.0
    return 1.0 - text_hashes.n_unique() / len(text_hashes)


def token_length_metrics(n_tokens: pl.Series) -> dict[str, float]:
    """Percentiles (linear interpolation), greatest and mean chunk length in tokens.

    Special tokens count, as in `chunks.n_tokens`. Empty for no chunks.
    """
    if len(n_tokens) == 0:
        return {}
    lengths = n_tokens.to_numpy()
    values = np.percentile(lengths, _PERCENTILES)
    return {
        **{f"tokens_p{p}": float(value) for p, value in zip(_PERCENTILES, values, strict=True)},
        "tokens_max": float(lengths.max()),
        "tokens_mean": float(lengths.mean(dtype=np.float64)),
    }


def coverage(chunk_ids: pl.Series, embedded_chunk_ids: pl.Series) -> float:
    """Share of chunks that have exactly one vector; 1 for no chunks, since none lacks one."""
    if len(chunk_ids) == 0:
        return 1.0
    counts = embedded_chunk_ids.value_counts(name="n_vectors")
    once = counts.filter(pl.col("n_vectors") == 1)[embedded_chunk_ids.name]
    return float(chunk_ids.is_in(once.implode()).sum()) / len(chunk_ids)
