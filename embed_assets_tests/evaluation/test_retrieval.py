"""From files to scores: the same as sentence-transformers' own evaluator gives."""

from pathlib import Path

import numpy as np
import pytest

from embed_assets.evaluation import retrieval
from embed_assets.evaluation.beir import BeirSet, load_beir
from embed_assets.evaluation.retrieval import RetrievalScores, score_retrieval
from embed_assets.evaluation.text_embedder import TextEmbedder
from embed_assets.settings import load_settings
from embed_assets_tests.evaluation.beir_sets import write_set
from embed_assets_tests.tiny_models import sentence_transformer

RANDOM = np.random.default_rng(0)
WORDS = ["hare", "tortoise", "race", "fox", "judge", "nap", "course", "slow", "steady", "laugh"]


def sentence(n_words: int) -> str:
    return " ".join(RANDOM.choice(WORDS, n_words))


DOCUMENTS = {f"d{i}": sentence(int(RANDOM.integers(3, 90))) for i in range(300)}
QUERIES = {f"q{i}": sentence(8) for i in range(25)}
JUDGEMENTS = [(query, f"d{i}", 1) for query in QUERIES for i in RANDOM.choice(300, 4, False)]


@pytest.fixture
def embedder(tiny_bert: Path) -> TextEmbedder:
    return TextEmbedder(load_settings({"model": str(tiny_bert), "device": "cpu"}), "fp32")


def scored(beir: BeirSet, embedder: TextEmbedder, *, whole: bool = True) -> RetrievalScores:
    return score_retrieval(
        beir, embedder, one_vector_per_document=whole, on_texts=lambda n_texts: None
    )


@pytest.mark.parametrize("texts_per_block", [7, 1000])
def test_scores_are_those_of_sentence_transformers_own_evaluator(
    embedder: TextEmbedder,
    tiny_bert: Path,
    tmp_path: Path,
    texts_per_block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    monkeypatch.setattr(retrieval, "_TEXTS_PER_BLOCK", texts_per_block)
    found = scored(load_beir(write_set(tmp_path, DOCUMENTS, QUERIES, JUDGEMENTS), "test"), embedder)

    relevant = {q: {d for own, d, _ in JUDGEMENTS if own == q} for q in QUERIES}
    evaluator = InformationRetrievalEvaluator(
        {**QUERIES},
        {**DOCUMENTS},
        relevant,
        precision_recall_at_k=[10, 100],
        show_progress_bar=False,
    )
    expected = evaluator(sentence_transformer(tiny_bert))
    for metric, name in {
        "ndcg_at_10": "cosine_ndcg@10",
        "recall_at_10": "cosine_recall@10",
        "recall_at_100": "cosine_recall@100",
        "mrr_at_10": "cosine_mrr@10",
    }.items():
        assert found.means[metric].value == pytest.approx(expected[name], abs=1e-9)
    assert 0 < found.means["ndcg_at_10"].value < found.means["recall_at_100"].value < 1


def test_documents_with_the_same_text_are_all_found(embedder: TextEmbedder, tmp_path: Path) -> None:
    documents = {**{f"copy{i}": "the hare" for i in range(12)}, "other": "東京 東京"}
    judged = [("q", f"copy{i}", 1) for i in range(12)] + [("q", "other", 1)]
    beir = load_beir(write_set(tmp_path, documents, {"q": "the hare"}, judged), "test")
    assert beir.corpus.n_texts == 2
    means = scored(beir, embedder).means
    assert means["recall_at_10"].value == pytest.approx(10 / 13)
    assert means["recall_at_100"].value == 1


def test_the_querys_own_document_is_left_out_unless_judged_relevant(
    embedder: TextEmbedder, tmp_path: Path
) -> None:
    documents = {"same": "the hare", "a": "the tortoise"}
    judged = [("same", "a", 1)]
    beir = load_beir(write_set(tmp_path, documents, {"same": "the hare"}, judged), "test")
    assert scored(beir, embedder).means["mrr_at_10"].value == 1
    judged = [("same", "a", 0), ("same", "same", 1)]
    beir = load_beir(write_set(tmp_path, documents, {"same": "the hare"}, judged), "test")
    assert scored(beir, embedder).means["mrr_at_10"].value == 1


def test_a_chunked_document_scores_as_its_best_chunk(
    embedder: TextEmbedder, tmp_path: Path
) -> None:
    documents = DOCUMENTS | {"blank": " "}
    beir = load_beir(write_set(tmp_path, documents, QUERIES, JUDGEMENTS), "test")
    found = scored(beir, embedder, whole=False)

    ids = list(documents)
    passages = embedder.passages(list(documents.values()), one_vector_per_document=False)
    assert len(passages.vectors) > 2 * len(ids)
    cosines = embedder.queries(list(QUERIES.values())) @ passages.vectors.T
    for query, own in zip(QUERIES, cosines, strict=True):
        best = {ids[i]: float(own[passages.documents == i].max()) for i in range(len(DOCUMENTS))}
        ranked = sorted(best, key=lambda document: best[document], reverse=True)
        relevant = {document for judged, document, _ in JUDGEMENTS if judged == query}
        value = found.per_query["recall_at_100"][found.query_ids.index(query)]
        assert value == pytest.approx(len(relevant & set(ranked[:100])) / len(relevant))
    assert found.means["ndcg_at_10"] != scored(beir, embedder, whole=True).means["ndcg_at_10"]
