"""What is kept in the user's cache: whole entries, which go when nobody uses them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_assets.embedding.file_cache import FileCache


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FileCache:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(tmp_path))
    return FileCache("kind", "a", "b")


def writing(text: str) -> Callable[[Path], None]:
    def write(entry: Path) -> None:
        (entry / "a").write_text(text)
        (entry / "b").write_text(text)

    return write


def test_of_two_processes_at_once_one_entry_stays(cache: FileCache, tmp_path: Path) -> None:
    def write_while_another_does(entry: Path) -> None:
        cache.keep("key", writing("first"))
        writing("second")(entry)

    cache.keep("key", write_while_another_does)
    found = cache.kept("key")
    assert found is not None
    assert (found / "a").read_text() == (found / "b").read_text()
    assert [entry.name for entry in (tmp_path / "kind").iterdir()] == ["key"]


def test_what_nobody_used_for_long_goes_when_something_new_comes(
    cache: FileCache, tmp_path: Path
) -> None:
    root = tmp_path / "kind"
    for key in ("old", "used", "new"):
        if key == "new":
            for entry in root.iterdir():
                os.utime(entry, (0, 0))
            assert cache.kept("used") is not None
        cache.keep(key, writing("x"))
    assert sorted(entry.name for entry in root.iterdir()) == ["new", "used"]


def test_an_entry_that_was_changed_is_as_good_as_none(
    cache: FileCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.keep("key", writing("x"))
    (tmp_path / "kind/key/b").write_text("y")
    assert cache.kept("key") is None
    assert "its files are not those that were written" in caplog.text
    cache.keep("key", writing("z"))
    assert cache.kept("key") is not None
