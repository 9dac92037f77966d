"""Reading retrieval sets: as BEIR and MTEB do, and loud about what is wrong."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from embed_assets.errors import InputError
from embed_assets.evaluation.beir import load_beir
from embed_assets_tests.evaluation.beir_sets import HEADER, write_lines, write_set


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    documents = {"d1": "one", "d2": "two", "d3": "one"}
    queries = {"q1": "first", "q2": "second", "q3": "never judged"}
    return write_set(tmp_path, documents, queries, [("q2", "d1", 1), ("q1", "d3", 2)])


def test_only_judged_queries_are_scored_and_equal_texts_keep_their_ids(small_set: Path) -> None:
    found = load_beir(small_set, "test")
    assert dict(found.queries) == {"q2": "second", "q1": "first"}
    assert found.judgements == {"q2": {"d1": 1}, "q1": {"d3": 2}}
    assert found.corpus.ids == ("d1", "d2", "d3")
    assert found.corpus.text_of.tolist() == [0, 1, 0]
    assert list(found.corpus.texts()) == ["one", "two"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"title": "Title", "text": "Text"}, "Title Text"),
        ({"title": "", "text": " Text "}, "Text"),
        ({"title": None, "text": "Text"}, "Text"),
        ({"text": "Text"}, "Text"),
        ({"title": "Title", "text": ""}, "Title"),
        ({"title": "", "text": None}, ""),
        ({"text": "lone \ud800"}, "lone \ufffd"),
    ],
)
def test_title_and_text_are_joined_as_beir_joins_them(
    small_set: Path, record: dict[str, object], text: str
) -> None:
    write_lines(small_set / "corpus.jsonl", [json.dumps({"_id": "d1", **record})])
    assert list(load_beir(small_set, "test").corpus.texts()) == [text]


def test_compressed_files_numbers_as_ids_and_a_missing_header_are_read(tmp_path: Path) -> None:
    for name in ("corpus", "queries"):
        content = b'{"_id": 7, "text": "seven"}\n\n{"_id": "8", "text": "eight"}\n'
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(content))
    write_lines(tmp_path / "qrels/dev.tsv", ["7\t8\t1.0", "", "8\t7\t0"])
    found = load_beir(tmp_path, "dev")
    assert found.judgements == {"7": {"8": 1}, "8": {"7": 0}}
    assert found.corpus.ids == ("7", "8")
    assert found.notes == ("1 queries have no relevant document and score 0",)


def test_what_beir_passes_over_is_told(small_set: Path) -> None:
    rows = ["q1\td1\t1", "q1\tgone\t1", "gone\td1\t1", "q1\td1\t2"]
    write_lines(small_set / "qrels/test.tsv", [HEADER, *rows])
    found = load_beir(small_set, "test")
    assert found.judgements == {"q1": {"d1": 2, "gone": 1}}
    assert [note[:13] for note in found.notes] == [
        "1 judged quer",
        "1 judgements ",
        "1 judgements ",
    ]


def _without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _with(name: str, *lines: str) -> Callable[[Path], object]:
    return lambda folder: write_lines(folder / name, lines)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("corpus.jsonl"), "corpus.jsonl, and none compressed"),
        (_without("queries.jsonl"), "queries.jsonl, and none compressed"),
        (_without("qrels/test.tsv"), "splits there: none"),
        (_with("corpus.jsonl"), "no documents"),
        (_with("corpus.jsonl", '{"_id": "a", "text": "x"}', "{"), "corpus.jsonl, line 2: no JSON"),
        (_with("corpus.jsonl", "[]"), "line 1: expected an object, got list"),
        (_with("corpus.jsonl", '{"text": "x"}'), "_id is None"),
        (_with("corpus.jsonl", '{"_id": true, "text": "x"}'), "_id is True"),
        (_with("corpus.jsonl", '{"_id": "a", "contents": "x"}'), "line 1: text is missing"),
        (_with("corpus.jsonl", '{"_id": "a", "text": 5}'), "text is 5, expected a text"),
        (_with("corpus.jsonl", '{"_id": "a", "title": [], "text": ""}'), "title is []"),
        (_with("corpus.jsonl", *['{"_id": "a", "text": ""}'] * 2), "two documents with the id 'a'"),
        (_with("queries.jsonl", *['{"_id": "a", "text": ""}'] * 2), "line 2: a second query"),
        (_with("qrels/test.tsv", HEADER), "no judgements"),
        (_with("qrels/test.tsv", HEADER, "other\td1\t1"), "no query of"),
        (_with("qrels/test.tsv", HEADER, "q1\td1"), "line 2: 2 columns"),
        (_with("qrels/test.tsv", "q1 0 d1 1"), "line 1: 1 columns"),
        (_with("qrels/test.tsv", HEADER, "q1\td1\tNaN"), "line 2: score is 'NaN'"),
        (_with("qrels/test.tsv", HEADER, "q1\td1\t0.5"), "line 2: score is '0.5'"),
        (
            _with("qrels/test.tsv", HEADER, "q1\td1\t1000000000"),
            "whole number of at most 1,000,000",
        ),
    ],
)
def test_what_is_wrong_is_named(
    small_set: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(small_set)
    with pytest.raises(InputError) as error:
        load_beir(small_set, "test")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_broken_compression_are_named(small_set: Path) -> None:
    (small_set / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "\xff"}\n')
    with pytest.raises(InputError, match="line 1: no JSON"):
        load_beir(small_set, "test")
    (small_set / "queries.jsonl").unlink()
    (small_set / "queries.jsonl.gz").write_bytes(gzip.compress(b"\n" * 99)[:-9])
    with pytest.raises(InputError, match="cannot be read: corrupt compression"):
        load_beir(small_set, "test")


def test_an_unknown_split_names_those_there_are(small_set: Path) -> None:
    with pytest.raises(InputError, match="splits there: test"):
        load_beir(small_set, "dev")
    with pytest.raises(InputError, match="is no folder"):
        load_beir(small_set / "absent", "test")
