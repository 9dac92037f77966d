"""A sentence-transformers model over packed batches: positions, transformer, pooling, the rest.

`why_not_packed` says which models cannot; they run in length buckets. Families are named one by
one, because a wrong position still gives vectors that look right.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from embed_assets.embedding import packed_attention, packed_mpnet, packed_pooling
from embed_assets.embedding.packing import PackedShape

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

# Positions count from 0 in each text.
_FROM_ZERO = (
    "bert",
    "distilbert",
    "electra",
    "eurobert",
    "llama",
    "mistral",
    "modernbert",
    "nomic_bert",
    "qwen2",
    "qwen3",
)
# Positions begin behind the padding token's id, and tokens with that id do not count.
_AFTER_PAD = ("camembert", "mpnet", "roberta", "xlm-roberta")

# Modules that look at the pooled vector alone.
_AFTER_POOLING = ("Dense", "Dropout", "LayerNorm", "Normalize")
# Their frequencies depend on the longest position of the call.
_ROPE_OF_THE_CALL = ("dynamic", "longrope")


def why_not_packed(transformer: "SentenceTransformer") -> str | None:
    """What stands in the way of running a loaded model packed; None if nothing does."""
    names = [type(module).__name__ for module in transformer]
    if names[:2] != ["Transformer", "Pooling"] or not set(names[2:]) <= {*_AFTER_POOLING}:
        return f"modules {', '.join(names)} are not Transformer, Pooling and what follows them"
    first, pooling, *rest = transformer
    if any(
        getattr(module, "module_input_name", "sentence_embedding") != "sentence_embedding"
        for module in rest
    ):
        return "a Dense module works on tokens"
    if not set(_modes(pooling)) <= {*packed_pooling.MODES}:
        return f"pooling {pooling.pooling_mode} is not known to run packed"
    if getattr(first, "modality_config", _PLAIN_TEXT).get("text") != _PLAIN_TEXT["text"]:
        return "the vectors are not taken from the last hidden state"
    return _family_in_the_way(_network(transformer).config, transformer.device.type)


_PLAIN_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def _family_in_the_way(config: Any, device_type: str) -> str | None:  # noqa: ANN401
    if config.model_type not in (*_FROM_ZERO, *_AFTER_PAD):
        return f"family {config.model_type!r} is not known to run packed"
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", 0):
        return "the model has cross-attention"
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        return f"positions are {config.position_embedding_type}"
    if set(_rope_types(getattr(config, "rope_parameters", None))) & {*_ROPE_OF_THE_CALL}:
        return "rotary positions depend on the longest text of a batch"
    has_windows = "sliding_attention" in (getattr(config, "layer_types", None) or ()) or (
        config.model_type == "mistral" and config.sliding_window
    )
    if has_windows and device_type == "cuda":
        return packed_attention.missing_for_windows()
    return None


def _network(transformer: "SentenceTransformer") -> Any:  # noqa: ANN401
    """The transformers model inside."""
    return transformer[0].auto_model


def _rope_types(parameters: Any) -> list[str]:  # noqa: ANN401  a dict, or a dict of them by layer
    if not isinstance(parameters, dict):
        return []
    nested = [kind for value in parameters.values() for kind in _rope_types(value)]
    return [*nested, str(parameters.get("rope_type", "default"))]


def _modes(pooling: Any) -> tuple[str, ...]:  # noqa: ANN401  a Pooling module
    mode = pooling.pooling_mode
    return (mode,) if isinstance(mode, str) else tuple(mode)


@dataclass(frozen=True)
class PackedModel:
    """What a packed forward pass needs. The model's own padded forward pass still works."""

    transformer: "SentenceTransformer"
    dimension: int
    normalize: bool
    n_prompt_tokens: int

    @classmethod
    def prepared(
        cls,
        transformer: "SentenceTransformer",
        dimension: int,
        normalize: bool,
        n_prompt_tokens: int,
    ) -> "PackedModel":
        """Teach the model's attention to run packed. `why_not_packed` must have said None.

        `dimension` cuts vectors, `normalize` makes them unit after that; the first
        `n_prompt_tokens` of each text are not pooled.
        """
        model = _network(transformer)
        if model.config.model_type == "mpnet":
            packed_mpnet.prepare(model)
        else:
            packed_attention.register()
            model.set_attn_implementation(packed_attention.NAME)
        return cls(transformer, dimension, normalize, n_prompt_tokens)

    def __call__(self, inputs: "Tensor", shape: PackedShape) -> "Tensor":
        """Vectors float32 (shape.n_texts, dimension) of int32 inputs (shape.n_inputs,).

        `inputs` are as `packing.pack` writes them, on the model's device. Nothing waits for the
        device. Rows of texts that are not there mean nothing.
        """
        boundaries, ids = inputs[: shape.n_texts + 1], inputs[shape.n_texts + 1 :]
        positions = _positions(boundaries, len(ids))
        hidden = self._hidden(ids, positions, boundaries, shape)
        _, pooling, *rest = self.transformer
        vectors = packed_pooling.pool(
            hidden, boundaries, positions, _modes(pooling), self.n_prompt_tokens
        )
        features: dict[str, Any] = {"sentence_embedding": vectors}
        for module in rest:
            features = module(features)
        return self._finished(features["sentence_embedding"])

    def _hidden(
        self, ids: "Tensor", positions: "Tensor", boundaries: "Tensor", shape: PackedShape
    ) -> "Tensor":
        """Last hidden states (tokens, d)."""
        model = _network(self.transformer)
        if model.config.model_type in _AFTER_PAD:
            pad_id = model.embeddings.padding_idx
            position_ids = _after_pad(ids, positions, boundaries, pad_id)
        else:
            position_ids = positions
        options = {} if model.config.model_type == "mpnet" else {"use_cache": False}
        with packed_mpnet.layout(model, boundaries, positions, shape.max_length):
            output = model(
                input_ids=ids[None],
                position_ids=position_ids[None],
                attention_mask=packed_attention.no_mask(ids.device),
                cu_seq_lens_q=boundaries,
                max_length_q=shape.max_length,
                **options,
            )
        return cast("Tensor", output.last_hidden_state[0])

    def _finished(self, vectors: "Tensor") -> "Tensor":
        from torch.nn.functional import normalize

        cut = vectors.float()[:, : self.dimension]
        return normalize(cut, p=2, dim=1) if self.normalize else cut


def _positions(boundaries: "Tensor", n_tokens: int) -> "Tensor":
    """Position int64 (tokens,) of each token in its text; 0 where there is no text."""
    import torch

    token = torch.arange(n_tokens, device=boundaries.device, dtype=boundaries.dtype)
    text = torch.searchsorted(boundaries, token, right=True) - 1
    return (token - boundaries[text]).long() * (token < boundaries[-1])


def _after_pad(ids: "Tensor", positions: "Tensor", boundaries: "Tensor", pad_id: int) -> "Tensor":
    """Position ids (tokens,) as RoBERTa counts: tokens that are not padding, from pad_id + 1.

    A text may hold the padding token's own text, hence its id; padding tokens are at `pad_id`.
    """
    import torch

    counts = ids != pad_id
    running = counts.cumsum(0)
    token = torch.arange(len(ids), device=ids.device)
    start = token - positions
    before = running[start] - counts[start].long()
    # Behind the last text: any position that exists.
    is_text = token < boundaries[-1]
    return (running - before) * (counts & is_text) + pad_id
