"""MPNet's attention over packed texts. Its bias by distance is nothing flash attention can add, so
the texts are padded for the attention alone; all matrix products with weights stay packed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Where a prepared model keeps the layout of the batch that runs.
_LAYOUT = "embed_assets_layout"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the tokens of a batch stand when each text has a row of its own.

    `slots` (texts, length) is the token of each place, `is_token` where there is one, `text` and
    `position` (tokens,) the place of each token.
    """

    slots: "Tensor"
    is_token: "Tensor"
    text: "Tensor"
    position: "Tensor"


def prepare(model: Any) -> None:  # noqa: ANN401  an MPNetModel
    """Let the attention of a model run packed inside `layout`, and as it was outside."""
    encoder = model.encoder
    setattr(encoder, _LAYOUT, None)
    padded_bias = encoder.compute_position_bias

    def position_bias(hidden: "Tensor", *arguments: object, **options: object) -> "Tensor":
        layout = getattr(encoder, _LAYOUT)
        if layout is None:
            return padded_bias(hidden, *arguments, **options)  # type: ignore[no-any-return]
        return _bias_and_mask(encoder, layout, hidden.dtype)

    encoder.compute_position_bias = position_bias
    for layer in encoder.layer:
        attention = layer.attention.attn
        padded = attention.forward

        def forward(
            self: Any,  # noqa: ANN401
            hidden_states: "Tensor",
            attention_mask: "Tensor | None" = None,
            position_bias: "Tensor | None" = None,
            _padded: Any = padded,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> "tuple[Tensor, ...]":
            layout = getattr(encoder, _LAYOUT)
            if layout is None:
                return _padded(hidden_states, attention_mask, position_bias, **options)  # type: ignore[no-any-return]
            return (_attend(self, hidden_states, position_bias, layout),)

        attention.forward = MethodType(forward, attention)


@contextmanager
def layout(
    model: Any,  # noqa: ANN401
    boundaries: "Tensor",
    positions: "Tensor",
    max_length: int,
) -> Iterator[None]:
    """Run an MPNet packed inside; nothing to do for other families."""
    if model.config.model_type != "mpnet":
        yield
        return
    setattr(model.encoder, _LAYOUT, _layout(boundaries, positions, max_length))
    try:
        yield
    finally:
        setattr(model.encoder, _LAYOUT, None)


def _layout(boundaries: "Tensor", positions: "Tensor", max_length: int) -> _Layout:
    import torch

    place = torch.arange(max_length, device=boundaries.device)
    slots = boundaries[:-1, None] + place
    token = torch.arange(len(positions), device=boundaries.device, dtype=boundaries.dtype)
    text = torch.searchsorted(boundaries, token, right=True) - 1
    return _Layout(
        slots=slots.clamp(max=len(positions) - 1),
        is_token=slots < boundaries[1:, None],
        text=text.clamp(max=len(boundaries) - 2),
        position=positions,
    )


def _bias_and_mask(encoder: Any, layout: _Layout, dtype: Any) -> "Tensor":  # noqa: ANN401
    """What to add to the scores, (texts, heads, length, length): computed once for all layers."""
    import torch

    place = torch.arange(layout.slots.shape[1], device=layout.slots.device)
    bucket = encoder.relative_position_bucket(place[None, :] - place[:, None])
    bias = encoder.relative_attention_bias(bucket).permute(2, 0, 1)[None].to(dtype)
    # Finite: a text that is not there must not become NaN, which reductions would spread.
    masked: Tensor = bias.masked_fill(~layout.is_token[:, None, None, :], torch.finfo(dtype).min)
    return masked


def _attend(
    attention: Any,  # noqa: ANN401  an MPNetSelfAttention
    hidden: "Tensor",
    bias: "Tensor | None",
    layout: _Layout,
) -> "Tensor":
    """The attention's output (1, tokens, d) for hidden states (1, tokens, d)."""
    from torch.nn.functional import scaled_dot_product_attention

    heads = (attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        project(hidden[0]).view(-1, *heads)[layout.slots].transpose(1, 2)
        for project in (attention.q, attention.k, attention.v)
    )
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2)
    packed = mixed[layout.text, layout.position].flatten(1)
    return attention.o(packed)[None]  # type: ignore[no-any-return]
