"""Metrics against numbers computed by hand from their definitions."""

from math import log2

import pytest

from embed_assets.evaluation.retrieval_metrics import per_query_metrics, trec_order

JUDGEMENTS = {
    "graded": {"a": 2, "b": 1, "c": 0},
    "eleventh": {"z": 1},
    "half": {"a": 1, "not in the corpus": 1},
    "hopeless": {"a": 0, "b": -2},
    "nothing found": {"a": 1},
}
RUN = {
    "graded": {"b": 0.9, "c": 0.8, "a": 0.7},
    "eleventh": {**{f"x{i:02}": 0.5 - i / 100 for i in range(10)}, "z": 0.1},
    "half": {"c": 0.2, "a": -0.1},
    "hopeless": {"a": 1.0},
    "nothing found": {},
}
EXPECTED = {
    # Linear gains: (1/log2 2 + 2/log2 4) / (2/log2 2 + 1/log2 3).
    "ndcg_at_10": [2 / (2 + 1 / log2(3)), 0, (1 / log2(3)) / (1 + 1 / log2(3)), 0, 0],
    "recall_at_10": [1, 0, 0.5, 0, 0],
    "recall_at_100": [1, 1, 0.5, 0, 0],
    "mrr_at_10": [1, 0, 0.5, 0, 0],
}


@pytest.mark.parametrize("metric", EXPECTED)
def test_values_are_those_of_the_definitions(metric: str) -> None:
    values = per_query_metrics(JUDGEMENTS, RUN)
    assert list(values) == list(EXPECTED)
    assert values[metric].tolist() == pytest.approx(EXPECTED[metric], abs=1e-12)


def test_equal_scores_are_ordered_by_id_from_the_highest_everywhere() -> None:
    scored = dict.fromkeys(["10", "9", "é", "z"], 0.5)
    assert trec_order(scored) == ["é", "z", "9", "10"]
    for place, document in enumerate(trec_order(scored), 1):
        found = per_query_metrics({"q": {document: 1}}, {"q": scored})
        assert found["mrr_at_10"].tolist() == pytest.approx([1 / place])
        assert found["ndcg_at_10"].tolist() == pytest.approx([1 / log2(place + 1)])
