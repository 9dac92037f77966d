"""A corpus of files: what is listed, what is passed over and why, and what is never opened."""

import os
from pathlib import Path

import pytest

from embed_assets.bundled import BUNDLED_CORPUS
from embed_assets.errors import InputError
from embed_assets.shards import Piece, SourceFile
from embed_assets.sources.folder import FolderSource
from embed_assets.sources.open_source import open_source
from embed_assets.sources.python_docs import PythonDocsSource
from embed_assets.sources.source import Listing, Rejection
from embed_assets_tests.sources.reading import document, outcomes, read, settings


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")


def listing(corpus: object, **values: object) -> Listing:
    return FolderSource(str(corpus), settings(**values)).files()


def names(corpus: object, **values: object) -> list[str]:
    return [file.source for file in listing(corpus, **values).files]


def test_a_folder_is_listed_with_all_below_it_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a/z.md", "a/b/c.rst", "a.txt", "UPPER.TXT", "é ☃.md")
    assert names(tmp_path) == ["UPPER.TXT", "a.txt", "a/b/c.rst", "a/z.md", "b.txt", "é ☃.md"]


def test_a_version_changes_with_the_file(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    os.utime(tmp_path / "a.txt", ns=(1, 123_456_789))
    assert listing(tmp_path).files == [SourceFile("a.txt", 13, "13-123456789")]


def test_unknown_types_are_counted_and_not_read(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.PDF", "c.pdf", "Makefile", "d.tar.gz", ".gitignore")
    assert listing(tmp_path).skipped == {".pdf": 2, "(no suffix)": 2, ".tar.gz": 1}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, ["a.md", "a.txt", "docs/b.md", "docs/old/c.md"]),
        ({"include": ["*.md"]}, ["a.md", "docs/b.md", "docs/old/c.md"]),
        ({"include": ["/*.md"]}, ["a.md"]),
        ({"include": ["docs/"]}, ["docs/b.md", "docs/old/c.md"]),
        ({"exclude": ["old/"]}, [".git/x.md", "a.md", "a.txt", "docs/b.md"]),
        ({"include": ["*.md"], "exclude": [".*/", "docs/*", "!docs/b.md"]}, ["a.md", "docs/b.md"]),
    ],
)
def test_patterns_work_as_in_a_gitignore(
    tmp_path: Path, values: dict[str, object], wanted: list[str]
) -> None:
    make(tmp_path, "a.md", "a.txt", "docs/b.md", "docs/old/c.md", ".git/x.md")
    assert names(tmp_path, **values) == wanted


def test_excluded_folders_are_never_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.txt", ".git/objects/b.txt")
    entered: list[str] = []
    scandir = os.scandir

    def watched(path: str) -> object:
        entered.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    assert listing(tmp_path).skipped == {"(excluded folder)": 1}
    assert not [path for path in entered if ".git" in path]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("**/*.md", ["a.md", "docs/b.md", "docs/old/c.md"]),
        ("*.md", ["a.md"]),
        ("docs/*.md", ["b.md"]),
        ("d*/old/?.md", ["docs/old/c.md"]),
        ("docs/[ab].md", ["b.md"]),
    ],
)
def test_a_glob_is_relative_to_what_stands_before_its_first_wildcard(
    tmp_path: Path, pattern: str, wanted: list[str]
) -> None:
    make(tmp_path, "a.md", "a.txt", "docs/b.md", "docs/old/c.md")
    corpus = f"{tmp_path}/{pattern}"
    assert names(corpus) == wanted
    assert len(read(corpus)) == len(wanted)


def test_a_folder_with_brackets_in_its_name_is_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a[1]/x.txt")
    assert names(tmp_path / "a[1]") == ["x.txt"]


def test_one_file_is_a_corpus_even_where_patterns_exclude_it(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt")
    assert names(tmp_path / "a.txt", exclude=["*.txt"]) == ["a.txt"]
    assert document(tmp_path / "a.txt").text == "text of a.txt"


def test_one_file_may_be_a_link(tmp_path: Path) -> None:
    # A model hub's cache is made of links from names to blobs.
    make(tmp_path, "blobs/123")
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "a.txt").symlink_to(tmp_path / "blobs" / "123")
    assert document(tmp_path / "names" / "a.txt").text == "text of blobs/123"


def test_links_are_followed_only_to_files_within_the_corpus(tmp_path: Path) -> None:
    make(tmp_path, "corpus/a.txt", "corpus/dir/b.txt", "secret.txt", "secrets/c.txt")
    corpus = tmp_path / "corpus"
    (corpus / "inner.txt").symlink_to("dir/b.txt")
    (corpus / "outer.txt").symlink_to(tmp_path / "secret.txt")
    (corpus / "relative.txt").symlink_to("../secret.txt")
    (corpus / "folder").symlink_to(tmp_path / "secrets")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "broken.txt").symlink_to("nowhere.txt")
    (corpus / "self.txt").symlink_to("self.txt")
    result = listing(corpus)
    assert [file.source for file in result.files] == ["a.txt", "dir/b.txt", "inner.txt"]
    assert result.skipped == {
        "(link out of the corpus)": 2,
        "(link to a folder)": 2,
        "(broken link or vanished file)": 2,
    }


