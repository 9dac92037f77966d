"""Small randomly initialised sentence-transformers models, saved as real model folders.

They load by the same code as real ones and run in milliseconds; their vectors mean nothing.
"""

from pathlib import Path

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_model(
    folder: Path,
    *,
    dimension: int = 32,
    max_tokens: int = 64,
    pooling: str = "mean",
    normalize: bool = True,
    prompts: dict[str, str] | None = None,
) -> Path:
    """A BERT with WordPiece over letters, digits and punctuation; special tokens as in BERT."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [f"##{c}" for c in letters if c.isalnum()]
    vocabulary = [*_WORDS, *letters, *pieces, "the", "of", "and"]
    raw = folder.with_name(folder.name + "-transformer")
    raw.mkdir(parents=True)
    (raw / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizerFast(str(raw / "vocab.txt"), model_max_length=max_tokens)
    tokenizer.save_pretrained(raw)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
        max_position_embeddings=max_tokens,
    )
    BertModel(config).eval().save_pretrained(raw)
    transformer = Transformer(str(raw), max_seq_length=max_tokens)
    modules = [transformer, Pooling(dimension, pooling_mode=pooling)]
    model = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])])
    model.prompts = prompts or {}
    model.save(str(folder))
    return folder
