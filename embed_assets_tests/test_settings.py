"""Settings: wrong ones say what is wrong at load, right ones are frozen, hashable and located."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from embed_assets.bundled import BUNDLED_CORPUS, BUNDLED_MODEL
from embed_assets.errors import SettingsError
from embed_assets.settings import (
    PipelineSettings,
    choices,
    load_settings,
)


def test_defaults_run_the_bundled_corpus_and_model() -> None:
    settings = load_settings({})
    assert (settings.corpus, settings.model) == (BUNDLED_CORPUS, BUNDLED_MODEL)
    assert settings.tables_root == "tables/python_docs"


@pytest.mark.parametrize("name", PipelineSettings.model_fields)
def test_every_setting_says_what_it_is(name: str) -> None:
    description = PipelineSettings.model_fields[name].description
    assert description
    assert description.endswith(".")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_token": 3}, r"unknown setting 'max_token'; did you mean 'max_tokens'\?"),
        ({"colour": 3}, r"unknown setting 'colour'; choose from name, corpus, .*max_tokens"),
        ({"overlap": "x"}, r"'overlap' is 'x': .*integer"),
        ({"overlap": -1}, r"'overlap' is -1: .*greater than or equal to 0"),
        ({"max_tokens": 7}, r"'max_tokens' is 7: .*greater than or equal to 8"),
        ({"precision": "fp8"}, r"'precision' is 'fp8': .*'auto', 'fp32', 'bf16'"),
        ({"device": "tpu"}, r"'device' is 'tpu': .*'auto', 'cpu' or 'cuda'"),
        ({"revision": "main"}, r"'revision' is 'main': .*40"),
        ({"max_duplicate_share": 1.5}, r"'max_duplicate_share' is 1.5: .*less than or equal to 1"),
        ({"max_duplicate_share": "nan"}, r"'max_duplicate_share' is 'nan'"),
        ({"truncate_dim": 0}, r"'truncate_dim' is 0: .*greater than 0"),
        ({"corpus": ""}, r"'corpus' is '': .*at least 1 character"),
        ({"shard_bytes": "many"}, r"'shard_bytes' is 'many': .*write .* 64MiB"),
        ({"shard_bytes": "12 parsecs"}, r"'shard_bytes' is '12 parsecs': .*write .* 64MiB"),
        ({"shard_bytes": 1023}, r"'shard_bytes' is 1023: 1023 bytes is less than .*1KiB"),
        ({"shard_bytes": None}, r"'shard_bytes' is None"),
        ({"include": "*.md"}, r"'include' is '\*.md': .*a list, such as \['\*.md'\]"),
        ({"max_tokens": 64, "overlap": 33}, r"overlap 33 must be at most half of max_tokens 64"),
    ],
)
def test_a_wrong_value_names_key_value_and_expectation(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(values)
    assert "\n" not in str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"overlap": "x", "colour": "red", "device": "tpu"})
    for key in ("overlap", "colour", "device"):
        assert f"{key!r}" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a-b", "a\n", "ä", "x" * 65, "../up", "a/b"])
def test_a_name_that_no_asset_key_can_hold_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="'name' is"):
        load_settings({"name": name})


@pytest.mark.parametrize(
    ("size", "n_bytes"),
    [("1MiB", 1 << 20), ("1 MB", 10**6), ("64KiB", 1 << 16), (2048, 2048), ("4096", 4096)],
)
def test_sizes_take_units(size: object, n_bytes: int) -> None:
    settings = load_settings({"shard_bytes": size, "max_document_bytes": size})
    assert (settings.shard_bytes, settings.max_document_bytes) == (n_bytes, n_bytes)


def test_an_overlap_of_half_is_allowed() -> None:
    assert load_settings({"max_tokens": 64, "overlap": 32}).overlap == 32


def test_settings_are_frozen_and_hashable() -> None:
    settings = load_settings({"include": ["*.md"], "overlap": 3})
    with pytest.raises(ValidationError):
        settings.overlap = 4  # type: ignore[misc]
    assert hash(settings) == hash(load_settings({"include": ["*.md"], "overlap": 3}))
    assert settings == load_settings({"include": ["*.md"], "overlap": 3})
    assert settings != load_settings({"include": ["*.md"], "overlap": 4})


def test_values_go_over_a_base_and_leave_the_rest() -> None:
    base = load_settings({"overlap": 3, "max_tokens": 64})
    over = load_settings({"overlap": 5}, base=base)
    assert (over.overlap, over.max_tokens) == (5, 64)
    with pytest.raises(SettingsError, match="overlap 40"):
        load_settings({"overlap": 40}, base=base)


def test_relative_places_are_found_from_the_base(tmp_path: Path) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    settings = load_settings(
        {"name": "p", "corpus": "docs/../notes", "model": "models/mine"}
    ).located(tmp_path)
    assert settings.corpus == str(tmp_path / "notes")
    assert settings.tables == str(tmp_path / "tables" / "p")
    assert settings.model == str(tmp_path / "models" / "mine")
    assert settings.located(Path("/elsewhere")) == settings


def test_a_home_is_a_place_and_uris_and_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    values = {"corpus": "~/notes", "tables": "s3://bucket/tables", "model": "org/name"}
    settings = load_settings(values).located(Path("/base"))
    assert settings.corpus == str(tmp_path / "notes")
    assert settings.tables == "s3://bucket/tables"
    assert settings.model == "org/name"
    assert load_settings({}).located(Path("/base")).corpus == BUNDLED_CORPUS
    assert load_settings({"model": "./missing"}).located(Path("/base")).model == "/base/missing"


def test_an_unknown_home_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="no home folder for '~nobody-here/notes'"):
        load_settings({"corpus": "~nobody-here/notes"}).located(Path("/base"))


def test_choices_are_the_words_of_a_setting() -> None:
    annotation = PipelineSettings.model_fields["device"].annotation
    assert choices(annotation) == ("auto", "cpu", "cuda")
