"""Exact search over a stream of vectors: the best documents of each query, in bounded memory.

Order is total, so that a run can be repeated: by score, and equal scores by the documents' rank.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.evaluation.text_embedder import Passages

if TYPE_CHECKING:
    import torch

# Scores held at once, 64 MB, whatever the sizes of the two sides.
_SCORES_PER_SLICE = 1 << 24


class BestDocuments:
    """The `n_best` documents of each query among those added so far.

    A score and a document's rank stand together in one int64: the score's bits, in an order that
    integers have too, above the rank's. Comparing two of them compares score first, then rank.
    """

    def __init__(
        self, queries: NDArray[np.float32], ranks: NDArray[np.int64], n_best: int, device: str
    ) -> None:
        """`queries` (q, d) and all vectors added have length 1. `ranks` (n_documents,) is a
        permutation: of two documents with equal scores the one of higher rank is the better.
        """
        import torch

        self._device = device
        self._queries = torch.from_numpy(queries).to(device)
        self._ranks = torch.from_numpy(ranks).to(device)
        self._n_best = n_best
        self._best = torch.empty((len(queries), 0), dtype=torch.int64, device=device)

    def add(self, passages: Passages) -> None:
        """Compare every query with some more documents, each by its best passage."""
        import torch

        if not len(passages.vectors):
            return
        vectors = torch.from_numpy(passages.vectors).to(self._device)
        found, columns = np.unique(passages.documents, return_inverse=True)
        ranks = self._ranks[torch.from_numpy(found).to(self._device)]
        column_of = torch.from_numpy(columns).to(self._device)
        n_queries = max(1, _SCORES_PER_SLICE // len(vectors))
        merged = []
        for start in range(0, len(self._queries), n_queries):
            rows = slice(start, start + n_queries)
            scores = self._queries[rows] @ vectors.T
            if len(found) < len(vectors):
                scores = _best_of_each(scores, column_of, len(found))
            merged.append(self._merged(self._best[rows], scores, ranks))
        self._best = torch.cat(merged)

    def _merged(
        self, best: "torch.Tensor", scores: "torch.Tensor", ranks: "torch.Tensor"
    ) -> "torch.Tensor":
        """The best keys (q, n) with those of more scores (q, n_documents) merged in."""
        import torch

        # Only what is as good as the last of the best: soon nearly nothing, and sorting costs more
        # than multiplying.
        if best.shape[1] == self._n_best:
            least = _parts(best[:, -1])[0]
        else:
            n = min(self._n_best, scores.shape[1])
            least = scores.topk(n, dim=1).values[:, -1]
        rows, columns = (scores >= least[:, None]).nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(scores))
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        found = best.new_full((len(scores), int(counts.max())), torch.iinfo(torch.int64).min)
        found[rows, place] = _keys(scores[rows, columns], ranks[columns])
        n_best = min(self._n_best, best.shape[1] + scores.shape[1])
        return torch.cat([best, found], dim=1).topk(n_best, dim=1).values

    def ranking(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosines and documents, (q, n) each, best first; n is n_best or all there are."""
        import torch

        document_of = torch.empty_like(self._ranks)
        document_of[self._ranks] = torch.arange(len(self._ranks), device=self._device)
        scores, ranks = _parts(self._best)
        return scores.cpu().numpy(), document_of[ranks].cpu().numpy()


def _best_of_each(
    scores: "torch.Tensor", column_of: "torch.Tensor", n_columns: int
) -> "torch.Tensor":
    """Scores (q, passages) -> (q, documents): the highest of each document."""
    best = scores.new_full((len(scores), n_columns), -np.inf)
    return best.scatter_reduce_(1, column_of.expand_as(scores), scores, "amax")


def _keys(scores: "torch.Tensor", ranks: "torch.Tensor") -> "torch.Tensor":
    import torch

    # Adding 0 makes -0 into 0, which is as good. Of negative floats the larger has smaller bits.
    bits = (scores + 0.0).view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    return (ordered << 32) | ranks


def _parts(keys: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Scores and ranks of keys."""
    import torch

    ordered = (keys >> 32).to(torch.int32)
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return bits.view(torch.float32), keys & 0xFFFFFFFF
