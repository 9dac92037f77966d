"""Why a shard is stale: which settings, which model, or which of its files."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from embed_assets.corpus_plan import CorpusPlan
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.run_summary import print_plan
from embed_assets.setting_changes import setting_changes
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.shards import ShardPlan
from embed_assets.staleness import Stale
from embed_assets_tests.small_pipelines import run, run_shard, settings_for, write_files
from embed_assets_tests.tiny_models import bert_model

COMMITS = "0123456789" * 4, "abcdef0123" * 4
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing": ({}, {"device": "cpu", "shard_bytes": 2048}, {}, []),
    "the model": (
        {},
        {"model": "BAAI/bge-small", "revision": COMMITS[0]},
        {"has_same_files": False},
        ["model all-MiniLM-L6-v2 -> bge-small"],
    ),
    "a folder of the same name": (
        {"model": "/a/bert"},
        {"model": "/b/bert/"},
        {"has_same_files": False},
        ["model /a/bert -> /b/bert/"],
    ),
    "a folder that was only moved": ({"model": "/a/bert"}, {"model": "/b/bert"}, {}, []),
    "the revision": (
        {"model": "a/b", "revision": COMMITS[0]},
        {"model": "a/b", "revision": COMMITS[1]},
        {"has_same_files": False},
        ["model a/b 01234567 -> abcdef01"],
    ),
    "weights": ({}, {}, {"has_same_files": False}, ["the model's files changed"]),
    "tokenizer": (
        {},
        {},
        {"has_same_files": False, "has_same_tokenizer": False},
        ["the model's files or embed-assets changed"],
    ),
    "what auto means": ({}, {}, {"precisions": ("fp32", "bf16")}, ["precision fp32 -> bf16"]),
    "auto said in full": ({}, {"precision": "bf16"}, {"precisions": ("bf16", "bf16")}, []),
    "precision, and the model": (
        {"precision": "fp32"},
        {"precision": "bf16", "model": "x"},
        {"has_same_files": False, "precisions": ("", "bf16")},
        ["model all-MiniLM-L6-v2 -> x", "precision fp32 -> bf16"],
    ),
    "nobody knows what auto meant": (
        {},
        {"precision": "bf16", "model": "x"},
        {"has_same_files": False, "precisions": ("", "bf16")},
        ["model all-MiniLM-L6-v2 -> x"],
    ),
    "chunking": (
        {"max_tokens": 256},
        {"max_tokens": 128, "overlap": 8},
        {},
        ["max_tokens 256 -> 128", "overlap 0 -> 8"],
    ),
    "prompt": (
        {"document_prompt": "passage: "},
        {},
        {},
        ["document_prompt 'passage: ' -> default"],
    ),
    "reading": (
        {"id_column": "key"},
        {"text_column": "full text"},
        {},
        ["text_column text -> 'full text'", "id_column key -> default"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_changed_is_said_in_the_words_of_the_settings(case: str) -> None:
    before, now, facts, expected = CASES[case]
    known = {"precisions": ("fp32", "fp32"), "has_same_files": True, "has_same_tokenizer": True}
    changes = setting_changes(load_settings(before), load_settings(now), **{**known, **facts})
    assert changes == expected


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    """Three shards, up to date, with a model of their own."""
    model = tmp_path / "my-model"
    shutil.copytree(tiny_bert, model)
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abc"})
    settings = settings_for(tmp_path, model)
    run(settings)
    return settings


def reasons(settings: PipelineSettings, **changes: object) -> Counter[Stale]:
    """Also after the claim, which replaces what was noted of the same fingerprint."""
    pipeline = OpenedPipeline(settings.model_copy(update=changes))
    found = pipeline.stale_shards()
    pipeline.prepare()
    assert pipeline.stale_shards() == found
    again = OpenedPipeline(pipeline.settings)
    again.prepare()
    assert again.stale_shards() == found
    return Counter(found.values())


def test_stale_shards_say_which_setting_changed(settings: PipelineSettings) -> None:
    assert reasons(settings) == {}
    assert reasons(settings, max_tokens=32) == {
        Stale("chunks", "max_tokens default -> 32", by_settings=True): 3
    }
    both = reasons(settings, precision="bf16", normalize=True)
    why = "precision fp32 -> bf16, normalize False -> True"
    assert both == {Stale("embeddings", why, by_settings=True): 3}


def test_the_first_run_with_other_columns_says_which(settings: PipelineSettings) -> None:
    """No fingerprint changes, so that the next run knows only that something did."""
    changed = OpenedPipeline(settings.model_copy(update={"text_column": "body"}))
    changed.prepare()
    expected = Stale("raw_corpus", "text_column text -> body", by_settings=True)
    assert set(changed.stale_shards().values()) == {expected}
    later = OpenedPipeline(changed.settings).stale_shards()
    assert {s.reason for s in later.values()} == {"changed files or reading"}


def test_stale_shards_say_which_model_they_were_made_by(
    settings: PipelineSettings, tmp_path: Path
) -> None:
    names = ("heavier", "heaviest")
    for name, pooling in zip(names, ("cls", "max"), strict=True):
        bert_model(tmp_path / name, pooling=pooling)
    second = settings.model_copy(update={"model": f"{tmp_path}/heavier"})
    pipeline = OpenedPipeline(second)
    pipeline.prepare()
    run_shard("shard-000001", pipeline)
    found = reasons(settings, model=f"{tmp_path}/heaviest")
    assert {(stale.reason, n) for stale, n in found.items()} == {
        ("model my-model -> heaviest", 2),
        ("model heavier -> heaviest", 1),
    }


def test_stale_shards_say_that_the_models_files_changed(settings: PipelineSettings) -> None:
    weights = Path(settings.model) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert reasons(settings) == {
        Stale("embeddings", "the model's files changed", by_settings=True): 3
    }
    config = Path(settings.model) / "config.json"
    config.write_text(config.read_text() + " ")
    why = "the model's files or embed-assets changed"
    assert reasons(settings) == {Stale("chunks", why, by_settings=True): 3}


def test_a_shard_whose_files_changed_too_is_not_said_to_be_stale_for_the_settings_alone(
    settings: PipelineSettings,
) -> None:
    write_files(Path(settings.corpus), {"b.txt": "Something else. " * 60})
    changed = OpenedPipeline(settings.model_copy(update={"max_tokens": 32}))
    changed.plan()
    stale = changed.stale_shards()
    assert [stale[shard].reason for shard in sorted(stale)] == [
        "max_tokens default -> 32",
        "changed files or reading",
        "max_tokens default -> 32",
    ]


def test_where_nothing_is_noted_the_reason_is_what_it_was(settings: PipelineSettings) -> None:
    shutil.rmtree(Path(settings.tables) / "fingerprints")
    found = reasons(settings, precision="bf16")
    assert found == {Stale("embeddings", "changed chunks or model"): 3}


def test_the_plan_shows_at_most_five_reasons(
    settings: PipelineSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    work = {f"s{i}{j}": Stale("chunks", f"reason {i}") for i in range(8) for j in range(8 - i)}
    shards = ShardPlan([], (), (), (), 0)
    print_plan(settings, CorpusPlan(shards, 0, 0, Counter()), work)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  8 shards: reason 0",
        "  7 shards: reason 1",
        "  6 shards: reason 2",
        "  5 shards: reason 3",
        "  10 shards: other reasons",
    ]
