"""Model folders made to do harm, as changes of a harmless one, and what must become of each.

Whatever code a folder brings would leave a canary file beside it.
"""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embed_assets_tests.tiny_models import add_dense, write_json

Change = Callable[[Path], object]


class Pickled:
    """What writes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self._canary)!r}, 'w').close()",)


def canary(folder: Path) -> Path:
    return folder.with_name(folder.name + ".canary")


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    (folder / name).write_bytes(pickle.dumps(Pickled(canary(folder)), protocol=2))


def code(folder: Path, name: str = "modeling_x.py") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"open({str(canary(folder))!r}, 'w').close()\n"
        "from transformers import BertConfig as Config, BertModel as Model\n"
        "from transformers import BertTokenizer as Tokenizer\n"
    )


def put(folder: Path, name: str, **values: object) -> None:
    """Set keys of a JSON file, and lay code beside it that a key may point at."""
    file = folder / name
    write_json(file, (json.loads(file.read_text()) if file.exists() else {}) | values)
    code(folder)


def module(folder: Path, i: int, **values: object) -> None:
    code(folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[i] |= values
    write_json(folder / "modules.json", modules)


def dense(folder: Path, **values: object) -> None:
    add_dense(folder)
    put(folder, "3_Dense/config.json", **values)


def only_pickled(folder: Path) -> None:
    pickled(folder)
    (folder / "model.safetensors").unlink()


def pickled_dense(folder: Path) -> None:
    dense(folder)
    # Any safetensors file beside it used to be enough.
    (folder / "3_Dense/model.safetensors").rename(folder / "3_Dense/other.safetensors")
    pickled(folder, "3_Dense/pytorch_model.bin")


def indexed(folder: Path, shard: str) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    pickled(folder)
    name = "embeddings.word_embeddings.weight"
    write_json(
        folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": {name: shard}}
    )


def header(folder: Path, n_bytes: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(n_bytes.to_bytes(8, "little") + weights.read_bytes()[8:])


def absurd_tensor(folder: Path) -> None:
    tensor = {"dtype": "F32", "shape": [10**9, 10**6], "data_offsets": [0, 4 * 10**15]}
    head = json.dumps({"embeddings.word_embeddings.weight": tensor}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)


def instead(folder: Path, name: str, make: Change) -> None:
    (folder / name).unlink(missing_ok=True)
    make(folder / name)


def tokenizer(folder: Path, **values: object) -> None:
    put(folder, "tokenizer.json", **values)


def in_old_layout(folder: Path) -> None:
    """The transformer in a folder of its own, and code beside modules.json."""
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    (folder / "0_Transformer").mkdir()
    for name in [*names, "sentence_bert_config.json"]:
        (folder / name).rename(folder / "0_Transformer" / name)
    module(folder, 0, path="0_Transformer")
    put(folder, "processor_config.json", auto_map={"AutoProcessor": "modeling_x.Tokenizer"})


def keys(name: str, **values: object) -> Change:
    """The change that sets keys of a JSON file."""
    return lambda folder: put(folder, name, **values)


def at_path(value: object) -> Change:
    """The change of a module's path."""
    return lambda folder: module(folder, 1, path=value)


def argument(name: str, key: str, value: object) -> Change:
    """The change of how sentence-transformers is to load the model."""
    return keys("sentence_bert_config.json", **{name: {key: value}})


def pipe(name: str) -> Change:
    """The change of a file to a pipe, which blocks whoever reads it."""
    return lambda folder: instead(folder, name, os.mkfifo)


JINJA = "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}"
MAPS = {
    "config.json": {"AutoConfig": "modeling_x.Config", "AutoModel": "modeling_x.Model"},
    "tokenizer_config.json": {"AutoTokenizer": ["modeling_x.Tokenizer"] * 2},
    "processor_config.json": {"AutoProcessor": "modeling_x.Tokenizer"},
    "preprocessor_config.json": {"AutoProcessor": "modeling_x.Tokenizer"},
    "video_preprocessor_config.json": {"AutoProcessor": "modeling_x.Tokenizer"},
}

