"""The packed encoder as the pipeline meets it: streams, out of memory; on a GPU, the real thing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from embed_assets.embedding.backends import new_encoder
from embed_assets.embedding.captured_graphs import CapturedGraphs
from embed_assets.embedding.cuda_encoder import PackedEncoder, new_cuda_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.packing import PackedShape
from embed_assets.embedding.torch_encoder import TorchEncoder
from embed_assets.errors import InputError
from embed_assets.settings import load_settings
from embed_assets_tests.embedding.test_packed_families import cpu_settings, random_rows
from embed_assets_tests.tiny_models import PACKED_FAMILIES


@pytest.fixture
def packed(tiny_bert: Path) -> PackedEncoder:
    settings = cpu_settings(tiny_bert, max_tokens_per_batch=500)
    encoder = new_cuda_encoder(settings, "fp32", open_model(settings))
    assert isinstance(encoder, PackedEncoder)
    return encoder


def test_it_says_what_it_is(packed: PackedEncoder) -> None:
    assert (packed.dimension, packed.device, packed.precision) == (32, "cpu", "fp32")
    assert packed.max_tokens_per_batch == 500


def test_batches_are_nearly_full_and_each_comes_once(packed: PackedEncoder) -> None:
    tokens = random_rows(100)
    vectors, stats = encode_all(packed, tokens, 700)
    assert np.isfinite(vectors).all()
    assert stats.n_tokens == len(tokens.flat)
    assert stats.padding_waste < 0.15


@dataclass
class FullAbove:
    """A device with room for so many tokens."""

    compute: CapturedGraphs
    n_tokens: int

    def __call__(self, inputs: Any, shape: PackedShape) -> Any:  # noqa: ANN401
        if shape.n_tokens > self.n_tokens:
            raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")
        return self.compute(inputs, shape)

    def clear(self) -> None:
        self.compute.clear()


def test_out_of_memory_halves_the_budget_and_the_vectors_stay(
    packed: PackedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = random_rows(100)
    expected, _ = encode_all(packed, tokens, 1_000)
    monkeypatch.setattr(packed, "_graphs", FullAbove(packed._graphs, 300))
    vectors, stats = encode_all(packed, tokens, 1_000)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert (stats.n_halvings, stats.max_tokens_per_batch) == (2, 250)


def test_a_single_text_that_does_not_fit_is_an_input_error(
    packed: PackedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_graphs", FullAbove(packed._graphs, 32))
    with pytest.raises(InputError, match="a single text of 64 tokens does not fit on cpu"):
        encode_all(packed, random_rows(100), 100)


class FakeCapture:
    """`torch.cuda.graph` on a machine without one: its end fails when the body did."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            raise RuntimeError("operation failed due to a previous error during capture")


@pytest.fixture
def fake_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = MagicMock()
    monkeypatch.setattr("torch.cuda.graph", FakeCapture)
    for name in ("CUDAGraph", "Stream", "current_stream", "graph_pool_handle", "stream"):
        monkeypatch.setattr(f"torch.cuda.{name}", stream)


SHAPE = PackedShape(2, 1, 16)


@pytest.mark.usefixtures("fake_graphs")
def test_a_pass_that_cannot_be_captured_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    import torch

    calls = 0

    def forward(inputs: Any, _: PackedShape) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if calls == 3:  # After two to warm up.
            raise RuntimeError("operation not permitted when stream is capturing")
        return 2 * inputs

    graphs = CapturedGraphs(forward)
    inputs = torch.arange(4, dtype=torch.int32)
    assert graphs._captured(inputs, SHAPE) is None
    assert "cannot run as a captured CUDA graph" in caplog.text
    assert graphs.n_graphs == 0
    assert not graphs._can_capture


@pytest.mark.usefixtures("fake_graphs")
def test_out_of_memory_while_capturing_is_out_of_memory() -> None:
    import torch

    calls = 0

    def forward(inputs: Any, _: PackedShape) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return 2 * inputs

    graphs = CapturedGraphs(forward)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        graphs._captured(torch.arange(4, dtype=torch.int32), SHAPE)
    assert graphs._can_capture


@pytest.mark.slow
@pytest.mark.soak
def test_the_model_can_be_handed_to_torch_compile(tiny_bert: Path) -> None:
    import torch

    settings = cpu_settings(tiny_bert)
    encoder = new_cuda_encoder(settings, "fp32", open_model(settings))
    assert isinstance(encoder, PackedEncoder)
    tokens = random_rows(100)
    expected, _ = encode_all(encoder, tokens, 1_000)
    # Without code generation, which wants a compiler: this proves that tracing keeps the meaning.
    traced = torch.compile(encoder._graphs._forward, backend="eager", dynamic=False)
    encoder._graphs = CapturedGraphs(traced)
    vectors, _ = encode_all(encoder, tokens, 1_000)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_a_cpu_runs_the_plain_backend(tiny_bert: Path) -> None:
    settings = cpu_settings(tiny_bert)
    assert isinstance(new_encoder(settings, "fp32", open_model(settings)), TorchEncoder)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_on_a_gpu_packed_vectors_are_near_padded_fp32(
    tiny_model: Callable[[str], Path], family: str, precision: str
) -> None:
    settings = load_settings({"model": str(tiny_model(family)), "device": "cuda"})
    encoder = new_encoder(settings, precision, open_model(settings))
    assert isinstance(encoder, PackedEncoder)
    tokens = random_rows(100)
    on_cpu = cpu_settings(tiny_model(family))
    expected, _ = encode_all(new_encoder(on_cpu, "fp32", open_model(on_cpu)), tokens, 512)
    for budget in (4_096, 300):
        vectors, _ = encode_all(encoder, tokens, budget)
        with np.errstate(invalid="ignore"):
            cosines = np.einsum("ij,ij->i", vectors, expected) / (
                np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
            )
        # NaN: no direction, for a text that is all prompt.
        assert np.nanmin(cosines) > 0.99
        assert np.isfinite(vectors).all()


@pytest.mark.usefixtures("cuda")
def test_on_a_gpu_every_batch_of_a_shape_replays_one_graph(tiny_bert: Path) -> None:
    settings = load_settings({"model": str(tiny_bert), "device": "cuda"})
    encoder = new_encoder(settings, "fp16", open_model(settings))
    assert isinstance(encoder, PackedEncoder)
    tokens = random_rows(100)
    first, _ = encode_all(encoder, tokens, 300)
    n_graphs = encoder._graphs.n_graphs
    assert 0 < n_graphs < len(encoder.plan(tokens.lengths, 300))
    again, _ = encode_all(encoder, tokens, 300)
    assert encoder._graphs.n_graphs == n_graphs
    np.testing.assert_array_equal(again, first)
