"""The `embedding` column as arrays: matrix, norms, unit vectors and repeatable samples.

Samples have a fixed seed, so that measuring a shard twice gives the same numbers. What the
numbers mean is in `vector_metrics.py`.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Most rows that a quadratic metric looks at. Their cosine matrix is 64 MiB and takes 0.2 s on two
#: CPU cores, and they are four times more rows than a 1024-dimensional model has singular values.
SAMPLED_VECTORS = 4096

#: Most pairs that a pairwise metric looks at. The standard error of a mean cosine is then about
#: 0.001 (cosines of sentence vectors spread by some 0.15), and both sides fit in 60 MB at d = 384.
SAMPLED_PAIRS = 20_000

_SEED = 20_221_005


def embedding_matrix(embeddings: pl.Series) -> NDArray[np.float32]:
    """Vectors (n, d) float32, read-only, of a List(Float32) column; (0, 0) for no rows.

    A null, as a vector or inside one, becomes NaN. Raises ValueError when lengths differ.
    """
    lengths = embeddings.list.len().drop_nulls().unique().sort().to_list()
    if len(lengths) > 1:
        raise ValueError(
            f"vectors have lengths {lengths}, expected one length; embed the shard anew"
        )
    dimension = lengths[0] if lengths else 0
    matrix: NDArray[np.float32] = embeddings.list.to_array(dimension).to_numpy()
    return matrix


def row_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean norms (n,) of vectors (n, d); not finite exactly where the vector is not.

    Squares are summed in float64, where no finite float32 can overflow.
    """
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def sample_rows(n: int, size: int) -> NDArray[np.int64]:
    """Ascending indices of at most `size` of `n` rows, without repeats; always the same ones."""
    if n <= size:
        return np.arange(n, dtype=np.int64)
    chosen: NDArray[np.int64] = np.random.default_rng(_SEED).choice(n, size, replace=False)
    return np.sort(chosen)


def sample_pairs(n: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row indices (left, right) of pairs: each pair once if `size` suffices, else `size` draws."""
    if n * (n - 1) // 2 <= size:
        left, right = np.triu_indices(n, k=1)
        return left.astype(np.int64), right.astype(np.int64)
    random = np.random.default_rng(_SEED)
    first = random.integers(0, n, size)
    second = random.integers(0, n - 1, size)
    # Stepping over `first` leaves each of the other rows equally likely.
    return first, second + (second >= first)


def sample_directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit-length rows (m, d), m <= SAMPLED_VECTORS, of the vectors (n, d) that have a direction.

    Vectors that are zero or not finite have none and are left out.
    """
    norms = row_norms(vectors)
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    chosen = usable[sample_rows(len(usable), SAMPLED_VECTORS)]
    scaled: NDArray[np.float32] = (vectors[chosen] / norms[chosen, None]).astype(np.float32)
    return scaled


def sample_cosines(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of at most SAMPLED_PAIRS pairs of distinct rows of vectors (n, d); none for n < 2."""
    directions = sample_directions(vectors)
    left, right = sample_pairs(len(directions), SAMPLED_PAIRS)
    cosines: NDArray[np.float64] = np.einsum(
        "ij,ij->i", directions[left], directions[right], dtype=np.float64
    )
    return np.clip(cosines, -1.0, 1.0)
