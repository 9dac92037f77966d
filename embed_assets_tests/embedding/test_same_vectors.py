"""The invariant: a chunk's vector is what sentence-transformers makes of the chunk's text."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.chunking.token_windows import Chunk, TokenWindows
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.model import document_prompt, open_model, resolved_max_tokens
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import (
    FAMILIES,
    TEXTS,
    add_dense,
    bert_model,
    roberta_model,
    sentence_transformer,
    write_json,
)

TOLERANCE = 1e-5
#: The setting `backend`, and what then runs on a CPU.
BACKENDS = [("torch", "TorchEncoder"), ("auto", "OpenVinoEncoder")]


def cpu_settings(folder: Path, **values: object) -> PipelineSettings:
    return load_settings({"model": str(folder), "device": "cpu", "backend": "torch", **values})


def chunked(settings: PipelineSettings) -> tuple[list[str], list[Chunk]]:
    model = open_model(settings)
    windows = TokenWindows(
        load_tokenizer(model),
        resolved_max_tokens(settings, model),
        settings.overlap,
        document_prompt(settings, model),
    )
    chunks = windows.chunk(TEXTS)
    texts = [text[c.start : c.end] for text, own in zip(TEXTS, chunks, strict=True) for c in own]
    return texts, [chunk for own in chunks for chunk in own]


def token_rows(chunks: list[Chunk]) -> TokenRows:
    ids = [chunk.token_ids for chunk in chunks]
    return TokenRows(np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64))


def vectors_of(
    settings: PipelineSettings, chunks: list[Chunk], precision: str = "fp32", budget: int = 2048
) -> NDArray[np.float32]:
    return encode_all(load_encoder(settings, precision), token_rows(chunks), budget)[0]


reference = cache(sentence_transformer)


def expected_vectors(
    settings: PipelineSettings, texts: list[str], **arguments: object
) -> NDArray[np.float32]:
    prompt = document_prompt(settings, open_model(settings))
    encode = reference(Path(settings.model)).encode
    return np.asarray(encode(texts, prompt=prompt, **arguments))  # type: ignore[call-overload]


@pytest.mark.parametrize(("backend", "name"), BACKENDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_chunk_vectors_are_those_of_sentence_transformers(
    tiny_model: Callable[[str], Path], family: str, backend: str, name: str
) -> None:
    settings = cpu_settings(tiny_model(family), backend=backend)
    texts, chunks = chunked(settings)
    encoder = load_encoder(settings, "fp32")
    assert type(encoder).__name__ == name

    assert [chunk.token_ids.tolist() for chunk in chunks] == [encoder.token_ids(t) for t in texts]
    expected = expected_vectors(settings, texts)
    np.testing.assert_allclose(vectors_of(settings, chunks), expected, atol=TOLERANCE)
    # Were all texts alike to this model, the comparison would prove nothing.
    assert np.ptp(expected, axis=0).min() > 100 * TOLERANCE


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("family", ["bert-cls", "mpnet", "xlm-roberta", "qwen"])
def test_batch_size_does_not_change_vectors(
    tiny_model: Callable[[str], Path], family: str, backend: str
) -> None:
    settings = cpu_settings(tiny_model(family), backend=backend)
    _, chunks = chunked(settings)
    whole = vectors_of(settings, chunks, budget=100_000)
    for budget in (1, 200):
        np.testing.assert_allclose(
            vectors_of(settings, chunks, budget=budget), whole, atol=TOLERANCE
        )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", ["bert-mean", "mpnet", "qwen"])
def test_half_precision_stays_close_and_unit_vectors_stay_unit(
    tiny_model: Callable[[str], Path], family: str, precision: str
) -> None:
    settings = cpu_settings(tiny_model(family))
    _, chunks = chunked(settings)
    exact = vectors_of(settings, chunks)
    half = vectors_of(settings, chunks, precision)

    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-3)
    cosines = np.einsum("ij,ij->i", exact, half)
    assert cosines.min() > 0.99
    assert not np.array_equal(half, exact)
    assert load_encoder(settings, precision).precision == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_layer_saved_in_half_precision_runs_in_every_precision(
    tmp_path: Path, precision: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = bert_model(tmp_path / "model")
    add_dense(folder)
    expected = sentence_transformer(folder).encode(TEXTS[1][:80])
    weights = folder / "3_Dense/model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(weights).items()}, weights)

    settings = cpu_settings(folder)
    vector = load_encoder(settings, precision).encode_query(TEXTS[1][:80])
    np.testing.assert_allclose(vector, expected, atol=0.02)
    _, chunks = chunked(settings)
    assert vectors_of(settings, chunks, precision).shape == (len(chunks), 12)


@pytest.mark.parametrize(
    ("backend", "values", "arguments"),
    [
        ("torch", {"truncate_dim": 8}, {"truncate_dim": 8}),
        ("torch", {"truncate_dim": 32}, {"truncate_dim": 32}),
        *(
            (
                backend,
                {"truncate_dim": 8, "normalize": True},
                {"truncate_dim": 8, "normalize_embeddings": True},
            )
            for backend in ("torch", "auto")
        ),
        # Backends get tokens: where a chunk ends is none of their business, a prompt may be.
        ("torch", {"max_tokens": 48, "overlap": 8}, {}),
        ("torch", {"document_prompt": "text | "}, {}),
        ("auto", {"document_prompt": "text | "}, {}),
        ("torch", {"document_prompt": ""}, {}),
    ],
)
@pytest.mark.parametrize("family", ["bert-prompts", "bert-without-prompt-in-mean", "qwen"])
def test_settings_mean_what_they_mean_in_sentence_transformers(
    tiny_model: Callable[[str], Path],
    family: str,
    backend: str,
    values: dict[str, object],
    arguments: dict[str, object],
) -> None:
    settings = cpu_settings(tiny_model(family), backend=backend, **values)
    texts, chunks = chunked(settings)
    vectors = vectors_of(settings, chunks)
    np.testing.assert_allclose(
        vectors, expected_vectors(settings, texts, **arguments), atol=TOLERANCE
    )
    assert vectors.shape[1] == load_encoder(settings, "fp32").dimension
    if settings.normalize:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("query", ["Who won the race?", "a long question " * 100, ""])
@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("family", ["bert-prompts", "bert-without-prompt-in-mean", "qwen"])
def test_a_query_gets_the_query_prompt(
    tiny_model: Callable[[str], Path], family: str, backend: str, query: str
) -> None:
    settings = cpu_settings(tiny_model(family), backend=backend, query_prompt="find: ")
    vector = load_encoder(settings, "fp32").encode_query(query)
    expected = reference(tiny_model(family)).encode([query], prompt="find: ")[0]
    np.testing.assert_allclose(vector, expected, atol=TOLERANCE)


def in_a_subfolder(folder: Path) -> None:
    """As sentence-transformers laid models out before 2020."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        if file.name != "modules.json":
            file.rename(inner / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write_json(folder / "modules.json", modules)


def lowercased(folder: Path) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": True})


def named_after_the_family(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    write_json(folder / "sentence_roberta_config.json", {"max_seq_length": 40})


def with_tokenizer_arguments(folder: Path) -> None:
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": 64, "tokenizer_args": {"add_prefix_space": True}},
    )


def without_modules(folder: Path) -> None:
    """A plain transformers model, which sentence-transformers pools by the mean."""
    (folder / "modules.json").unlink()
    shutil.rmtree(folder / "1_Pooling")


@pytest.mark.parametrize(
    "change",
    [
        in_a_subfolder,
        lowercased,
        named_after_the_family,
        with_tokenizer_arguments,
        without_modules,
    ],
)
def test_every_folder_layout_gives_the_same_vectors(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = roberta_model(tmp_path / "model")
    change(folder)
    settings = cpu_settings(folder)
    texts, chunks = chunked(settings)

    model = sentence_transformer(folder)
    expected = model.encode(texts)
    np.testing.assert_allclose(vectors_of(settings, chunks), expected, atol=TOLERANCE)
    assert open_model(settings).max_tokens == min(64, model.max_seq_length or 64)
    assert open_model(settings).dimension == model.get_embedding_dimension()
