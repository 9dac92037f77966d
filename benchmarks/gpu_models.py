"""What the GPU benchmark runs on: BERTs of known shapes with random weights, and made-up texts.

Speed does not depend on what the weights are. A text is a row of words that are one token each, so
its token ids are known without a tokenizer, and the peer's tokenizer finds the same ones.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.token_rows import TokenRows

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CLS, _SEP = 2, 3


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a BERT."""

    n_layers: int
    hidden: int
    n_heads: int
    intermediate: int
    max_tokens: int = 512
    n_words: int = 30_000

    def flops_per_token(self, lengths: NDArray[np.int64]) -> float:
        """Multiplications and additions of the forward pass for a token of texts so long (n,).

        Twice the weights of the layers, and attention to each token of the text, twice over.
        """
        weights = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        attended = float((lengths**2).sum() / lengths.sum())
        return self.n_layers * (2 * weights + 4 * attended * self.hidden)


SHAPES = {
    "MiniLM-L6": ModelShape(6, 384, 12, 1_536),
    "BERT-base": ModelShape(12, 768, 12, 3_072),
    "BERT-large": ModelShape(24, 1_024, 16, 4_096),
}
TINY = {"tiny": ModelShape(2, 32, 2, 64, max_tokens=32, n_words=200)}


def save_model(shape: ModelShape, folder: Path) -> None:
    """A sentence-transformers model folder with random weights: mean pooling, unit vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    pieces = [*_SPECIAL, *(f"w{i}" for i in range(shape.n_words))]
    raw = folder / "transformer"
    raw.mkdir(parents=True)
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, model_max_length=shape.max_tokens).save_pretrained(raw)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.max_tokens,
        # Wider than at the start of training, so that texts differ and precision shows.
        initializer_range=0.05,
    )
    BertModel(config).save_pretrained(raw)
    modules = [Transformer(str(raw), max_seq_length=shape.max_tokens), Pooling(shape.hidden)]
    SentenceTransformer(modules=[*modules, Normalize()]).save(str(folder / "model"))


def text_lengths(kind: str, n_tokens: int, max_tokens: int) -> NDArray[np.int64]:
    """Tokens of each text, special ones included: all of one length, or a mix as of a corpus."""
    if kind != "mix":
        length = min(int(kind), max_tokens)
        return np.full(max(1, n_tokens // length), length, dtype=np.int64)
    # Mean about 190 of 512: many texts are cut at the limit, most are much shorter.
    random = np.random.default_rng(0)
    drawn = random.lognormal(np.log(max_tokens * 0.29), 0.8, max(16, 3 * n_tokens // max_tokens))
    return np.clip(drawn, 3, max_tokens).astype(np.int64)


def made_up(lengths: NDArray[np.int64], n_words: int) -> TokenRows:
    """Token ids of texts so long, each between the model's two special tokens."""
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    random = np.random.default_rng(1)
    flat = random.integers(0, n_words, offsets[-1], dtype=np.int32) + np.int32(len(_SPECIAL))
    flat[offsets[:-1]], flat[offsets[1:] - 1] = _CLS, _SEP
    return TokenRows(flat, offsets)


def as_texts(tokens: TokenRows) -> list[str]:
    """The texts that these token ids are of."""
    bounds = zip(tokens.offsets[:-1] + 1, tokens.offsets[1:] - 1, strict=True)
    return [
        " ".join(f"w{i}" for i in (tokens.flat[start:end] - len(_SPECIAL)).tolist())
        for start, end in bounds
    ]


def first_rows(tokens: TokenRows, share: float) -> TokenRows:
    """The first texts, in about this share."""
    n_rows = max(1, int(len(tokens) * share))
    offsets = tokens.offsets[: n_rows + 1]
    return TokenRows(tokens.flat[: offsets[-1]], offsets)
