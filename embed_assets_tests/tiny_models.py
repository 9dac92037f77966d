"""Small randomly initialised sentence-transformers models, saved as real model folders.

They load by the same code as real ones and run in milliseconds; their vectors mean nothing.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed_assets.embedding.model import open_model
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets.settings import load_settings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

#: What the tokenizers are trained on, and what the tests cut into chunks.
TEXTS = (
    """# The tortoise and the hare

A hare was making fun of the tortoise one day for being so slow. "Do you ever get anywhere?" he
asked with a mocking laugh. "Yes," replied the tortoise, "and I get there sooner than you think."

## The race

The hare was much amused at the idea of running a race with the tortoise, but for the fun of the
thing he agreed. So the fox, who had consented to act as judge, marked the distance (1,200 paces)
and started the runners off.

- The hare was soon far out of sight.
- He lay down beside the course to take a nap!
- The tortoise kept going slowly but steadily, and after a time passed the place.
""",
    """def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5

Crème brûlée, naïve café; straße, ŁÓDŹ. Привет, мир! Γειά σου Κόσμε.
東京は日本の首都です。人口は約千四百万人。 ภาษาไทยไม่มีช่องว่าง 👩‍👩‍👧‍👦 👍🏽 e\u0301\u0302

The end, which never seems to come, of a sentence that wanders on and on, past every comma, until
the reader has forgotten how it began, and then some, and then a little more, and stops.
""",
)

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # Ten times the usual: otherwise attention hardly tells one text from another.
    "initializer_range": 0.2,
}


def _wordpieces() -> list[str]:
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    return [*letters, *(f"##{c}" for c in letters if c.isalnum()), "the", "of", "and"]


def _numbered(vocabulary: list[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(vocabulary)}


def _byte_level_bpe(special: list[str]) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges of a byte-level BPE trained on the texts."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=400, special_tokens=special, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def _saved(
    folder: Path,
    architecture: Any,  # noqa: ANN401  a transformers model class
    config: Any,  # noqa: ANN401  its configuration
    tokenizer: Any,  # noqa: ANN401
    pooling: str = "mean",
) -> Path:
    """A folder laid out as models on the hub are: pooling by flags, Normalize without a file."""
    import torch

    torch.manual_seed(0)
    architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (path, name) in enumerate(names.items())
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    write_json(
        folder / "1_Pooling/config.json",
        {
            "word_embedding_dimension": 32,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_lasttoken": pooling == "lasttoken",
        },
    )
    return folder


def write_json(file: Path, content: object) -> None:
    """Write a file of a model folder, with its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


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
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = [*_WORDS, *_wordpieces()]
    raw = folder.with_name(folder.name + "-transformer")
    raw.mkdir(parents=True)
    tokenizer = BertTokenizer(vocab=_numbered(vocabulary), model_max_length=max_tokens)
    tokenizer.save_pretrained(raw)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
        initializer_range=_SIZES["initializer_range"],
        max_position_embeddings=max_tokens,
    )
    BertModel(config).save_pretrained(raw)
    transformer = Transformer(str(raw), max_seq_length=max_tokens)
    modules = [transformer, Pooling(dimension, pooling_mode=pooling)]
    model = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])])
    model.prompts = dict(prompts or {})
    model.save(str(folder))
    return folder


#: The families whose vectors the tests compare with sentence-transformers' own, by name.
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "bert-mean": lambda folder: bert_model(folder),
    "bert-cls": lambda folder: bert_model(folder, pooling="cls"),
    "bert-prompts": lambda folder: bert_model(
        folder, prompts={"query": "query: ", "document": "passage: "}
    ),
    "bert-without-prompt-in-mean": lambda folder: instructor_model(folder),
    "mpnet": lambda folder: mpnet_model(folder),
    "roberta": lambda folder: roberta_model(folder),
    "xlm-roberta": lambda folder: xlm_roberta_model(folder),
    "qwen": lambda folder: qwen_model(folder),
}


def instructor_model(folder: Path) -> Path:
    """A BERT whose prompt is read but left out of the mean, as in INSTRUCTOR."""
    bert_model(folder, prompts={"document": "represent the document: "})
    config = json.loads((folder / "1_Pooling/config.json").read_text())
    (folder / "1_Pooling/config.json").write_text(json.dumps(config | {"include_prompt": False}))
    return folder


def mpnet_model(folder: Path) -> Path:
    """MPNet: WordPiece as in BERT, special tokens as in RoBERTa; positions begin at pad + 1."""
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    vocabulary = ["<s>", "<pad>", "</s>", "[UNK]", *_wordpieces(), "<mask>"]
    config = MPNetConfig(**_SIZES, vocab_size=len(vocabulary), max_position_embeddings=66)
    tokenizer = MPNetTokenizer(vocab=_numbered(vocabulary), model_max_length=64)
    return _saved(folder, MPNetModel, config, tokenizer)


