"""Search block by block finds what a full matrix of scores finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.evaluation import best_documents
from embed_assets.evaluation.best_documents import BestDocuments
from embed_assets.evaluation.text_embedder import Passages, unit_vectors

N_BEST = 7


def some_vectors(n: int, seed: int) -> NDArray[np.float32]:
    # Few directions: many pairs have exactly the same cosine, and some have -0.
    vectors = np.random.default_rng(seed).integers(-1, 2, (n, 4)).astype(np.float32)
    return unit_vectors(vectors, "fp32")


def searched(
    queries: NDArray[np.float32], passages: Passages, ranks: NDArray[np.int64], block: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    best = BestDocuments(queries, ranks, N_BEST, "cpu")
    for first in range(0, len(ranks), block):
        own = (first <= passages.documents) & (passages.documents < first + block)
        best.add(Passages(passages.vectors[own], passages.documents[own]))
    return best.ranking()


@pytest.mark.parametrize("block", [1, 9, 1000])
@pytest.mark.parametrize("n_passages", [4, 60, 500])
def test_any_blocks_give_the_ranking_of_the_full_matrix(
    n_passages: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_documents, "_SCORES_PER_SLICE", 64)
    random = np.random.default_rng(n_passages)
    queries, vectors = some_vectors(11, 1), some_vectors(n_passages, 2)
    # Documents of one passage, of several, and of none.
    documents = np.sort(random.integers(0, n_passages, n_passages))
    ranks = random.permutation(n_passages)

    scores, found = searched(queries, Passages(vectors, documents), ranks, block)

    full = np.full((len(queries), n_passages), -np.inf, dtype=np.float32)
    for passage, document in enumerate(documents):
        cosines = np.array([np.dot(query, vectors[passage]) for query in queries])
        full[:, document] = np.maximum(full[:, document], cosines)
    for own, own_scores, own_found in zip(full, scores, found, strict=True):
        n = min(N_BEST, len(np.unique(documents)))
        assert len(own_found) == n
        np.testing.assert_allclose(own_scores, own[own_found], atol=1e-6)
        np.testing.assert_allclose(own_scores, np.sort(own)[::-1][:n], atol=1e-6)
        # Equal scores: the higher rank first.
        pairs = list(zip(own_scores.tolist(), ranks[own_found].tolist(), strict=True))
        assert pairs == sorted(pairs, reverse=True)


def test_documents_of_equal_vectors_come_by_rank() -> None:
    vectors = np.repeat(some_vectors(1, 3), 20, axis=0)
    ranks = np.random.default_rng(0).permutation(20)
    for query in (vectors[:1], -vectors[:1]):
        _, found = searched(query, Passages(vectors, np.arange(20)), ranks, 6)
        assert ranks[found[0]].tolist() == [19, 18, 17, 16, 15, 14, 13]


def test_no_documents_at_all_find_nothing() -> None:
    best = BestDocuments(some_vectors(3, 1), np.arange(5), N_BEST, "cpu")
    best.add(Passages(np.empty((0, 4), np.float32), np.empty(0, np.int64)))
    scores, found = best.ranking()
    assert scores.shape == found.shape == (3, 0)
