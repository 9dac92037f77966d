"""Attention over texts laid end to end: no token sees another text, and no mask is built.

Registered with transformers under `NAME`. A model set to it runs packed where the call names the
boundaries (`cu_seq_lens_q`, `max_length_q`), and as "sdpa" otherwise, so that one set of weights
serves packed batches and single queries.
"""

import inspect
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: The attention implementation to set on a transformers model.
NAME = "embed_assets_packed"


@cache
def register() -> None:
    """Make `NAME` known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention_interface)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def no_mask(device: "torch.device") -> "Tensor":
    """A mask that transformers passes on as it is, instead of building one of all tokens squared.

    Four dimensions mean "already prepared".
    """
    import torch

    return torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)


def _attention_interface(
    module: "torch.nn.Module",
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    *,
    scaling: float | None = None,
    cu_seq_lens_q: "Tensor | None" = None,
    max_length_q: int | None = None,
    **kwargs: Any,  # noqa: ANN401  whatever the model adds
) -> "tuple[Tensor, None]":
    """Attention of a layer: query (1, heads, tokens, d) to (1, tokens, heads, d)."""
    if cu_seq_lens_q is None or max_length_q is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    if kwargs.get("softcap") is not None or kwargs.get("position_bias") is not None:
        raise ValueError(f"{type(module).__name__} asks for more than packed attention does")
    window = kwargs.get("sliding_window")
    left = -1 if window is None else window - 1
    # The call's word stands over the layer's, as in transformers' own implementations.
    is_causal = kwargs.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", False)
    out = packed_attention(
        *(states[0].transpose(0, 1) for states in (query, key, value)),
        boundaries=cu_seq_lens_q,
        max_length=max_length_q,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=(left, 0 if is_causal else left),
    )
    return out[None], None


def packed_attention(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    *,
    boundaries: "Tensor",
    max_length: int,
    scaling: float,
    window: tuple[int, int],
) -> "Tensor":
    """Attention (tokens, heads, d) within each text.

    `boundaries` int32 (texts + 1,) are where each text begins and the last ends; what comes after
    is undefined in the result. `window` is how many tokens to the left and right a token sees, -1
    for all. Key and value may have fewer heads, each shared by a group of the query's.
    """
    if query.is_cuda:
        return _by_varlen(query, key, value, boundaries, max_length, scaling, window)
    return _one_by_one(query, key, value, boundaries, scaling, window)


def missing_for_windows() -> str | None:
    """Why sliding windows cannot run packed on CUDA with this torch; None if they can."""
    if "window_size" in _varlen_parameters():
        return None
    return "this torch has no windows in torch.nn.attention.varlen; update torch"


@cache
def _varlen_parameters() -> frozenset[str]:
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def _by_varlen(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    boundaries: "Tensor",
    max_length: int,
    scaling: float,
    window: tuple[int, int],
) -> "Tensor":
    from torch.nn.attention.varlen import varlen_attn

    known = _varlen_parameters()
    options: dict[str, Any] = {}
    if "window_size" in known:
        options["window_size"] = window
    elif window == (-1, 0):  # torch 2.10
        options["is_causal"] = True
    elif window != (-1, -1):
        raise ValueError(missing_for_windows())
    if "scale" in known:
        options["scale"] = scaling
    else:
        query = query * (scaling * query.shape[-1] ** 0.5)
    if "enable_gqa" in known:
        options["enable_gqa"] = query.shape[1] != key.shape[1]
    elif query.shape[1] != key.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    out = varlen_attn(query, key, value, boundaries, boundaries, max_length, max_length, **options)
    assert not isinstance(out, tuple)  # It is one only where more was asked for.
    return out


def _one_by_one(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    boundaries: "Tensor",
    scaling: float,
    window: tuple[int, int],
) -> "Tensor":
    """The same text by text, on any device and in any precision: what the tests hold models to."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    out = torch.zeros_like(query)
    ends = boundaries.tolist()
    for start, end in pairwise(ends):
        if start == end:
            continue
        # Heads first, as scaled_dot_product_attention wants them.
        q, k, v = (states[start:end].transpose(0, 1)[None] for states in (query, key, value))
        out[start:end] = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(end - start, window, query.device),
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )[0].transpose(0, 1)
    return out


def _window_mask(length: int, window: tuple[int, int], device: "torch.device") -> "Tensor | None":
    import torch

    if window == (-1, -1):
        return None
    position = torch.arange(length, device=device)
    ahead = position[None, :] - position[:, None]
    left, right = (length if side < 0 else side for side in window)
    return (ahead >= -left) & (ahead <= right)
