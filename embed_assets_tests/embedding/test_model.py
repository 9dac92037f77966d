"""What a model folder promises before it is loaded, and which folders are refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embed_assets.bundled import BUNDLED_MODEL
from embed_assets.embedding import model as models
from embed_assets.embedding.model import (
    chunking_version,
    document_prompt,
    fingerprint,
    open_model,
    query_prompt,
    resolved_max_tokens,
    vector_dimension,
    vectors_are_unit,
)
from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import FAMILIES, add_dense, sentence_transformer, write_json

REVISION = "0123456789abcdef0123456789abcdef01234567"


def settings_for(model: Path | str, **values: object) -> PipelineSettings:
    return load_settings({"model": str(model), **values})


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "model"))


def changed_json(file: Path, **values: object) -> None:
    write_json(file, json.loads(file.read_text()) | values)


def pool(folder: Path, config: dict[str, Any]) -> None:
    write_json(folder / "1_Pooling/config.json", config)


@pytest.mark.parametrize(
    ("change", "dimension"),
    [
        (lambda folder: None, 32),
        (lambda folder: pool(folder, {"embedding_dimension": 32, "pooling_mode": "cls"}), 32),
        (
            lambda folder: pool(
                folder, {"embedding_dimension": 32, "pooling_mode": ["cls", "mean", "max"]}
            ),
            96,
        ),
        (
            lambda folder: pool(
                folder,
                {
                    "word_embedding_dimension": 32,
                    "pooling_mode_cls_token": True,
                    "pooling_mode_mean_tokens": True,
                    "pooling_mode_max_tokens": False,
                },
            ),
            64,
        ),
        (
            lambda folder: pool(
                folder, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False}
            ),
            32,
        ),
        (add_dense, 12),
    ],
)
def test_the_dimension_is_known_before_the_model_loads(
    folder: Path, change: Callable[[Path], None], dimension: int
) -> None:
    change(folder)
    model = open_model(settings_for(folder))
    assert model.dimension == dimension
    loaded = sentence_transformer(folder)
    assert loaded.get_embedding_dimension() == dimension
    assert len(loaded.encode("a")) == dimension


@pytest.mark.parametrize("family", FAMILIES)
def test_limits_and_dimension_are_those_of_the_loaded_model(
    tiny_model: Callable[[str], Path], family: str
) -> None:
    folder = tiny_model(family)
    model = open_model(settings_for(folder))
    loaded = sentence_transformer(folder)
    assert model.max_tokens == loaded.max_seq_length
    assert model.dimension == loaded.get_embedding_dimension()


@pytest.mark.parametrize(
    ("sentence_config", "tokenizer_limit", "positions", "expected"),
    [
        ({"max_seq_length": 48}, 64, 64, 48),
        # The sentence-transformers setting wins over the tokenizer's.
        ({"max_seq_length": 48}, 16, 64, 48),
        ({"max_seq_length": 48, "tokenizer_args": {"model_max_length": 24}}, 16, 64, 24),
        ({}, 40, 64, 40),
        ({}, int(1e30), 64, 64),
        # More than there are positions would end in an index error.
        ({"max_seq_length": 512}, 512, 64, 64),
    ],
)
def test_the_token_limit_is_what_sentence_transformers_applies(
    folder: Path,
    sentence_config: dict[str, Any],
    tokenizer_limit: int,
    positions: int,
    expected: int,
) -> None:
    write_json(folder / "sentence_bert_config.json", sentence_config)
    changed_json(folder / "tokenizer_config.json", model_max_length=tokenizer_limit)
    assert open_model(settings_for(folder)).max_tokens == expected
    limit = sentence_transformer(folder).max_seq_length or 0
    assert min(limit, positions) == expected


@pytest.mark.parametrize("family", ["mpnet", "roberta", "xlm-roberta"])
def test_families_that_count_positions_from_the_pad_have_two_fewer(
    tiny_model: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(tiny_model(family), tmp_path / "model"))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 66})
    assert open_model(settings_for(folder)).max_tokens == 64
    # sentence-transformers would let 66 through, and the model then has no position for two.
    assert sentence_transformer(folder).max_seq_length == 66
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        sentence_transformer(folder).encode("a b c d " * 40)


def test_a_model_without_a_limit_needs_max_tokens(folder: Path) -> None:
    write_json(folder / "sentence_bert_config.json", {})
    changed_json(folder / "tokenizer_config.json", model_max_length=int(1e30))
    changed_json(folder / "config.json", max_position_embeddings=-1)
    unlimited = settings_for(folder)
    with pytest.raises(InputError, match="set max_tokens"):
        resolved_max_tokens(unlimited, open_model(unlimited))
    limited = settings_for(folder, max_tokens=50)
    assert resolved_max_tokens(limited, open_model(limited)) == 50


def test_more_tokens_than_the_model_takes_are_refused(tiny_bert: Path) -> None:
    settings = settings_for(tiny_bert, max_tokens=65)
    with pytest.raises(InputError, match=r"max_tokens 65 is more than the model takes \(64\)"):
        resolved_max_tokens(settings, open_model(settings))


def test_more_dimensions_than_the_model_has_are_refused(tiny_bert: Path) -> None:
    settings = settings_for(tiny_bert, truncate_dim=33)
    with pytest.raises(InputError, match="truncate_dim 33 is more than the model's 32 dimensions"):
        vector_dimension(settings, open_model(settings))
    assert vector_dimension(settings_for(tiny_bert), open_model(settings)) == 32
    assert vector_dimension(settings_for(tiny_bert, truncate_dim=8), open_model(settings)) == 8


@pytest.mark.parametrize(
    ("prompts", "default", "document", "query"),
    [
        ({}, None, "", ""),
        ({"query": "q: ", "document": "d: "}, None, "d: ", "q: "),
        ({"query": "q: ", "passage": "p: "}, None, "p: ", "q: "),
        # sentence-transformers adds an empty "document" when it saves such a model.
        ({"query": "q: ", "document": "", "passage": "p: "}, None, "p: ", "q: "),
        ({"query": "q: ", "document": ""}, "query", "", "q: "),
        ({"sts": "s: "}, "sts", "s: ", "s: "),
        ({"query": "q: "}, "query", "q: ", "q: "),
    ],
)
def test_prompts_come_from_the_model_unless_set(
    folder: Path, prompts: dict[str, str], default: str | None, document: str, query: str
) -> None:
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": default},
    )
    settings = settings_for(folder)
    model = open_model(settings)
    assert (document_prompt(settings, model), query_prompt(settings, model)) == (document, query)
    unset = settings_for(folder, document_prompt="", query_prompt="find: ")
    assert (document_prompt(unset, model), query_prompt(unset, model)) == ("", "find: ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"truncate_dim": 32}, True),
        ({"truncate_dim": 8}, False),
        ({"truncate_dim": 8, "normalize": True}, True),
    ],
)
def test_it_is_known_whether_vectors_have_length_one(
    tiny_bert: Path, values: dict[str, object], expected: bool
) -> None:
    settings = settings_for(tiny_bert, **values)
    assert vectors_are_unit(settings, open_model(settings)) is expected


def test_a_dense_layer_behind_normalize_undoes_it(folder: Path) -> None:
    add_dense(folder)
    settings = settings_for(folder)
    assert not vectors_are_unit(settings, open_model(settings))


def first_module(folder: Path, kind: object, path: object = "") -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"type": kind, "path": path}
    write_json(folder / "modules.json", modules)


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled_dense(folder: Path) -> None:
    add_dense(folder)
    (folder / "3_Dense/model.safetensors").rename(folder / "3_Dense/pytorch_model.bin")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no .safetensors weights"),
    "only pickled weights": (only_pickled, "can run code"),
    "a layer with pickled weights": (pickled_dense, "3_Dense has no .safetensors weights"),
    "a class of its own": (
        lambda f: first_module(f, "modeling_evil.Evil"),
        "names the class 'modeling_evil.Evil'",
    ),
    "a class of the standard library": (lambda f: first_module(f, "os.system"), "own code"),
    "a name that only looks right": (
        lambda f: first_module(f, "sentence_transformers_evil.Transformer"),
        "own code",
    ),
    "a function of sentence-transformers": (
        lambda f: first_module(f, "sentence_transformers.util.import_from_string"),
        "cannot run",
    ),
    "a module that prepares texts its own way": (
        lambda f: first_module(f, "sentence_transformers.models.StaticEmbedding"),
        "cannot run",
    ),
    "pooling first": (
        lambda f: first_module(f, "sentence_transformers.models.Pooling"),
        "expected a Transformer first",
    ),
    "a path out of the folder": (
        lambda f: first_module(f, "sentence_transformers.models.Transformer", "../other"),
        "inside the model folder",
    ),
    "modules that are no list": (lambda f: write_json(f / "modules.json", {}), "no list"),
    "code in config.json": (
        lambda f: changed_json(f / "config.json", auto_map={"AutoModel": "evil.Model"}),
        "config.json has an auto_map",
    ),
    "code in tokenizer_config.json": (
        lambda f: changed_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["e.T"]}),
        "tokenizer_config.json has an auto_map",
    ),
    "an adapter": (lambda f: write_json(f / "adapter_config.json", {}), "merge the two"),
    "a tokenizer from elsewhere": (
        lambda f: write_json(
            f / "sentence_bert_config.json", {"tokenizer_name_or_path": "someone/else"}
        ),
        "tokenizer_name_or_path",
    ),
    "broken JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "JSON of another shape": (lambda f: write_json(f / "config.json", []), "expected an object"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_cannot_be_trusted_is_refused_in_one_line(
    folder: Path, change: Callable[[Path], object], message: str
) -> None:
    change(folder)
    with pytest.raises(InputError) as refusal:
        open_model(settings_for(folder))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_hub_name_without_a_revision_is_refused() -> None:
    with pytest.raises(InputError, match="set revision to the 40 hex digits") as refusal:
        open_model(settings_for("intfloat/e5-small-v2"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["intfloat/e5-small-v2", "no such/name at/all"])
def test_a_hub_model_that_cannot_be_fetched_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match="could not be fetched") as refusal:
        open_model(settings_for(name, revision=REVISION))
    assert "\n" not in str(refusal.value)


def test_the_bundled_model_is_checked_against_its_pinned_hashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_model(settings_for(BUNDLED_MODEL))
    monkeypatch.setitem(models._BUNDLED_SHA256, "tokenizer.json", "0" * 64)
    models._described.cache_clear()
    with pytest.raises(InputError, match=r"tokenizer\.json has SHA-256 be50c36"):
        open_model(settings_for(BUNDLED_MODEL))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_rewritten_file_is_noticed_before_anything_is_published(folder: Path, name: str) -> None:
    model = open_model(settings_for(folder))
    model.verify_unchanged()
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(InputError, match=f"changed while they were in use: {name}"):
        model.verify_unchanged()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_json(folder / "added_tokens.json", {}),
        lambda folder: (folder / "config_sentence_transformers.json").unlink(),
    ],
)
def test_an_added_or_removed_file_is_noticed(
    folder: Path, change: Callable[[Path], object]
) -> None:
    model = open_model(settings_for(folder))
    change(folder)
    with pytest.raises(InputError, match="changed while they were in use"):
        model.verify_unchanged()


def test_a_touched_file_with_the_same_content_is_the_same_model(folder: Path) -> None:
    settings = settings_for(folder)
    model = open_model(settings)
    os.utime(folder / "model.safetensors", (0, 0))
    model.verify_unchanged()
    assert fingerprint(settings, open_model(settings), "fp32") == fingerprint(
        settings, model, "fp32"
    )


def test_a_long_lived_process_sees_a_model_that_was_replaced(folder: Path) -> None:
    settings = settings_for(folder)
    before = open_model(settings)
    changed_json(folder / "1_Pooling/config.json", pooling_mode="cls")
    after = open_model(settings)
    assert after.content_version != before.content_version
    after.verify_unchanged()


def print_of(folder: Path, precision: str = "fp32", **values: object) -> str:
    settings = settings_for(folder, **values)
    return fingerprint(settings, open_model(settings), precision)


@pytest.mark.parametrize(
    "values",
    [
        {"document_prompt": "passage: "},
        {"max_tokens": 32},
        {"overlap": 4},
        {"truncate_dim": 8},
        {"normalize": True},
        {"precision": "bf16"},
    ],
)
def test_whatever_changes_a_vector_changes_the_fingerprint(
    tiny_bert: Path, values: dict[str, Any]
) -> None:
    assert print_of(tiny_bert, **values) != print_of(tiny_bert)


@pytest.mark.parametrize(
    "values",
    [
        {"device": "cpu"},
        {"tables": "elsewhere"},
        {"name": "other"},
        {"max_tokens_per_batch": 64},
        {"query_prompt": "query: "},
        {"max_tokens": 64},
        {"document_prompt": ""},
    ],
)
def test_what_leaves_vectors_alone_leaves_the_fingerprint_alone(
    tiny_bert: Path, values: dict[str, Any]
) -> None:
    assert print_of(tiny_bert, **values) == print_of(tiny_bert)


def change(file: Path) -> None:
    """One more blank; in weights another last number, since more bytes would be damage."""
    content = file.read_bytes()
    is_weights = file.suffix == ".safetensors"
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if is_weights else content + b" ")


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"],
)
def test_any_model_file_changes_the_fingerprint(folder: Path, name: str) -> None:
    before = print_of(folder)
    change(folder / name)
    assert print_of(folder) != before


def test_new_weights_leave_the_chunks_alone(folder: Path) -> None:
    settings = settings_for(folder)
    before = chunking_version(settings, open_model(settings))
    weights = folder / "model.safetensors"
    change(weights)
    assert chunking_version(settings, open_model(settings)) == before
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    assert chunking_version(settings, open_model(settings)) != before


def test_a_copy_elsewhere_with_a_new_readme_is_the_same_model(
    tiny_bert: Path, folder: Path
) -> None:
    (folder / "README.md").write_text("Something else altogether.")
    (folder / ".cache").mkdir()
    (folder / ".cache/notes.json").write_text("{}")
    (folder / "onnx").mkdir()
    (folder / "onnx/config.json").write_text("{}")
    assert print_of(folder) == print_of(tiny_bert)


def as_hub_snapshot(folder: Path, root: Path) -> Path:
    """The hub cache's layout: a snapshot of links into a folder of blobs."""
    snapshot, blobs = root / "snapshots" / REVISION, root / "blobs"
    blobs.mkdir()
    files = [file for file in folder.rglob("*") if file.is_file()]
    for i, file in enumerate(files):
        shutil.copy(file, blobs / str(i))
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(i), link.parent))
    return snapshot


def test_a_folder_of_links_is_the_same_model(tiny_bert: Path, tmp_path: Path) -> None:
    snapshot = as_hub_snapshot(tiny_bert, tmp_path)
    assert print_of(snapshot) == print_of(tiny_bert)
    model = open_model(settings_for(snapshot))
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        model.verify_unchanged()


def test_a_linked_folder_counts_and_a_loop_of_links_ends(tiny_bert: Path, folder: Path) -> None:
    (folder / "1_Pooling").rename(folder.parent / "pooling")
    (folder / "1_Pooling").symlink_to(folder.parent / "pooling")
    (folder / "again").symlink_to(folder)
    assert print_of(folder) == print_of(tiny_bert)
    changed_json(folder.parent / "pooling/config.json", pooling_mode="cls")
    assert print_of(folder) != print_of(tiny_bert)


def test_a_folder_without_a_tokenizer_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    for file in (folder / "tokenizer.json", folder / "vocab.txt"):
        file.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"has no tokenizer .*: every word would be unknown"):
        open_model(load_settings({"model": str(folder)}))
