"""The tokenizer of a model: made once, and made again where a file of the model is another."""

import json
import shutil
from pathlib import Path

import pytest

from embed_assets.embedding.model import open_model
from embed_assets.embedding.tokenizer import load_tokenizer
from embed_assets.errors import InputError
from embed_assets.settings import load_settings
from embed_assets_tests.tiny_models import TEXTS, tokenizer_of, write_json


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_made_once(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer_of(tiny_bert)
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained", lambda *_, **__: pytest.fail("made again")
    )
    kept = tokenizer_of(tiny_bert)
    assert kept.to_str() == made.to_str()
    assert kept.encode(TEXTS[0]).ids == made.encode(TEXTS[0]).ids


def test_another_file_gives_another(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    before = tokenizer_of(folder).encode("tortoise").tokens
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    added = tokenizer["added_tokens"]
    added.append(added[-1] | {"id": 999, "content": "toise"})
    write_json(folder / "tokenizer.json", tokenizer)
    assert tokenizer_of(folder).encode("tortoise").tokens != before


def test_without_a_place_to_keep_it_it_is_made_each_time(tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert tokenizer_of(tiny_bert).to_str() == tokenizer_of(tiny_bert).to_str()


def test_files_that_change_while_it_is_made_are_told_and_nothing_is_kept(
    tiny_bert: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    model = open_model(load_settings({"model": str(folder)}))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", tokenizer)
    with pytest.raises(InputError, match=r"changed while they were in use: tokenizer\.json"):
        load_tokenizer(model)
    shutil.rmtree(folder)
    shutil.copytree(tiny_bert, folder)
    again = load_tokenizer(open_model(load_settings({"model": str(folder)})))
    assert again.encode("APPLE").ids == again.encode("apple").ids


def test_another_version_of_the_library_makes_it_again(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer_of(tiny_bert)
    monkeypatch.setattr("embed_assets.embedding.tokenizer.version", lambda package: f"{package}-99")
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", _made_again)
    with pytest.raises(InputError, match="made again"):
        tokenizer_of(tiny_bert)


def _made_again(*_arguments: object, **_named: object) -> None:
    raise ValueError("made again")