def roberta_model(folder: Path) -> Path:
    """RoBERTa: byte-level BPE, where the space belongs to the word behind it."""
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary, merges = _byte_level_bpe(special)
    config = RobertaConfig(**_SIZES, vocab_size=len(vocabulary), max_position_embeddings=66)
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=64)
    return _saved(folder, RobertaModel, config, tokenizer)


def xlm_roberta_model(folder: Path) -> Path:
    """XLM-R: SentencePiece unigrams; a text gets a blank put before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    vocabulary = [(piece, score) for piece, score in pieces]
    tokenizer = XLMRobertaTokenizer(vocab=vocabulary, model_max_length=64)
    config = XLMRobertaConfig(**_SIZES, vocab_size=len(tokenizer), max_position_embeddings=66)
    return _saved(folder, XLMRobertaModel, config, tokenizer)


def qwen_model(folder: Path) -> Path:
    """A decoder as in Qwen3-Embedding: padded on the left, the vector is that of the last token,
    which the tokenizer's post-processor appends.
    """
    from tokenizers import processors
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

    end = "<|endoftext|>"
    vocabulary, merges = _byte_level_bpe([end])
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, model_max_length=64, padding_side="left"
    )
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 0)]),
        ]
    )
    config = Qwen3Config(
        **_SIZES,
        vocab_size=len(tokenizer),
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
    )
    return _saved(folder, Qwen3Model, config, tokenizer, pooling="lasttoken")


def distilbert_model(folder: Path) -> Path:
    """DistilBERT: BERT without token types and with names of its own for sizes."""
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    vocabulary = [*_WORDS, *_wordpieces()]
    config = DistilBertConfig(
        vocab_size=len(vocabulary),
        dim=32,
        n_layers=2,
        n_heads=2,
        hidden_dim=64,
        initializer_range=_SIZES["initializer_range"],
        max_position_embeddings=64,
    )
    tokenizer = BertTokenizer(vocab=_numbered(vocabulary), model_max_length=64)
    return _saved(folder, DistilBertModel, config, tokenizer)


def _wordpiece_model(folder: Path, architecture: str, **options: Any) -> Path:  # noqa: ANN401
    """Another family with BERT's tokenizer."""
    import transformers

    vocabulary = [*_WORDS, *_wordpieces()]
    config = getattr(transformers, f"{architecture}Config")(
        **_SIZES | {"vocab_size": len(vocabulary), "max_position_embeddings": 64} | options
    )
    tokenizer = transformers.BertTokenizer(vocab=_numbered(vocabulary), model_max_length=64)
    return _saved(folder, getattr(transformers, f"{architecture}Model"), config, tokenizer)


def modernbert_model(folder: Path) -> Path:
    """ModernBERT: rotary positions; a global layer, then two that see 4 tokens to each side."""
    return _wordpiece_model(
        folder,
        "ModernBert",
        num_hidden_layers=3,
        local_attention=8,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        initializer_cutoff_factor=2.0,
    )


def mistral_model(folder: Path) -> Path:
    """A decoder whose tokens see the seven before them, with fewer heads for keys than queries."""
    return _wordpiece_model(
        folder, "Mistral", num_key_value_heads=1, head_dim=16, sliding_window=8, pad_token_id=0
    )


#: Families that run packed on a GPU, each compared with padded batches.
PACKED_FAMILIES: dict[str, Callable[[Path], Path]] = FAMILIES | {
    "camembert": lambda folder: _wordpiece_model(
        folder, "Camembert", max_position_embeddings=66, pad_token_id=1
    ),
    "distilbert": distilbert_model,
    "electra": lambda folder: _wordpiece_model(folder, "Electra", embedding_size=16),
    "eurobert": lambda folder: _wordpiece_model(
        folder,
        "EuroBert",
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        mask_token_id=4,
    ),
    "llama": lambda folder: _wordpiece_model(folder, "Llama", num_key_value_heads=1),
    "mistral": mistral_model,
    "modernbert": modernbert_model,
    "nomic-bert": lambda folder: _wordpiece_model(folder, "NomicBert", head_dim=16),
    "qwen2": lambda folder: _wordpiece_model(folder, "Qwen2", num_key_value_heads=1),
}


def add_dense(folder: Path) -> None:
    """Put a Dense layer to 12 dimensions behind the model."""
    from sentence_transformers.sentence_transformer.modules import Dense

    modules = json.loads((folder / "modules.json").read_text())
    kind = "sentence_transformers.models.Dense"
    modules.append({"idx": len(modules), "name": "3", "path": "3_Dense", "type": kind})
    write_json(folder / "modules.json", modules)
    (folder / "3_Dense").mkdir()
    Dense(32, 12).save(str(folder / "3_Dense"))


def sentence_transformer(folder: Path) -> "SentenceTransformer":
    """The folder as sentence-transformers itself loads it: what the tests compare with."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def tokenizer_of(folder: Path) -> "Tokenizer":
    """The tokenizer of a model folder, as the pipeline uses it."""
    return load_tokenizer(open_model(load_settings({"model": str(folder)})))
