"""The tokenizer of a model: made once, and made again where a file of the model is another."""

import json
import shutil
from pathlib import Path

import pytest

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
