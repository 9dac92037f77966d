"""A retrieval set in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.

Read as BEIR and MTEB read it, but nothing is passed over in silence: what is wrong is an error
with file and line, and what those tools ignore is counted and told.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_assets.errors import InputError
from embed_assets.evaluation.corpus import Corpus, open_corpus
from embed_assets.evaluation.json_lines import (
    existing_file,
    json_records,
    numbered_lines,
    record_id,
    text_field,
)

# trec_eval keeps a counter per grade: one of 10^9 would take 8 GB.
_HIGHEST_GRADE = 1_000_000

#: Relevance of documents for queries: query id -> document id -> grade, 0 or less is not
#: relevant.
Judgements = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class BeirSet:
    """Documents, the texts of the judged queries, the judgements, and what was odd about them.

    `queries` and `judgements` have the same keys in the same order.
    """

    corpus: Corpus
    queries: Mapping[str, str]
    judgements: Judgements
    notes: tuple[str, ...]


def load_beir(folder: Path, split: str) -> BeirSet:
    """Read a set. InputError names file, line and what was expected."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with corpus.jsonl and qrels/")
    queries_file = existing_file(folder / "queries.jsonl")
    judged, n_repeated = _judgements(_qrels_file(folder, split))
    texts = _queries(queries_file)
    corpus = open_corpus(existing_file(folder / "corpus.jsonl"))
    queries = {query: texts[query] for query in judged if query in texts}
    if not queries:
        raise InputError(f"no query of {queries_file} has a judgement in the split {split!r}")
    judgements = {query: judged[query] for query in queries}
    known = set(corpus.ids)
    n_unknown = sum(document not in known for own in judgements.values() for document in own)
    n_hopeless = sum(not any(grade > 0 for grade in own.values()) for own in judgements.values())
    counts = {
        "judged queries have no text in queries.jsonl and are not scored": len(judged)
        - len(queries),
        "judgements name documents that are not in the corpus; they count as not found": n_unknown,
        "queries have no relevant document and score 0": n_hopeless,
        "judgements came twice with different grades; the last one counts": n_repeated,
    }
    notes = tuple(f"{n:,} {what}" for what, n in counts.items() if n)
    return BeirSet(corpus, queries, judgements, notes)


def _qrels_file(folder: Path, split: str) -> Path:
    try:
        return existing_file(folder / "qrels" / f"{split}.tsv")
    except InputError as error:
        splits = sorted(path.name.partition(".tsv")[0] for path in folder.glob("qrels/*.tsv*"))
        raise InputError(f"{error}; splits there: {', '.join(splits) or 'none'}") from None


def _queries(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for line, record in json_records(path):
        place = f"{path}, line {line}"
        query = record_id(record, place)
        if query in texts:
            raise InputError(f"{place}: a second query with the id {query!r}")
        texts[query] = text_field(record, "text", place)
    return texts


def _judgements(path: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Grades by query and document, and how many were given twice and not alike."""
    judged: dict[str, dict[str, int]] = {}
    n_repeated = 0
    for line, fields in _rows(path):
        if len(fields) != 3:
            raise InputError(
                f"{path}, line {line}: {len(fields)} columns, expected query-id, corpus-id and "
                "score, with tabs between"
            )
        query, document, score = fields
        grade = _grade(score)
        if grade is None:
            # Only the first row may be a header.
            if line == 1:
                continue
            raise InputError(
                f"{path}, line {line}: score is {score!r}, expected a whole number of at most "
                f"{_HIGHEST_GRADE:,}"
            )
        own = judged.setdefault(query, {})
        n_repeated += own.get(document, grade) != grade
        own[document] = grade
    if not judged:
        raise InputError(f"{path} has no judgements")
    return judged, n_repeated


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered_lines(path):
        try:
            text = line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: not UTF-8") from error
        if text.strip():
            yield number, next(csv.reader([text], delimiter="\t"))


def _grade(score: str) -> int | None:
    """A whole number, also as "1.0"; None for anything else, and for one that is too high."""
    try:
        value = float(score)
    except ValueError:
        return None
    return int(value) if value.is_integer() and value <= _HIGHEST_GRADE else None
