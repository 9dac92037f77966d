"""Sentence pairs: every layout they come in, and the figure that is published."""

from pathlib import Path

import numpy as np
import pytest

from embed_assets.errors import InputError
from embed_assets.evaluation.sts import load_pairs, score_sts
from embed_assets.evaluation.text_embedder import TextEmbedder
from embed_assets.settings import load_settings
from embed_assets_tests.evaluation.beir_sets import write_lines
from embed_assets_tests.tiny_models import TEXTS, sentence_transformer

STS_BENCHMARK = Path(__file__).parents[3] / "shared/data/stsbenchmark/sts-test.csv"


@pytest.mark.parametrize(
    "lines",
    [
        ["score\tsentence1\tsentence2", '4.5\t"Quoted" one\tTwo', "0\tThree\tFour, five"],
        [
            "sentence1,id,Score,sentence2",
            '"""Quoted"" one",x,4.5,Two',
            "",
            'Three,y,0,"Four, five"',
        ],
        ['g\tf\ty\t1\t4.500\t"Quoted" one\tTwo', "g\tf\ty\t2\t0\tThree\tFour, five\tlicence\tl"],
    ],
    ids=["tabs", "commas", "sts benchmark"],
)
def test_every_layout_gives_the_same_pairs(lines: list[str], tmp_path: Path) -> None:
    pairs = load_pairs(write_lines(tmp_path / "pairs", lines))
    assert pairs.scores == (4.5, 0)
    assert pairs.first == ('"Quoted" one', "Three")
    assert pairs.second == ("Two", "Four, five")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: 0 columns"),
        (["one,two", "1,2"], "line 1: 2 columns; expected a header with score, sentence1"),
        (["score,sentence1,sentence2", "1,a,b", "nan,c,d"], "line 3: score is 'nan'"),
        (["score,sentence1,sentence2", "1,a,b", "x,c,d"], "line 3: score is 'x'"),
        (["score,sentence1,sentence2", "1,a"], "line 2: 2 columns"),
        (["score,sentence1,sentence2", '1,a,"b'], "line 2: unexpected end of data"),
        (["score,sentence1,sentence2", "1,a,b", "1,c,d"], "not two different scores"),
    ],
)
def test_what_is_wrong_is_named(lines: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_pairs(write_lines(tmp_path / "pairs", lines))
    assert said in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        load_pairs(tmp_path / "absent.csv")


def test_spearman_is_that_of_sentence_transformers_own_evaluator(
    tiny_bert: Path, tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    sentences = [line for line in "\n".join(TEXTS).split("\n") if line]
    scores = np.random.default_rng(0).integers(0, 6, len(sentences) - 1)
    rows = [f"{s}\t{a}\t{b}" for s, a, b in zip(scores, sentences, sentences[1:], strict=False)]
    pairs = load_pairs(write_lines(tmp_path / "p", ["score\tsentence1\tsentence2", *rows]))
    embedder = TextEmbedder(load_settings({"model": str(tiny_bert), "device": "cpu"}), "fp32")
    evaluator = EmbeddingSimilarityEvaluator(
        list(pairs.first), list(pairs.second), list(pairs.scores)
    )
    expected = evaluator(sentence_transformer(tiny_bert))["spearman_cosine"]
    assert score_sts(pairs, embedder).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("every", "expected"),
    # Of all pairs it is the published figure; of every sixth, what sentence-transformers gives.
    [
        pytest.param(6, 0.8130, marks=pytest.mark.slow),
        pytest.param(1, 0.8203, marks=pytest.mark.soak),
    ],
    ids=["every sixth pair", "all pairs"],
)
@pytest.mark.skipif(not STS_BENCHMARK.exists(), reason="the STS benchmark is not at hand")
def test_the_bundled_model_reaches_its_known_figure(
    every: int, expected: float, tmp_path: Path
) -> None:
    lines = STS_BENCHMARK.read_text().splitlines()[::every]
    embedder = TextEmbedder(load_settings({"device": "cpu"}), "fp32")
    spearman = score_sts(load_pairs(write_lines(tmp_path / "pairs.csv", lines)), embedder)
    assert spearman.value == pytest.approx(expected, abs=0.0002)
