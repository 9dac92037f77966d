"""Score a model on a retrieval set: embed, search exactly, compare with the judgements."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embed_assets.evaluation.beir import BeirSet
from embed_assets.evaluation.best_documents import BestDocuments
from embed_assets.evaluation.corpus import Corpus
from embed_assets.evaluation.estimate import Estimate, mean_of
from embed_assets.evaluation.retrieval_metrics import DEPTH, per_query_metrics, trec_order
from embed_assets.evaluation.text_embedder import Passages, TextEmbedder

# Documents embedded and compared at once: enough batches of each length, few enough for memory,
# and on a CPU about a minute's work, so that the bar moves.
_TEXTS_PER_BLOCK = 16_384
_CHARS_PER_BLOCK = {"cpu": 1 << 20, "cuda": 1 << 25}

#: Gets the number of document texts that are embedded, block by block.
OnTexts = Callable[[int], None]


@dataclass(frozen=True)
class RetrievalScores:
    """Each metric by query, (n_queries,) in the order of `query_ids`, and its mean."""

    query_ids: tuple[str, ...]
    per_query: Mapping[str, NDArray[np.float64]]
    means: Mapping[str, Estimate]


def score_retrieval(
    beir: BeirSet, embedder: TextEmbedder, *, one_vector_per_document: bool, on_texts: OnTexts
) -> RetrievalScores:
    """nDCG@10, Recall@10, Recall@100 and MRR@10 by cosine.

    Memory holds the queries' vectors and one block of documents. A document whose id is the
    query's own is left out unless judged relevant: in ArguAna and Quora that is the query itself.
    """
    # One more than the metrics look at: the query's own document may be among them.
    best = BestDocuments(
        embedder.queries(list(beir.queries.values())),
        _ranks(beir.corpus),
        DEPTH + 1,
        embedder.device,
    )
    first = 0
    for texts in _blocks(beir.corpus.texts(), _CHARS_PER_BLOCK[embedder.device]):
        found = embedder.passages(texts, one_vector_per_document=one_vector_per_document)
        best.add(Passages(found.vectors, found.documents + first))
        first += len(texts)
        on_texts(len(texts))
    values = per_query_metrics(beir.judgements, _run(beir, *best.ranking()))
    means = {metric: mean_of(own) for metric, own in values.items()}
    return RetrievalScores(tuple(beir.queries), values, means)


def _ranks(corpus: Corpus) -> NDArray[np.int64]:
    """Rank (n_texts,) of each text by the highest of its documents' ids, trec_eval's order."""
    rank_of_id = np.empty(len(corpus.ids), dtype=np.int64)
    order = sorted(range(len(corpus.ids)), key=lambda i: corpus.ids[i].encode())
    rank_of_id[order] = np.arange(len(order))
    highest = np.full(corpus.n_texts, -1, dtype=np.int64)
    np.maximum.at(highest, corpus.text_of, rank_of_id)
    ranks = np.empty_like(highest)
    ranks[np.argsort(highest)] = np.arange(len(highest))
    return ranks


def _blocks(texts: Iterable[str], max_chars: int) -> Iterator[list[str]]:
    """Blocks of texts in order; the last text of a block may go beyond `max_chars`."""
    block: list[str] = []
    n_chars = 0
    for text in texts:
        block.append(text)
        n_chars += len(text)
        if len(block) == _TEXTS_PER_BLOCK or n_chars >= max_chars:
            yield block
            block, n_chars = [], 0
    if block:
        yield block


def _run(
    beir: BeirSet, scores: NDArray[np.float32], texts: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """The best documents of each query by id, from the best texts (q, n)."""
    documents_of = _documents_of(beir.corpus, np.unique(texts))
    run = {}
    for query, own_scores, own_texts in zip(beir.queries, scores, texts, strict=True):
        scored = {
            document: float(score)
            for score, text in zip(own_scores, own_texts, strict=True)
            for document in documents_of[int(text)]
            if document != query or beir.judgements[query].get(document, 0) > 0
        }
        run[query] = {document: scored[document] for document in trec_order(scored)[:DEPTH]}
    return run


def _documents_of(corpus: Corpus, texts: NDArray[np.int64]) -> dict[int, list[str]]:
    """Ids of all documents with each of some texts."""
    found: dict[int, list[str]] = {int(text): [] for text in texts}
    for i in np.flatnonzero(np.isin(corpus.text_of, texts)):
        found[int(corpus.text_of[i])].append(corpus.ids[i])
    return found
