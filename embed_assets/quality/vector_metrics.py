"""What a set of vectors is like: collapsed or spread, repeated or distinct. Pure numpy.

Each function takes vectors (n, d) float32, leaves out those that are not finite, and returns None
where too few remain for the number to mean anything.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality.vectors import (
    SAMPLED_VECTORS,
    row_norms,
    sample_cosines,
    sample_directions,
    sample_rows,
)

#: Two different texts with a cosine above this are near-duplicates: boilerplate with another date.
NEAR_DUPLICATE_COSINE = 0.99


def non_finite_share(vectors: NDArray[np.float32]) -> float:
    """Share of vectors with a NaN or an infinity anywhere; 0 for no vectors."""
    if len(vectors) == 0:
        return 0.0
    return float(np.mean(~np.isfinite(row_norms(vectors))))


def norm_metrics(vectors: NDArray[np.float32]) -> dict[str, float]:
    """Least, mean and greatest Euclidean norm of the finite vectors; empty if there are none."""
    norms = row_norms(vectors)
    norms = norms[np.isfinite(norms)]
    if len(norms) == 0:
        return {}
    return {
        "norm_min": float(norms.min()),
        "norm_mean": float(norms.mean()),
        "norm_max": float(norms.max()),
    }


def near_duplicate_share(vectors: NDArray[np.float32], text_hashes: pl.Series) -> float:
    """Share of distinct texts whose nearest other text has a cosine above NEAR_DUPLICATE_COSINE.

    Equal texts (same hash, one per row of vectors) count once, as `duplicate_text_share` has them.
    Only SAMPLED_VECTORS texts are compared; with more, pairs are missed and this is a lower bound.
    """
    distinct = text_hashes.arg_unique().sort().to_numpy()
    directions = sample_directions(vectors[distinct[sample_rows(len(distinct), SAMPLED_VECTORS)]])
    if len(directions) < 2:
        return 0.0
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -1.0)
    return float(np.mean(cosines.max(axis=1) > NEAR_DUPLICATE_COSINE))


def mean_pairwise_cosine(vectors: NDArray[np.float32]) -> float | None:
    """Mean cosine over all pairs of different rows, exact in O(n d); None for fewer than two.

    Near 1 means collapsed: every text looks alike. With unit vectors u_i and their sum s,
    |s|^2 = sum_i u_i.u_i + sum_{i != j} u_i.u_j = n + (sum over ordered pairs), so that the mean
    over the n (n - 1) ordered pairs is (|s|^2 - n) / (n (n - 1)).
    """
    norms = row_norms(vectors)
    usable = np.isfinite(norms) & (norms > 0)
    n = int(usable.sum())
    if n < 2:
        return None
    finite = vectors if n == len(vectors) else vectors[usable]
    # float64 sums without a float64 copy of the matrix: einsum casts block by block.
    total: NDArray[np.float64] = np.einsum("i,ij->j", 1.0 / norms[usable], finite)
    mean = (float(total @ total) - n) / (n * (n - 1))
    return min(1.0, max(-1.0, mean))


def uniformity(vectors: NDArray[np.float32]) -> float | None:
    """Log of the mean Gaussian potential exp(-2 |x - y|^2) over sampled pairs of unit vectors.

    0 if all vectors are one, about -4 + 8/d if spread evenly over a sphere in d dimensions; None
    for fewer than two. L_uniform with t = 2, Wang & Isola, arXiv 2005.10242.
    """
    cosines = sample_cosines(vectors)
    if len(cosines) == 0:
        return None
    squared_distances = 2.0 - 2.0 * cosines
    return float(np.log(np.mean(np.exp(-2.0 * squared_distances))))


def effective_rank(vectors: NDArray[np.float32]) -> float | None:
    """Exp of the entropy of the normalised singular values: how many dimensions are really used.

    1 if all vectors lie on one line, min(n, d) at most; None without a finite, non-zero vector.
    Of at most SAMPLED_VECTORS rows. RankMe, arXiv 2210.02885, with 0 log 0 = 0 in place of its
    added epsilon of 1e-7.
    """
    finite = vectors[sample_rows(len(vectors), SAMPLED_VECTORS)]
    finite = finite[np.isfinite(row_norms(finite))].astype(np.float64)
    if not finite.any():
        return None
    # Squared singular values are the eigenvalues of the smaller Gram matrix: 0.03 s for
    # (4096, 384), where an SVD takes half a second.
    gram = finite.T @ finite if len(finite) > finite.shape[1] else finite @ finite.T
    singular_values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    # What rounding leaves of an eigenvalue 0 comes out at 1e-8 of the largest singular value.
    singular_values = singular_values[singular_values > 1e-7 * singular_values.max()]
    shares = singular_values / singular_values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))
