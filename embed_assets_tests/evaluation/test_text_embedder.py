"""Texts are read and embedded as SentenceTransformer.encode does: cut, prompted, even empty."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding.model import document_prompt, open_model, query_prompt
from embed_assets.embedding.tokenizer import cutting
from embed_assets.errors import InputError
from embed_assets.evaluation.text_embedder import TextEmbedder, token_rows, unit_vectors
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import (
    FAMILIES,
    TEXTS,
    instructor_model,
    sentence_transformer,
    tokenizer_of,
    write_json,
)

# Longer than the models take, short, blank at the ends, and nothing at all.
MIXED = (*TEXTS, "A hare.", "  two blanks ", "東京", "", "hare " * 5000)


def cpu_settings(folder: Path, **values: object) -> PipelineSettings:
    return load_settings({"model": str(folder), "device": "cpu", **values})


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", a, b) / norms
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_embedded_as_sentence_transformers_does(
    tiny_model: Callable[[str], Path], family: str
) -> None:
    settings = cpu_settings(tiny_model(family))
    model = open_model(settings)
    embedder = TextEmbedder(settings, "fp32")
    reference = sentence_transformer(tiny_model(family))
    for vectors, prompt in (
        (embedder.documents(MIXED), document_prompt(settings, model)),
        (embedder.queries(MIXED), query_prompt(settings, model)),
    ):
        expected = np.asarray(reference.encode(list(MIXED), prompt=prompt or None))
        assert cosines(vectors, expected).min() > 0.99999
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_long_texts_are_cut_on_the_side_that_the_model_says(
    tiny_model: Callable[[str], Path], family: str, side: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model(family), folder)
    config = next(folder.rglob("tokenizer_config.json"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"truncation_side": side}))

    rows = token_rows(cutting(tokenizer_of(folder), folder, 64), "a: ", MIXED)

    reference = sentence_transformer(folder)
    for i, text in enumerate(MIXED):
        ids = rows.flat[rows.offsets[i] : rows.offsets[i + 1]]
        features = reference.preprocess([text], prompt="a: ")
        assert ids.tolist() == features["input_ids"][0].tolist()


def test_a_lower_limit_cuts_more(tiny_bert: Path) -> None:
    reference = sentence_transformer(tiny_bert)
    reference.max_seq_length = 16
    vectors = TextEmbedder(cpu_settings(tiny_bert, max_tokens=16), "fp32").documents(MIXED)
    assert cosines(vectors, np.asarray(reference.encode(list(MIXED)))).min() > 0.99999


def test_a_prompt_left_out_of_the_mean_is_left_out_of_queries_too(tmp_path: Path) -> None:
    folder = instructor_model(tmp_path / "model")
    prompts = {"document": "represent the document: ", "query": "a query: "}
    config = folder / "config_sentence_transformers.json"
    write_json(config, json.loads(config.read_text()) | {"prompts": prompts})
    embedder = TextEmbedder(cpu_settings(folder), "fp32")
    reference = sentence_transformer(folder)
    texts = ["a hare", "a tortoise"]
    for vectors, name in (
        (embedder.documents(texts), "document"),
        (embedder.queries(texts), "query"),
    ):
        expected = np.asarray(reference.encode(texts, prompt=prompts[name]))
        assert cosines(vectors, expected).min() > 0.99999


def test_chunks_cover_long_documents_and_blank_ones_have_none(tiny_bert: Path) -> None:
    embedder = TextEmbedder(cpu_settings(tiny_bert), "fp32")
    texts = ["A hare.", " ", TEXTS[0], ""]
    found = embedder.passages(texts, one_vector_per_document=False)
    assert np.unique(found.documents).tolist() == [0, 2]
    assert (found.documents == 2).sum() > 5
    whole = embedder.passages(texts, one_vector_per_document=True)
    assert whole.documents.tolist() == [0, 1, 2, 3]
    # A document of one chunk is that chunk; a long one begins as its first chunk does.
    assert cosines(found.vectors[:1], whole.vectors[:1]).min() > 0.99999


def test_a_text_of_which_nothing_is_read_is_similar_to_nothing(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("qwen"), folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    write_json(folder / "tokenizer.json", tokenizer | {"post_processor": None})
    vectors = TextEmbedder(cpu_settings(folder), "fp32").queries(["", "a hare"])
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)


def test_vectors_that_are_not_finite_are_refused() -> None:
    vectors = np.array([[3, 4], [np.nan, 1], [np.inf, 1], [0, 0]], dtype=np.float32)
    with pytest.raises(InputError, match="2 of 4 vectors are not finite in fp16"):
        unit_vectors(vectors, "fp16")
    expected = np.array([[0.6, 0.8], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(unit_vectors(vectors[[0, 3]], "fp16"), expected)