#: Refused before anything is loaded: what is done to the folder, and what the message must name.
REFUSED: dict[str, tuple[Change, str]] = {
    "only pickled weights": (only_pickled, "pickled weights (.bin)"),
    "pickled weights of a layer": (pickled_dense, "3_Dense has no .safetensors weights"),
    "pickled weights in the index": (
        lambda f: indexed(f, "pytorch_model.bin"),
        "model.safetensors.index.json names the weights 'pytorch_model.bin'",
    ),
    "weights elsewhere in the index": (
        lambda f: indexed(f, "../other.safetensors"),
        "model.safetensors.index.json names the weights '../other",
    ),
    "weights elsewhere in the configuration": (
        keys("config.json", transformers_weights="onnx/model.safetensors"),
        "config.json names other files to load (transformers_weights)",
    ),
    "a pickle called safetensors": (
        lambda f: pickled(f, "model.safetensors"),
        "model.safetensors could not be loaded: it says that its header has",
    ),
    "a header of 4 exabytes": (
        lambda f: header(f, 2**62),
        "model.safetensors could not be loaded: it says that its header has",
    ),
    "a header of 99 MB": (
        lambda f: header(f, 99_000_000),
        "model.safetensors could not be loaded: it says that its header has",
    ),
    "weights cut short": (
        lambda f: os.truncate(f / "model.safetensors", 10_000),
        "model.safetensors could not be loaded: Error while deserializing header: incomplete",
    ),
    "a class of its own": (
        lambda f: module(f, 0, type="modeling_x.Model"),
        "modules.json names the class 'modeling_x.Model'",
    ),
    "a class that runs commands": (
        lambda f: module(f, 0, type="subprocess.Popen"),
        "modules.json names the class 'subprocess.Popen'",
    ),
    "a class through sentence-transformers": (
        lambda f: module(f, 0, type="sentence_transformers.util.misc.importlib.import_module"),
        "modules.json names the module",
    ),
    "a router": (
        lambda f: module(f, 0, type="sentence_transformers.models.Router"),
        "modules.json names the module",
    ),
    **{
        f"the module path {path!r}": (
            at_path(path),
            "modules.json names the path",
        )
        for path in ("../x", "/etc", "..\\x", "a\0b", None, 5, ".hidden", "onnx")
    },
    "two modules of one name": (lambda f: module(f, 1, name="0"), "modules.json names several"),
    "no modules": (lambda f: write_json(f / "modules.json", []), "modules.json is no list"),
    **{
        f"an auto_map in {name}": (
            keys(name, auto_map=auto_map),
            f"{name} has an auto_map",
        )
        for name, auto_map in MAPS.items()
    },
    "an auto_map far away": (
        keys("config.json", auto_map={"AutoModel": "some/repository--x.Model"}),
        "config.json has an auto_map",
    ),
    "an auto_map deep inside": (
        keys("config.json", text_config={"auto_map": MAPS["config.json"]}),
        "config.json has an auto_map",
    ),
    "an auto_map beside modules.json": (in_old_layout, "processor_config.json has an auto_map"),
    "a configuration elsewhere": (
        keys("config.json", configuration_files=["../config.4.0.0.json"]),
        "config.json names other files to load (configuration_files)",
    ),
    "a tokenizer elsewhere": (
        keys("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.0.json"]),
        "tokenizer_config.json names other files to load (fast_tokenizer_files)",
    ),
    "a tokenizer on the hub": (
        keys("sentence_bert_config.json", tokenizer_name_or_path="some/repository"),
        "sentence_bert_config.json takes the tokenizer from elsewhere",
    ),
    "an adapter": (
        keys("adapter_config.json", base_model_name_or_path="some/repository"),
        "adapter_config.json belongs to an adapter",
    ),
    **{
        f"the argument {key} in {name}": (
            argument(name, key, value),
            f"sentence_bert_config.json wants {key}=",
        )
        for name, key, value in (
            ("model_args", "use_safetensors", False),
            ("model_kwargs", "weights_only", False),
            ("model_kwargs", "allow_all_kernels", True),
            ("model_kwargs", "attn_implementation", "some/kernel"),
            ("model_args", "offload_folder", "../written"),
            ("config_kwargs", "subfolder", "../x"),
            ("tokenizer_args", "tokenizer_file", "/etc/passwd"),
            ("processor_kwargs", "gguf_file", "/etc/passwd"),
        )
    },
    "a kernel from the hub": (
        keys("config.json", _attn_implementation="some/kernel"),
        "config.json has _attn_implementation 'some/kernel'",
    ),
    "another task, whose base model lies elsewhere": (
        keys("sentence_bert_config.json", transformer_task="retrieval"),
        "sentence_bert_config.json has the task 'retrieval'",
    ),
    "a method that writes": (
        keys(
            "sentence_bert_config.json",
            modality_config={"text": {"method": "save_pretrained", "method_output_name": None}},
        ),
        "sentence_bert_config.json does not read text",
    ),
    "text through the chat template": (
        keys("sentence_bert_config.json", modality_config={"message": {"method": "forward"}}),
        "sentence_bert_config.json does not read text",
    ),
    "another kind of model": (
        keys("config_sentence_transformers.json", model_type="SparseEncoder"),
        "config_sentence_transformers.json says that this is a SparseEncoder",
    ),
    "an activation that downloads": (
        lambda f: dense(f, activation_function="torch.hub.load"),
        "3_Dense/config.json names the activation 'torch.hub.load'",
    ),
    "an activation that runs commands": (
        lambda f: dense(f, activation_function="os.system"),
        "3_Dense/config.json names the activation 'os.system'",
    ),
    **{
        f"{name} with {key} {value!r:.20}": (
            keys(name, **{key: value}),
            f"{name} has {said}",
        )
        for name, key, value, said in (
            ("1_Pooling/config.json", "embedding_dimension", "x", "embedding_dimension 'x'"),
            ("1_Pooling/config.json", "embedding_dimension", [1], "embedding_dimension [1]"),
            ("1_Pooling/config.json", "embedding_dimension", -5, "embedding_dimension -5"),
            ("1_Pooling/config.json", "embedding_dimension", float("inf"), "embedding_dimension"),
            ("1_Pooling/config.json", "pooling_mode", {"mean": 1}, "the pooling_mode"),
            ("1_Pooling/config.json", "pooling_mode", 5, "the pooling_mode"),
            ("1_Pooling/config.json", "pooling_mode", ["mean"] * 100_000, "the pooling_mode"),
            ("config.json", "hidden_size", "x", "hidden_size 'x'"),
            ("config.json", "max_position_embeddings", [1], "max_position_embeddings [1]"),
            ("config.json", "num_hidden_layers", 20_000, "num_hidden_layers 20,000"),
            ("config.json", "num_labels", 10**9, "num_labels 1,000,000,000"),
            ("tokenizer_config.json", "model_max_length", float("nan"), "model_max_length"),
            ("tokenizer_config.json", "model_max_length", -5, "model_max_length -5"),
            ("sentence_bert_config.json", "max_seq_length", True, "max_seq_length True"),
            ("config_sentence_transformers.json", "prompts", ["x"], "prompts"),
            ("config_sentence_transformers.json", "prompts", {"query": 5}, "prompts"),
            ("config_sentence_transformers.json", "default_prompt_name", ["x"], "prompts"),
        )
    },
    "JSON that is too deep": (
        lambda f: (f / "config.json").write_text("[" * 200_000),
        "config.json cannot be read as JSON",
    ),
    "a number that is too long": (
        lambda f: (f / "config.json").write_text('{"hidden_size":' + "9" * 5_000 + "}"),
        "config.json cannot be read as JSON",
    ),
    "settings of 17 MB": (
        lambda f: os.truncate(f / "config.json", 17 << 20),
        "config.json has more than 16,777,216 bytes",
    ),
    "a vocabulary of 1 GiB": (
        lambda f: os.truncate(f / "tokenizer.json", 1 << 30),
        "tokenizer.json has 1,073,741,824 bytes",
    ),
    "a link to a file of another kind": (
        lambda f: instead(f, "config.json", lambda link: link.symlink_to("/etc/passwd")),
        "config.json cannot be read as JSON",
    ),
    **{
        f"a pipe called {name}": (
            pipe(name),
            f"{name} is a pipe or a device",
        )
        for name in ("README.md", "sentence_bert_config.json", "1_Pooling/config.json")
    },
    "an endless file of weights": (
        lambda f: instead(f, "model.safetensors", lambda link: link.symlink_to("/dev/zero")),
        "model.safetensors is a pipe or a device",
    ),
}

