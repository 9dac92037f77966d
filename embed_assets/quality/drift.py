"""How far vectors moved: against the vectors that another model made of the same texts, and
against the corpus as it was. Pure.

Vectors of two models have no common axes, so they are compared by what each says about which texts
are alike. Each model's vectors (n, d) of the same n texts; d may differ.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets.quality.vector_metrics import effective_rank
from embed_assets.quality.vectors import embedding_matrix, row_norms, sample_pairs

#: Neighbours of a text that are compared.
NEIGHBOURS = 10
#: Fewer common texts than this have no neighbourhoods to speak of.
LEAST_TEXTS = 3 * NEIGHBOURS
_PAIRS = 20_000


@dataclass(frozen=True, slots=True)
class ModelDrift:
    """The same `n_texts` texts under an earlier fingerprint and the present one.

    `before` and `after` are the cosines (m,) of the same m pairs of texts.
    """

    earlier_fingerprint: str
    n_texts: int
    neighbour_overlap: float
    similarity_correlation: float
    effective_ranks: tuple[float, float]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def numbers(self) -> dict[str, float]:
        """What the report shows and Dagster plots."""
        return {
            "drift_texts": float(self.n_texts),
            "drift_neighbour_overlap": self.neighbour_overlap,
            "drift_similarity_correlation": self.similarity_correlation,
            "drift_mean_pairwise_cosine": float(self.after.mean() - self.before.mean()),
            "drift_effective_rank": self.effective_ranks[1] - self.effective_ranks[0],
        }


def model_drift(
    earlier_fingerprint: str, before: pl.DataFrame, now: pl.DataFrame
) -> ModelDrift | None:
    """Compare two frames with text_hash and embedding; None with fewer than LEAST_TEXTS in common.

    Texts whose vector has no direction in one of the two are left out.
    """
    both = now.join(before, on="text_hash", suffix="_before").sort("text_hash")
    old, new = (embedding_matrix(both[name]) for name in ("embedding_before", "embedding"))
    norms = np.stack([row_norms(old), row_norms(new)])
    usable = (np.isfinite(norms) & (norms > 0)).all(axis=0)
    if usable.sum() < LEAST_TEXTS:
        return None
    before_units: NDArray[np.float64] = old[usable] / norms[0, usable, None]
    units: NDArray[np.float64] = new[usable] / norms[1, usable, None]
    left, right = sample_pairs(len(units), _PAIRS)
    cosines = [
        np.clip(np.einsum("ij,ij->i", vectors[left], vectors[right]), -1.0, 1.0)
        for vectors in (before_units, units)
    ]
    ranks = [effective_rank(vectors.astype(np.float32)) or 0.0 for vectors in (before_units, units)]
    return ModelDrift(
        earlier_fingerprint,
        len(units),
        neighbour_overlap(before_units, units),
        rank_correlation(cosines[0], cosines[1]),
        (ranks[0], ranks[1]),
        cosines[0],
        cosines[1],
    )


def neighbour_overlap(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Mean share of a text's NEIGHBOURS nearest texts that are the same before and after.

    Unit vectors (n, d) and (n, e) of the same texts, n > NEIGHBOURS. 1 if search finds the same
    texts, about NEIGHBOURS / n by chance. Mutual k-nearest-neighbour alignment, arXiv 2405.07987.
    """
    old, new = (_nearest(vectors) for vectors in (before, after))
    same = (old[:, :, None] == new[:, None, :]).any(axis=2)
    return float(same.mean())


def _nearest(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows (n, NEIGHBOURS) of the nearest other rows, in no order."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    nearest: NDArray[np.int64] = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return nearest


def rank_correlation(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Spearman's correlation of the cosines (m,) of the same pairs; 0 where one is constant.

    1 if both put all pairs in the same order of likeness: representational similarity analysis,
    Kriegeskorte et al. 2008, doi 10.3389/neuro.06.004.2008.
    """
    pairs = pl.DataFrame({"before": before, "after": after})
    correlation: float = pairs.select(pl.corr("before", "after", method="spearman")).item()
    return 0.0 if math.isnan(correlation) else correlation


def corpus_drift(before: pl.DataFrame, now: pl.DataFrame, size: int) -> dict[str, float]:
    """The corpus then and now under one fingerprint; empty where either has no vectors.

    `drift_centroid_distance` is the cosine distance (0 to 2) between the mean directions, and
    `drift_new_text_share` the share of texts that were not there. Frames with text_hash and
    embedding of the `size` texts with the smallest hashes, or of all texts where there are fewer.
    Up to the greatest hash of a full one both hold all that their corpus has, which makes the share
    an unbiased estimate (bottom-k sketches, Cohen & Kaplan 2007).
    """
    if before.is_empty() or now.is_empty():
        return {}
    means = [_mean_direction(frame) for frame in (before, now)]
    lengths = [float(np.linalg.norm(mean)) for mean in means]
    numbers = {}
    if min(lengths) > 0.0:
        cosine = float(means[0] @ means[1]) / (lengths[0] * lengths[1])
        numbers["drift_centroid_distance"] = max(0.0, 1.0 - cosine)
    comparable = now
    for frame in (before, now):
        if frame.height >= size:
            comparable = comparable.filter(pl.col("text_hash") <= str(frame["text_hash"].max()))
    if comparable.height:
        n_new = comparable.join(before, on="text_hash", how="anti").height
        numbers["drift_new_text_share"] = n_new / comparable.height
    return numbers


def _mean_direction(frame: pl.DataFrame) -> NDArray[np.float64]:
    vectors = embedding_matrix(frame["embedding"])
    norms = row_norms(vectors)
    usable = np.isfinite(norms) & (norms > 0)
    mean: NDArray[np.float64] = (vectors[usable] / norms[usable, None]).sum(axis=0)
    return mean
