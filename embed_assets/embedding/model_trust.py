"""Refuse model folders that bring code, read files from elsewhere or hang a load. Loads no model.

Models load without `trust_remote_code`; what stands here is what that leaves open, and what would
otherwise be refused late, without naming the file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embed_assets.embedding.model_files import UNUSED_FOLDERS
from embed_assets.embedding.model_folder import (
    module_folders,
    modules,
    settings_file,
    transformer_settings,
)
from embed_assets.embedding.model_json import json_object
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
# What transformers reads of a text model.
_CONFIGURATIONS = {
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
}
# Keys of configurations that name other files to load, inside the folder or not. What they name
# is not what was checked here, and may not be in the fingerprint.
_KEYS_NAMING_FILES = ("configuration_files", "fast_tokenizer_files", "transformers_weights")
# Layers, labels and experts are made one by one in Python: a billion of them would never end.
_COUNT = re.compile(r"(layers?|labels|experts)$")
_MOST_COUNTED = 10_000
# The largest of real models, Gemma's tokenizer.json, is 33 MB.
_MOST_BYTES = 512 << 20
# A thousand tensors take 100 kB, and reading a header takes some ten times its size.
_MOST_HEADER_BYTES = 16 << 20
_READ_WHOLE = (".json", ".txt", ".model", ".jinja", ".md")
# Where sentence_bert_config.json says how to load transformer and tokenizer. Other arguments name
# files, switch safetensors off or load kernels from the hub, which are code.
_ARGUMENT_KEYS = (
    *("model_args", "config_args", "tokenizer_args"),
    *("model_kwargs", "config_kwargs", "processor_kwargs"),
)
_HARMLESS_ARGUMENTS = {
    *("add_pooling_layer", "attn_implementation", "dtype", "torch_dtype", "use_cache"),
    *("reference_compile", "unpad_inputs", "use_memory_efficient_attention"),
    *("model_max_length", "max_length", "padding_side", "truncation_side", "use_fast", "legacy"),
    *("add_prefix_space", "add_bos_token", "add_eos_token", "clean_up_tokenization_spaces"),
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars"),
    # sentence-transformers drops it, and so does `tokenizer_arguments`.
    "trust_remote_code",
}
_PLAIN_WORD = re.compile(r"[\w.-]*")


def refuse_what_cannot_run(folder: Path) -> None:
    """Raise InputError for foreign code, pickled weights and modules that chunking cannot serve."""
    for module in modules(folder):
        _refuse_module(folder, module)
    _refuse_order(folder)
    for place in module_folders(folder):
        for file in sorted(place.iterdir()) if place.is_dir() else ():
            _refuse_file(file)
    _refuse_transformer(folder)
    _refuse_other_kinds(folder / "config_sentence_transformers.json")


def _refuse_module(folder: Path, module: dict[str, Any]) -> None:
    file = folder / "modules.json"
    kind, path = str(module.get("type", "")), module["path"]
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
    if f"{path}/".startswith((".", *UNUSED_FOLDERS)):
        raise InputError(f"{file} names the path {path!r}, which no fingerprint covers")
    # sentence-transformers would unpickle these where there is no safetensors file of that name.
    if (folder / path / "pytorch_model.bin").exists() and not any(
        (folder / path / f"model.safetensors{index}").is_file() for index in ("", ".index.json")
    ):
        raise InputError(
            f"{folder / path} has no .safetensors weights; pickled weights (.bin) are not loaded "
            "because they can run code: save the model again with safe_serialization=True"
        )
    if kind.endswith(".Dense"):
        _refuse_activation(folder / path / "config.json")


def _refuse_activation(file: Path) -> None:
    # Untrusted names would be replaced by Tanh, with nothing but a log line.
    name = json_object(file).get("activation_function", "torch.nn.")
    if not str(name).startswith("torch.nn."):
        raise InputError(f"{file} names the activation {name!r}, expected one of torch.nn")


def _refuse_order(folder: Path) -> None:
    file = folder / "modules.json"
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules(folder)]
    if kinds and (kinds[0] != "Transformer" or "Pooling" not in kinds):
        raise InputError(
            f"{file} lists {', '.join(kinds)}; expected a Transformer first and a Pooling after it"
        )
    # sentence-transformers keeps one module per name: the last.
    names = [str(module.get("name")) for module in modules(folder)]
    if len(set(names)) < len(names):
        raise InputError(f"{file} names several modules {max(names, key=names.count)!r}")


def _refuse_file(file: Path) -> None:
    if not file.exists() or file.is_dir():
        return
    if not file.is_file():
        raise InputError(f"{file} is a pipe or a device, expected a regular file")
    n_bytes = file.stat().st_size
    if file.name.endswith(_READ_WHOLE) and n_bytes > _MOST_BYTES:
        raise InputError(f"{file} has {n_bytes:,} bytes, more than any tokenizer needs")
    if file.name == "adapter_config.json":
        raise InputError(
            f"{file} belongs to an adapter, whose base model lies elsewhere; merge the two "
            "(merge_and_unload) and save the model again"
        )
    if file.suffix == ".safetensors":
        _refuse_damaged_weights(file)
    elif file.name.endswith("safetensors.index.json"):
        _refuse_shards_elsewhere(file)
    elif file.name in _CONFIGURATIONS:
        _refuse_references(file)


def _refuse_damaged_weights(file: Path) -> None:
    """Reads the header alone, and whether all is there that it speaks of."""
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as weights:
        n_header = int.from_bytes(weights.read(8), "little")
    if n_header > _MOST_HEADER_BYTES:
        raise InputError(
            f"{file} could not be loaded: it says that its header has {n_header:,} bytes; it is "
            "damaged or no safetensors file"
        )
    try:
        with safe_open(file, framework="np"):
            pass
    except SafetensorError as error:
        raise InputError(
            f"{file} could not be loaded: {error}; it is damaged or no safetensors file"
        ) from error


def _refuse_shards_elsewhere(file: Path) -> None:
    # Names are joined to the folder as they stand; anything but safetensors would be unpickled.
    shards = json_object(file).get("weight_map")
    for name in shards.values() if isinstance(shards, dict) else (shards,):
        if not re.fullmatch(r"[\w.-]+\.safetensors", str(name)):
            raise InputError(
                f"{file} names the weights {name!r}, expected .safetensors files beside it"
            )


def _refuse_references(file: Path) -> None:
    """Whatever a configuration can name that is not in this folder, at any depth."""
    for key, value in _pairs(json_object(file)):
        if key == "auto_map":
            raise InputError(
                f"{file} has an auto_map, which points at code of its own; models that bring "
                "their own code are refused"
            )
        if key in _KEYS_NAMING_FILES:
            raise InputError(f"{file} names other files to load ({key}); remove that key")
        if key.endswith("_implementation") and "/" in str(value):
            raise InputError(
                f"{file} has {key} {value!r}, a kernel from the hub; kernels are code and refused"
            )
        if _COUNT.search(key) and isinstance(value, int) and value > _MOST_COUNTED:
            raise InputError(f"{file} has {key} {value:,}, more than {_MOST_COUNTED:,}")


def _pairs(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; without recursion, which a file could exhaust."""
    waiting: list[Any] = [config]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from found.items()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _refuse_transformer(folder: Path) -> None:
    file, settings = settings_file(folder), transformer_settings(folder)
    if settings.get("tokenizer_name_or_path"):
        raise InputError(
            f"{file} takes the tokenizer from elsewhere (tokenizer_name_or_path); save the model "
            "again with its tokenizer"
        )
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise InputError(f"{file} has the task {task!r}, expected feature-extraction")
    # The method is called by name, with a batch as its arguments.
    ways = settings.get("modality_config", {"text": {"method": "forward"}})
    text = ways.get("text") if isinstance(ways, dict) else None
    if not isinstance(text, dict) or text.get("method") != "forward":
        raise InputError(f"{file} does not read text by the method forward (modality_config)")
    for name in _ARGUMENT_KEYS:
        arguments = settings.get(name) or {}
        for key, value in arguments.items() if isinstance(arguments, dict) else [(name, arguments)]:
            if key not in _HARMLESS_ARGUMENTS or not _PLAIN_WORD.fullmatch(str(value)):
                raise InputError(
                    f"{file} wants {key}={value!r} ({name}), which this version does not allow; "
                    f"it allows plain values of {', '.join(sorted(_HARMLESS_ARGUMENTS))}"
                )


def _refuse_other_kinds(file: Path) -> None:
    config = json_object(file)
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise InputError(f"{file} says that this is a {kind}, expected a SentenceTransformer")
    if config.get("truncate_dim") is not None:
        raise InputError(
            f"{file} cuts vectors to {config['truncate_dim']!r} dimensions; remove truncate_dim "
            "there and set it in the pipeline"
        )
