"""Packed attention: what torch's kernel is asked for, and that nothing waits for the device."""

# ruff: noqa: ANN401 - tensors, for whose type torch would have to be imported.

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embed_assets.embedding import packed_attention
from embed_assets.embedding.packed_attention import _by_varlen, _one_by_one, _varlen_parameters
from embed_assets.embedding.packed_model import PackedModel
from embed_assets.embedding.packing import pack, plan_packed, shape_of
from embed_assets_tests.embedding.test_packed_families import random_rows
from embed_assets_tests.tiny_models import PACKED_FAMILIES, sentence_transformer


def todays_kernel(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Any:
    """`varlen_attn` as in torch 2.13, on any device."""
    assert cu_seq_q is cu_seq_k
    assert max_q == max_k >= int(cu_seq_q.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _one_by_one(query, key, value, cu_seq_q, scale, window_size)


def kernel_of_2_10(
    query: Any,
    key: Any,
    value: Any,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
) -> Any:
    """`varlen_attn` as in torch 2.10: no scale, no windows, no shared heads."""
    assert query.shape == key.shape == value.shape
    window = (-1, 0) if is_causal else (-1, -1)
    return todays_kernel(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window)


@pytest.fixture(params=[todays_kernel, kernel_of_2_10])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", request.param)
    _varlen_parameters.cache_clear()
    yield request.param
    _varlen_parameters.cache_clear()


@pytest.mark.parametrize("n_key_heads", [4, 2])
@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (2, 2)])
@pytest.mark.parametrize("scaling", [8**-0.5, 0.9])
def test_every_torch_is_asked_for_the_same(
    kernel: Callable[..., Any], n_key_heads: int, window: tuple[int, int], scaling: float
) -> None:
    import torch

    torch.manual_seed(0)
    boundaries = torch.tensor([0, 5, 6, 14, 14, 14], dtype=torch.int32)
    query = torch.randn(16, 4, 8)
    key, value = torch.randn(16, n_key_heads, 8), torch.randn(16, n_key_heads, 8)
    arguments = (query, key, value, boundaries, 8, scaling, window)
    if kernel is kernel_of_2_10 and window == (2, 2):
        assert "update torch" in (packed_attention.missing_for_windows() or "")
        with pytest.raises(ValueError, match="no windows"):
            _by_varlen(*arguments)
        return
    expected = _one_by_one(query, key, value, boundaries, scaling, window)
    torch.testing.assert_close(_by_varlen(*arguments)[:14], expected[:14])


def test_this_torch_takes_what_it_is_given() -> None:
    """Runs the real operator on the meta device, which checks its arguments and nothing else."""
    import torch

    states = torch.empty(16, 4, 8, dtype=torch.bfloat16, device="meta")
    boundaries = torch.empty(6, dtype=torch.int32, device="meta")
    out = _by_varlen(states, states, states, boundaries, 8, 0.9, (-1, 0))
    assert out.shape == states.shape


def dense(query: Any, key: Any, value: Any, boundaries: Any, scaling: float, window: Any) -> Any:
    """The same attention over all pairs of tokens, in operations of fixed size."""
    import torch

    token = torch.arange(len(query))
    text = torch.searchsorted(boundaries, token.int(), right=True)
    ahead = token[None, :] - token[:, None]
    left, right = (len(query) if side < 0 else side for side in window)
    allowed = (text[None, :] == text[:, None]) & (ahead >= -left) & (ahead <= right)
    query, key, value = (states.transpose(0, 1)[None] for states in (query, key, value))
    out = torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=allowed,
        scale=scaling,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)


@pytest.mark.parametrize("family", PACKED_FAMILIES)
def test_a_forward_pass_never_waits_for_the_device(
    tiny_model: Callable[[str], Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captured graph cannot: no value comes to the host, no size depends on values."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: Any = (),
            kwargs: Any = None,
        ) -> Any:
            names = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "repeat_interlea")
            assert not any(name in str(func) for name in names), func
            indices = args[1] if "index.Tensor" in str(func) else []
            assert all(i is None or i.dtype != torch.bool for i in indices), func
            return func(*args, **(kwargs or {}))

    transformer = sentence_transformer(tiny_model(family))
    model = PackedModel.prepared(transformer, 32, False, 3)
    tokens = random_rows(100)
    [batch] = plan_packed(tokens.lengths, len(tokens.flat))
    shape = shape_of(batch, tokens.lengths)
    inputs = np.empty(shape.n_inputs, dtype=np.int32)
    pack(tokens, batch, shape, inputs)
    with torch.inference_mode():
        expected = model(torch.from_numpy(inputs), shape)[: len(tokens)]
        monkeypatch.setattr(packed_attention, "_one_by_one", dense)
        with Watched():  # type: ignore[no-untyped-call]
            vectors = model(torch.from_numpy(inputs), shape)
    torch.testing.assert_close(vectors[: len(tokens)], expected, atol=1e-5, rtol=1e-4)
