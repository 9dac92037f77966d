"""The model's own tokenizer, loaded as sentence-transformers loads it; nothing cut or padded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from embed_assets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The fast tokenizer of a model folder. Truncation and padding are off.

    Goes through transformers rather than straight to `tokenizer.json`, because for some families
    transformers rebuilds the tokenizer with arguments from `tokenizer_config.json`.
    """
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Lowercase, Sequence
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"no tokenizer could be loaded from {folder}: {error}") from error
    if not loaded.is_fast:
        raise InputError(f"the tokenizer in {folder} has no fast form, which chunking needs")
    # A copy: the caller's settings must not leak into a tokenizer that transformers may share.
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if _lowercases(folder):
        present = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = Sequence([Lowercase(), *present])
    return tokenizer


def _lowercases(folder: Path) -> bool:
    """Whether sentence-transformers lowercases texts before this model's tokenizer sees them."""
    config = folder / "sentence_bert_config.json"
    return config.is_file() and bool(json.loads(config.read_text()).get("do_lower_case"))
