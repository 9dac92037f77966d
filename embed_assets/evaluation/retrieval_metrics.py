"""nDCG, recall and reciprocal rank by trec_eval's own code, which the published figures use."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embed_assets.errors import InputError
from embed_assets.evaluation.beir import Judgements

#: Documents per query that the metrics look at.
DEPTH = 100
#: Our names, and the measure of trec_eval that each is.
METRICS = {
    "ndcg_at_10": "ndcg_cut_10",
    "recall_at_10": "recall_10",
    "recall_at_100": "recall_100",
    "mrr_at_10": "recip_rank",
}

#: What was found: query id -> document id -> score.
Run = Mapping[str, Mapping[str, float]]


def per_query_metrics(judgements: Judgements, run: Run) -> dict[str, NDArray[np.float64]]:
    """Each metric (n_queries,), queries in the order of the judgements; 0 to 1.

    nDCG has linear gains and log2 discounts; recall and MRR count grades above 0. Equal scores
    are ordered as trec_eval does, by id from the highest. A query that found nothing has 0.
    """
    deep = _evaluated(judgements, run, {"ndcg_cut.10", "recall.10,100"})
    # trec_eval knows no cut for reciprocal rank: the list itself is cut.
    shallow = _evaluated(judgements, {query: _first(own, 10) for query, own in run.items()}, None)
    return {
        metric: np.array(
            [
                (shallow if measure == "recip_rank" else deep).get(query, {}).get(measure, 0.0)
                for query in judgements
            ],
            dtype=np.float64,
        )
        for metric, measure in METRICS.items()
    }


def trec_order(scored: Mapping[str, float]) -> list[str]:
    """Document ids, best first: by score, then by id from the highest, byte by byte."""
    return sorted(scored, key=lambda document: (scored[document], document.encode()), reverse=True)


def _first(scored: Mapping[str, float], n: int) -> dict[str, float]:
    return {document: scored[document] for document in trec_order(scored)[:n]}


def _evaluated(
    judgements: Judgements, run: Run, measures: set[str] | None
) -> dict[str, dict[str, float]]:
    try:
        from pytrec_eval import RelevanceEvaluator
    except ImportError as error:
        # There is none for Linux on ARM, so it cannot be a dependency everywhere.
        raise InputError(
            "retrieval metrics need pytrec-eval-terrier, which is not installed here: "
            "pip install pytrec-eval-terrier (on Linux on ARM it needs a C compiler)"
        ) from error

    evaluator = RelevanceEvaluator(judgements, measures or {"recip_rank"})
    scores: dict[str, dict[str, float]] = evaluator.evaluate(run)
    return scores
