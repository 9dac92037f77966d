"""What a sentence-transformers folder says about itself in its JSON files. Loads no model.

The same rules as in sentence-transformers, so that what is promised before a load holds after it.
"""

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from embed_assets.errors import InputError

# Every shipped sentence-transformers module lives below this name; anything else would be code.
_TRUSTED_MODULE = re.compile(r"sentence_transformers(\.\w+)+")
# Plain text in, one vector out. Others (Router, CLIPModel, StaticEmbedding, ...) prepare texts
# in ways that chunking does not know.
_KNOWN_MODULES = {
    "Transformer",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "Dropout",
    "WeightedLayerPooling",
}
# Where the Transformer module's own settings stand; the first that says anything counts.
_TRANSFORMER_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# model_type -> positions lost to the padding offset (these number positions from pad + 1).
_POSITION_OFFSETS = dict.fromkeys(
    ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "xmod"), 2
)
# transformers writes about 1e30 where a tokenizer has no limit.
_NO_LIMIT = 10**9


def refuse_what_cannot_run(folder: Path) -> None:
    """Raise InputError for foreign code, pickled weights and modules that chunking cannot serve."""
    for module in modules(folder):
        _refuse_module(folder, module)
    names = [str(module["type"]).rpartition(".")[2] for module in modules(folder)]
    if names and (names[0] != "Transformer" or "Pooling" not in names):
        raise InputError(
            f"{folder / 'modules.json'} lists {', '.join(names)}; expected a Transformer first and "
            "a Pooling after it"
        )
    transformer = transformer_folder(folder)
    for file in ("config.json", "tokenizer_config.json", "processor_config.json"):
        if "auto_map" in _object(transformer / file):
            raise InputError(
                f"{transformer / file} has an auto_map, which points at code of its own; models "
                "that bring their own code are refused"
            )
    if (transformer / "adapter_config.json").is_file():
        raise InputError(
            f"{transformer} holds an adapter, whose base model lies elsewhere; merge the two "
            "(merge_and_unload) and save the model again"
        )
    if transformer_settings(folder).get("tokenizer_name_or_path"):
        raise InputError(
            f"{transformer} takes its tokenizer from elsewhere (tokenizer_name_or_path); save the "
            "model again with its tokenizer"
        )


def _refuse_module(folder: Path, module: dict[str, Any]) -> None:
    file = folder / "modules.json"
    kind, path = str(module.get("type", "")), str(module.get("path", ""))
    if not _TRUSTED_MODULE.fullmatch(kind):
        raise InputError(
            f"{file} names the class {kind!r}, which is not part of sentence-transformers; models "
            "that bring their own code are refused"
        )
    if kind.rpartition(".")[2] not in _KNOWN_MODULES:
        raise InputError(
            f"{file} names the module {kind!r}, which this version cannot run; it knows "
            f"{', '.join(sorted(_KNOWN_MODULES))}"
        )
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise InputError(f"{file} names the path {path!r}, expected one inside the model folder")
    # sentence-transformers would unpickle these where there is no safetensors file beside them.
    if (folder / path / "pytorch_model.bin").is_file() and not any(
        (folder / path).glob("*.safetensors")
    ):
        raise InputError(
            f"{folder / path} has no .safetensors weights; pickled weights (.bin) are not loaded "
            "because they can run code: save the model again with safe_serialization=True"
        )


def modules(folder: Path) -> list[dict[str, Any]]:
    """The entries of modules.json; empty for a plain transformers folder."""
    found = _json(folder / "modules.json", default=[])
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise InputError(f"{folder / 'modules.json'} is no list of modules")
    return found


def transformer_folder(folder: Path) -> Path:
    """Where the transformer's own files lie: the folder itself, or in old models 0_Transformer."""
    found = modules(folder)
    return folder / str(found[0].get("path", "")) if found else folder


def transformer_settings(folder: Path) -> dict[str, Any]:
    """What the Transformer module was saved with; empty where nothing is said."""
    for name in _TRANSFORMER_SETTINGS:
        if settings := _object(transformer_folder(folder) / name):
            return settings
    return {}


def tokenizer_arguments(folder: Path) -> dict[str, Any]:
    """Keyword arguments that sentence-transformers would load the tokenizer with."""
    settings = transformer_settings(folder)
    arguments = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    return {name: value for name, value in arguments.items() if name != "trust_remote_code"}


def token_limit(folder: Path) -> int | None:
    """Most tokens that the model reads, special tokens included; None where it does not say."""
    transformer = transformer_folder(folder)
    config = _object(transformer / "config.json")
    said = (
        tokenizer_arguments(folder).get("model_max_length")
        or transformer_settings(folder).get("max_seq_length")
        or _object(transformer / "tokenizer_config.json").get("model_max_length")
    )
    limits = [int(said)] if said else []
    positions = int(config.get("max_position_embeddings") or 0)
    # XLNet writes -1: it has no limit.
    if positions > 0:
        limits.append(positions - _POSITION_OFFSETS.get(str(config.get("model_type")), 0))
    limit = min(limits, default=_NO_LIMIT)
    return limit if limit < _NO_LIMIT else None


def dimension(folder: Path) -> int:
    """Length of the model's vectors, as its modules declare it; 0 where they do not say."""
    config = _object(transformer_folder(folder) / "config.json")
    width = int(config.get("hidden_size") or config.get("d_model") or config.get("dim") or 0)
    for module in modules(folder):
        config = _object(folder / str(module.get("path", "")) / "config.json")
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            declared = config.get("embedding_dimension") or config.get("word_embedding_dimension")
            width = int(declared or width) * _n_pooling_modes(config)
        elif kind == "Dense":
            width = int(config.get("out_features") or 0)
    return width


def _n_pooling_modes(config: dict[str, Any]) -> int:
    """Each mode of a Pooling module gives a vector of its own, one behind the other."""
    mode = config.get("pooling_mode")
    if mode is None:
        # Before sentence-transformers 6: one flag per mode, and the mean where none is set.
        flags = [on for key, on in config.items() if key.startswith("pooling_mode_")]
        return max(1, sum(map(bool, flags)))
    return 1 if isinstance(mode, str) else len(mode)


def ends_normalized(folder: Path) -> bool:
    """Whether the last module scales vectors to length 1."""
    found = modules(folder)
    if not found or not str(found[-1]["type"]).endswith(".Normalize"):
        return False
    config = _object(folder / str(found[-1].get("path", "")) / "config.json")
    vector = "sentence_embedding"
    source = config.get("module_input_name") or vector
    return source == vector and (config.get("module_output_name") or vector) == vector


def prompts(folder: Path) -> tuple[str, str]:
    """The model's own prompts for documents and for queries; "" where it has none."""
    config = _object(folder / "config_sentence_transformers.json")
    named = {name: text or "" for name, text in (config.get("prompts") or {}).items()}
    default = named.get(config.get("default_prompt_name") or "", "")
    # sentence-transformers saves an empty "document" beside a model's own "passage".
    documents = [named[name] for name in ("document", "passage", "corpus") if name in named]
    document = next(filter(None, documents), "" if documents else default)
    return document, named.get("query", default)


def _object(file: Path) -> dict[str, Any]:
    found = _json(file, default={})
    if not isinstance(found, dict):
        raise InputError(f"{file} holds a JSON {type(found).__name__}, expected an object")
    return found


def _json(file: Path, default: object) -> Any:  # noqa: ANN401  as in json
    if not file.is_file():
        return default
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error
