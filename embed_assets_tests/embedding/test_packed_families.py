"""Packed batches give the vectors of padded ones, in fp32, for every family that runs packed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding.cuda_encoder import PackedEncoder, new_cuda_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.packed_model import why_not_packed
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import TorchEncoder, load_transformer
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import (
    FAMILIES,
    PACKED_FAMILIES,
    add_dense,
    bert_model,
    roberta_model,
    sentence_transformer,
    write_json,
)

TOLERANCE = 2e-6


def cpu_settings(folder: Path, **values: object) -> PipelineSettings:
    return load_settings({"model": str(folder), "device": "cpu", "backend": "torch", **values})


def packed_encoder(settings: PipelineSettings, precision: str = "fp32") -> PackedEncoder:
    encoder = new_cuda_encoder(settings, precision, open_model(settings))
    assert isinstance(encoder, PackedEncoder)
    return encoder


def padded_vectors(settings: PipelineSettings, tokens: TokenRows) -> NDArray[np.float32]:
    """From weights that were never prepared for packing."""
    model = open_model(settings)
    transformer = load_transformer(model, "cpu", "fp32")
    return encode_all(TorchEncoder(transformer, model, settings, "fp32"), tokens, 512)[0]


def random_rows(vocabulary: int, longest: int = 64) -> TokenRows:
    """Every length once and some again, in no order; all ids, the padding token's too."""
    random = np.random.default_rng(0)
    lengths = random.permutation(np.concatenate((np.arange(2, longest + 1), [5, 5, 33, longest])))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return TokenRows(random.integers(0, vocabulary, offsets[-1], dtype=np.int32), offsets)


def vocabulary_of(settings: PipelineSettings) -> int:
    config = json.loads((open_model(settings).folder / "config.json").read_text())
    return int(config["vocab_size"])


@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_packed_vectors_are_padded_ones(
    tiny_model: Callable[[str], Path], family: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = cpu_settings(tiny_model(family))
    encoder = packed_encoder(settings)
    tokens = random_rows(vocabulary_of(settings))
    expected = padded_vectors(settings, tokens)

    # Budgets that make one batch, many, and one per text.
    for budget in (100_000, 300, 1):
        vectors, _ = encode_all(encoder, tokens, budget)
        np.testing.assert_allclose(vectors, expected, atol=TOLERANCE)
    # Were all texts alike to this model, the comparison would prove nothing.
    assert np.ptp(expected, axis=0).min() > 1_000 * TOLERANCE
    assert not caplog.records


@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_queries_run_as_before(tiny_model: Callable[[str], Path], family: str) -> None:
    settings = cpu_settings(tiny_model(family), query_prompt="find: ")
    text = "Who won the race, the tortoise or the hare, and where was the fox?"
    expected = sentence_transformer(tiny_model(family)).encode([text], prompt="find: ")[0]
    vector = packed_encoder(settings).encode_query(text)
    np.testing.assert_allclose(vector, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    "pooling", ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]
)
@pytest.mark.parametrize("with_prompt_left_out", [False, True])
def test_every_pooling_is_that_of_sentence_transformers(
    tmp_path: Path, pooling: str, with_prompt_left_out: bool
) -> None:
    folder = bert_model(tmp_path / "model", pooling=pooling, prompts={"document": "a b: "})
    if with_prompt_left_out:
        config = json.loads((folder / "1_Pooling/config.json").read_text())
        write_json(folder / "1_Pooling/config.json", config | {"include_prompt": False})
    settings = cpu_settings(folder)
    transformer = sentence_transformer(folder)
    texts = ["a hare", "The tortoise kept going slowly but steadily.", "x"]
    expected = transformer.encode(texts, prompt="a b: ")
    encoder = packed_encoder(settings)
    ids = [np.asarray(encoder.token_ids(text), dtype=np.int32) for text in texts]
    tokens = TokenRows(np.concatenate(ids), np.cumsum([0, *map(len, ids)]))
    np.testing.assert_allclose(encode_all(encoder, tokens, 256)[0], expected, atol=TOLERANCE)


@pytest.mark.parametrize("values", [{"truncate_dim": 8}, {"truncate_dim": 8, "normalize": True}])
def test_what_follows_pooling_and_what_settings_cut(
    tmp_path: Path, values: dict[str, object]
) -> None:
    folder = roberta_model(tmp_path / "model")
    add_dense(folder)
    settings = cpu_settings(folder, **values)
    tokens = random_rows(vocabulary_of(settings))
    vectors, _ = encode_all(packed_encoder(settings), tokens, 300)
    assert vectors.shape == (len(tokens), 8)
    np.testing.assert_allclose(vectors, padded_vectors(settings, tokens), atol=TOLERANCE)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", ["bert-mean", "mpnet", "modernbert", "qwen"])
def test_half_precision_stays_close(
    tiny_model: Callable[[str], Path], family: str, precision: str
) -> None:
    settings = cpu_settings(tiny_model(family))
    tokens = random_rows(vocabulary_of(settings))
    exact = padded_vectors(settings, tokens)
    half, _ = encode_all(packed_encoder(settings, precision), tokens, 300)
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)
    assert np.einsum("ij,ij->i", exact, half).min() > 0.99


def changed(folder: Path, **config: object) -> Path:
    known = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", known | config)
    return folder


def with_dense_on_tokens(folder: Path) -> Path:
    add_dense(folder)
    config = json.loads((folder / "3_Dense/config.json").read_text())
    write_json(folder / "3_Dense/config.json", config | {"module_input_name": "token_embeddings"})
    return folder


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (with_dense_on_tokens, "works on tokens"),
        (
            lambda folder: changed(
                folder,
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
            ),
            "depend on the longest text",
        ),
    ],
)
def test_what_cannot_run_packed_runs_in_padded_batches_and_says_why(
    tmp_path: Path,
    spoil: Callable[[Path], Path],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = cpu_settings(spoil(FAMILIES["qwen"](tmp_path / "model")))
    encoder = new_cuda_encoder(settings, "fp32", open_model(settings))
    assert isinstance(encoder, TorchEncoder)
    assert "runs in padded batches" in caplog.text
    assert reason in caplog.text


def test_an_unknown_family_is_not_run_packed(tiny_model: Callable[[str], Path]) -> None:
    transformer = sentence_transformer(tiny_model("bert-mean"))
    network: Any = transformer[0].auto_model
    network.config.model_type = "deberta-v2"
    assert why_not_packed(transformer) == "family 'deberta-v2' is not known to run packed"


def test_a_model_whose_packed_pass_fails_runs_in_padded_batches(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: Any) -> Any:  # noqa: ANN401
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")

    monkeypatch.setattr("embed_assets.embedding.packed_attention._one_by_one", unsupported)
    settings = cpu_settings(tiny_bert)
    encoder = new_cuda_encoder(settings, "fp32", open_model(settings))
    assert isinstance(encoder, TorchEncoder)
    assert "failed on probe texts with RuntimeError: FlashAttention only supports" in caplog.text


def test_a_wrong_position_is_noticed_at_load(
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from embed_assets.embedding import packed_model

    def from_zero(_ids: Any, positions: Any, *_: object) -> Any:  # noqa: ANN401
        return positions

    monkeypatch.setattr(packed_model, "_after_pad", from_zero)
    settings = cpu_settings(tiny_model("roberta"))
    encoder = new_cuda_encoder(settings, "bf16", open_model(settings))
    assert isinstance(encoder, TorchEncoder)
    assert "differ from padded ones" in caplog.text
