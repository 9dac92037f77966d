"""What a sentence-transformers folder says about itself in its JSON files. Loads no model.

The same rules as in sentence-transformers, so that what is promised before a load holds after it.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from embed_assets.embedding.model_json import json_object, json_value, whole_number
from embed_assets.errors import InputError

_SETTINGS_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# model_type -> positions lost to the padding offset (these number positions from pad + 1).
_POSITION_OFFSETS = dict.fromkeys(
    ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "xmod"), 2
)
# transformers writes about 1e30 where a tokenizer has no limit.
_NO_LIMIT = 10**9


def modules(folder: Path) -> list[dict[str, Any]]:
    """The entries of modules.json, paths inside the folder; empty for a transformers folder."""
    file = folder / "modules.json"
    found = json_value(file, default=None)
    if found is None:
        return []
    if not found or not isinstance(found, list) or not all(isinstance(m, dict) for m in found):
        raise InputError(f"{file} is no list of modules")
    for path in (module.get("path") for module in found):
        if not _is_inside(path):
            raise InputError(
                f"{file} names the path {path!r}, expected one inside the model folder"
            )
    return found


def _is_inside(path: object) -> bool:
    if not isinstance(path, str) or not path.isprintable() or "\\" in path:
        return False
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts


def module_folders(folder: Path) -> list[Path]:
    """Every folder whose files a load reads: the model's own and that of each module."""
    return list(dict.fromkeys([folder, *(folder / module["path"] for module in modules(folder))]))


def transformer_folder(folder: Path) -> Path:
    """Where the transformer's own files lie: the folder itself, or in old models 0_Transformer."""
    found = modules(folder)
    return folder / found[0]["path"] if found else folder


def settings_file(folder: Path) -> Path:
    """Where the Transformer module's own settings stand: the first file that says anything."""
    files = [transformer_folder(folder) / name for name in _SETTINGS_FILES]
    return next(filter(json_object, files), files[0])


def transformer_settings(folder: Path) -> dict[str, Any]:
    """What the Transformer module was saved with; empty where nothing is said."""
    return json_object(settings_file(folder))


def tokenizer_arguments(folder: Path) -> dict[str, Any]:
    """Keyword arguments that sentence-transformers would load the tokenizer with."""
    settings = transformer_settings(folder)
    arguments = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    return {name: value for name, value in arguments.items() if name != "trust_remote_code"}


def token_limit(folder: Path) -> int | None:
    """Most tokens that the model reads, special tokens included; None where it does not say."""
    transformer, settings = transformer_folder(folder), settings_file(folder)
    config, tokenizer_config = transformer / "config.json", transformer / "tokenizer_config.json"
    said = (
        _size(settings, tokenizer_arguments(folder), "model_max_length", least=1)
        or _size(settings, transformer_settings(folder), "max_seq_length", least=1)
        or _size(tokenizer_config, json_object(tokenizer_config), "model_max_length", least=1)
    )
    limits = [said] if said else []
    positions = _size(config, json_object(config), "max_position_embeddings", least=-1)
    # XLNet writes -1: it has no limit.
    if positions > 0:
        model_type = str(json_object(config).get("model_type"))
        limits.append(positions - _POSITION_OFFSETS.get(model_type, 0))
    limit = min(limits, default=_NO_LIMIT)
    if limit < 1:
        raise InputError(f"{config} has {positions} positions, none of them for a token")
    return limit if limit < _NO_LIMIT else None


def dimension(folder: Path) -> int:
    """Length of the model's vectors, as its modules declare it; 0 where they do not say."""
    file = transformer_folder(folder) / "config.json"
    width = _size(file, json_object(file), "hidden_size", "d_model", "dim")
    for module in modules(folder):
        file = folder / module["path"] / "config.json"
        config, kind = json_object(file), str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            declared = _size(file, config, "embedding_dimension", "word_embedding_dimension")
            width = (declared or width) * _n_pooling_modes(file, config)
        elif kind == "Dense":
            width = _size(file, config, "out_features")
    return width


def _size(file: Path, config: dict[str, Any], *keys: str, least: int = 0) -> int:
    """The first of some keys that says anything; 0 where none does."""
    said = [(key, config[key]) for key in keys if config.get(key)]
    return whole_number(file, *said[0], least) if said else 0


def _n_pooling_modes(file: Path, config: dict[str, Any]) -> int:
    """Each mode of a Pooling module gives a vector of its own, one behind the other."""
    mode = config.get("pooling_mode")
    if mode is None:
        # Before sentence-transformers 6: one flag per mode, and the mean where none is set.
        flags = [on for key, on in config.items() if key.startswith("pooling_mode_")]
        return max(1, sum(map(bool, flags)))
    modes = [mode] if isinstance(mode, str) else mode
    if not isinstance(modes, list) or not 1 <= len(set(map(str, modes))) == len(modes):
        raise InputError(f"{file} has the pooling_mode {mode!r:.80}, expected one or several names")
    return len(modes)


def ends_normalized(folder: Path) -> bool:
    """Whether the last module scales vectors to length 1."""
    found = modules(folder)
    if not found or not str(found[-1]["type"]).endswith(".Normalize"):
        return False
    config = json_object(folder / found[-1]["path"] / "config.json")
    vector = "sentence_embedding"
    source = config.get("module_input_name") or vector
    return source == vector and (config.get("module_output_name") or vector) == vector


def prompts(folder: Path) -> tuple[str, str]:
    """The model's own prompts for documents and for queries; "" where it has none."""
    file = folder / "config_sentence_transformers.json"
    config = json_object(file)
    named, default_name = config.get("prompts") or {}, config.get("default_prompt_name") or ""
    if not isinstance(named, dict) or any(
        not isinstance(text, str | None) for text in (*named.values(), default_name)
    ):
        raise InputError(f"{file} has prompts that are no texts by name")
    named = {name: text or "" for name, text in named.items()}
    default = named.get(default_name, "")
    # sentence-transformers saves an empty "document" beside a model's own "passage".
    documents = [named[name] for name in ("document", "passage", "corpus") if name in named]
    document = next(filter(None, documents), "" if documents else default)
    return document, named.get("query", default)


def leaves_prompt_out(folder: Path) -> bool:
    """Whether the tokens of a prompt are read but left out of the mean, as in INSTRUCTOR."""
    return any(
        json_object(folder / module["path"] / "config.json").get("include_prompt") is False
        for module in modules(folder)
    )
