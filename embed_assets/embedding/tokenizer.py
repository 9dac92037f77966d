"""The model's own tokenizer, loaded as sentence-transformers loads it; nothing cut or padded.

It is loaded once per machine. transformers takes torch along, which is three seconds for a second
of chunking, so what it makes of a model's files is kept in the user's cache.
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from embed_assets.digests import digest
from embed_assets.embedding.file_cache import FileCache
from embed_assets.embedding.model import Model
from embed_assets.embedding.model_folder import (
    tokenizer_arguments,
    transformer_folder,
    transformer_settings,
)
from embed_assets.embedding.model_json import json_object
from embed_assets.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


_FILE = "tokenizer.json"
_CACHE = FileCache("tokenizers", _FILE)


def load_tokenizer(model: Model) -> "Tokenizer":
    """The fast tokenizer of a model. Truncation and padding are off."""
    from tokenizers import Tokenizer

    versions = [f"{package} {version(package)}" for package in ("tokenizers", "transformers")]
    key = digest("tokenizer-1", model.tokenizer_version, *versions)
    kept = _read_kept(key)
    if kept is not None:
        return Tokenizer.from_str(kept)
    tokenizer = _made(model.folder)
    # What is kept under these files' digests must have been made from these files.
    model.verify_unchanged()
    made = tokenizer.to_str()
    _CACHE.keep(key, lambda entry: (entry / _FILE).write_text(made, encoding="utf-8"))
    return tokenizer


def _read_kept(key: str) -> str | None:
    entry = _CACHE.kept(key)
    try:
        return None if entry is None else (entry / _FILE).read_text(encoding="utf-8")
    except OSError:
        # Another process has just replaced it.
        return None


def _made(folder: Path) -> "Tokenizer":
    """Goes through transformers rather than straight to `tokenizer.json`, because for some families
    transformers rebuilds the tokenizer with arguments from `tokenizer_config.json`.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    arguments = tokenizer_arguments(folder) | {"trust_remote_code": False, "local_files_only": True}
    try:
        loaded = AutoTokenizer.from_pretrained(str(transformer_folder(folder)), **arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    # The tokenizers library raises plain Exception for a file that it cannot read, or panics.
    except BaseException as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"no tokenizer could be loaded from {folder}: {reason}") from error
    if not loaded.is_fast:
        raise InputError(f"the tokenizer in {folder} has no fast form, which chunking needs")
    # A copy: the caller's settings must not leak into a tokenizer that transformers may share.
    tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if transformer_settings(folder).get("do_lower_case"):
        _lowercase(tokenizer)
    return tokenizer


def cutting(tokenizer: "Tokenizer", folder: Path, max_tokens: int) -> "Tokenizer":
    """A copy that cuts texts, as `cut_texts` says."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(tokenizer.to_str())
    cut_texts(copy, folder, max_tokens)
    return copy


def cut_texts(tokenizer: "Tokenizer", folder: Path, max_tokens: int) -> None:
    """Make a tokenizer cut texts at `max_tokens`, special tokens included, on the side that the
    model folder says, as `SentenceTransformer.encode` does.
    """
    said = json_object(transformer_folder(folder) / "tokenizer_config.json")
    said |= tokenizer_arguments(folder)
    side = "left" if said.get("truncation_side") == "left" else "right"
    tokenizer.enable_truncation(max_tokens, direction=side)


def _lowercase(tokenizer: "Tokenizer") -> None:
    """What sentence-transformers does for models saved with do_lower_case."""
    from tokenizers.normalizers import Lowercase, Sequence

    present = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = Sequence([Lowercase(), *present])