def test_a_corpus_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    make(tmp_path, "real/a.txt")
    (tmp_path / "link").symlink_to("real")
    assert outcomes(read(tmp_path / "link")) == ["text of real/a.txt"]


def test_pipes_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    assert listing(tmp_path).skipped == {"(not a regular file)": 1}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("../secret.txt", "link out of the corpus"),
        ("late.txt", "link out of the corpus"),
        ("pipe.txt", "not a regular file"),
        ("gone.txt", "unreadable file"),
        ("a.pdf", "unknown file type"),
    ],
)
def test_nothing_outside_the_corpus_is_opened_whatever_the_manifest_says(
    tmp_path: Path, source: str, reason: str
) -> None:
    make(tmp_path, "corpus/a.txt", "corpus/a.pdf", "secret.txt")
    (tmp_path / "corpus" / "late.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(tmp_path / "corpus" / "pipe.txt")
    folder = FolderSource(str(tmp_path / "corpus"), settings())
    [piece] = folder.pieces(SourceFile(source, 9, "v"), 1024)
    [item] = folder.read(piece)
    assert isinstance(item, Rejection)
    assert (item.source, item.reason) == (source, reason)


def test_the_pipelines_own_tables_are_no_corpus(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "tables/x/raw_corpus/part.parquet")
    result = listing(tmp_path, tables=str(tmp_path / "tables" / "x"))
    assert [file.source for file in result.files] == ["a.txt"]
    assert result.skipped == {"(this pipeline's tables)": 1}


def test_a_name_that_no_table_can_hold_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert listing(tmp_path).skipped == {"(name is not UTF-8)": 1}


def refuse_to_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """chmod would not stop root, as which containers run tests."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


def test_an_unreadable_folder_within_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.txt", "locked/b.txt")
    refuse_to_list(tmp_path / "locked", monkeypatch)
    result = listing(tmp_path)
    assert [file.source for file in result.files] == ["a.txt"]
    assert result.skipped == {"(unreadable folder)": 1}


def test_an_unreadable_corpus_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_list(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        listing(tmp_path)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("nowhere", "does not exist .*; set corpus to"),
        ("nowhere/**/*.md", "is a glob in .*nowhere.* which is no folder"),
        ("pipe", "neither a folder nor a regular file"),
        ("a.pdf", r"no file that can be read; found: 1 \.pdf; readable types: \.txt"),
        ("empty", "no file that can be read; found: nothing; readable types"),
        ("others", r"found: 2 \.pdf, 1 \(no suffix\); readable types"),
        ("others/**/*.md", r"no file that can be read; found: 2 \.pdf"),
    ],
)
def test_a_corpus_without_texts_is_an_error_that_says_what_is_there(
    tmp_path: Path, corpus: str, message: str
) -> None:
    make(tmp_path, "a.pdf", "others/b.pdf", "others/c.pdf", "others/LICENSE")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=message):
        listing(tmp_path / corpus)


def test_a_pattern_that_is_none_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    with pytest.raises(InputError, match=r"setting 'include' is .*expected \.gitignore-style"):
        listing(tmp_path, include=["!"])


def test_the_settings_choose_the_source(tmp_path: Path) -> None:
    make(tmp_path, "with space/a.txt")
    assert isinstance(open_source(settings(corpus=BUNDLED_CORPUS)), PythonDocsSource)
    folder = tmp_path / "with space"
    for corpus in (str(folder), folder.as_uri()):
        [file] = open_source(settings(corpus=corpus)).files().files
        assert file.source == "a.txt"


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("bundled:war-and-peace", "unknown bundled corpus"),
        ("s3://bucket/corpus", "only local paths"),
        ("https://example.org/a.txt", "only local paths"),
        ("file://server/share", "names the host 'server'"),
    ],
)
def test_a_corpus_that_cannot_be_opened_is_refused_at_once(corpus: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(settings(corpus=corpus))


def test_a_file_that_vanished_since_it_was_listed_is_rejected(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.jsonl", "c.parquet", "d.csv")
    folder = FolderSource(str(tmp_path), settings())
    files = folder.files().files
    for file in files:
        (tmp_path / file.source).unlink()
    pieces = [piece for file in files for piece in folder.pieces(file, 1)]
    assert pieces == [Piece(f.source, 0, f.n_bytes, f.n_bytes, f.version) for f in files]
    reasons = [
        item.reason for p in pieces for item in folder.read(p) if isinstance(item, Rejection)
    ]
    assert reasons == ["unreadable file"] * 4