#: Refused by the libraries that read the file; the message names the folder.
REFUSED_ON_LOAD: dict[str, Change] = {
    "a tensor of 4 petabytes": absurd_tensor,
    "a vocabulary of a trillion": keys("config.json", vocab_size=10**12),
    "a function as activation": keys("config.json", hidden_act="os.system"),
    "an architecture of its own": keys("config.json", model_type="modeling_x"),
    "a layer of 13 terabytes": lambda f: dense(f, out_features=10**11),
    "a tokenizer that is too deep": lambda f: (f / "tokenizer.json").write_text("[" * 200_000),
    "a tokenizer of another kind": lambda f: tokenizer(f, model={"type": "Code"}),
    "a package that is not there": keys(
        "config_sentence_transformers.json", requirements={"no-such-package": ">=1"}
    ),
}


def padded_and_cut(folder: Path) -> None:
    strategy = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None}
    cut = {"max_length": 10**15, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    pad = {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    tokenizer(folder, padding=strategy | pad, truncation=cut)


def unnamed_code(folder: Path) -> None:
    for name in ("modeling_x.py", "__init__.py", "torch.py", "custom_generate/generate.py"):
        code(folder, name)


def trusting(folder: Path) -> None:
    for name in ("model_args", "config_args", "tokenizer_args"):
        put(folder, "sentence_bert_config.json", **{name: {"trust_remote_code": True}})
    put(
        folder,
        "config_sentence_transformers.json",
        trust_remote_code=True,
        model_kwargs={"trust_remote_code": True},
    )


#: Loaded, and as harmless as the same folder without it.
INERT: dict[str, Change] = {
    "nothing": lambda f: None,
    "pickled weights beside safetensors": pickled,
    "pickled weights of an adapter": lambda f: pickled(f, "adapter_model.bin"),
    "code that nothing names": unnamed_code,
    "settings that ask for trust": trusting,
    "a kernel in a private key": keys("config.json", _attn_implementation_internal="some/kernel"),
    "a router's configuration": keys(
        "router_config.json", types={"x": "modeling_x.Model"}, structure={"query": ["x"]}
    ),
    "a chat template that reaches for os": lambda f: (f / "chat_template.jinja").write_text(
        JINJA.replace("CANARY", str(canary(f)))
    ),
    "a chat template in the settings": lambda f: put(
        f, "tokenizer_config.json", chat_template=JINJA.replace("CANARY", str(canary(f)))
    ),
    "a tokenizer class of its own": keys(
        "tokenizer_config.json", tokenizer_class="modeling_x.Tokenizer"
    ),
    "names of other models": keys("config.json", _name_or_path="some/repository"),
    "a tokenizer that pads to a trillion": padded_and_cut,
    "words of a trillion letters": lambda f: tokenizer(
        f,
        model=json.loads((f / "tokenizer.json").read_text())["model"]
        | {"max_input_chars_per_word": 10**18},
    ),
    "a link to the whole disk": lambda f: (f / "more").symlink_to("/"),
}
