"""Small retrieval sets on disk, in BEIR's layout."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

HEADER = "query-id\tcorpus-id\tscore"


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """A text file of these lines, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_set(
    folder: Path,
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    judgements: Iterable[tuple[str, str, int]],
) -> Path:
    """Documents and queries by id, and (query, document, grade) of the split "test"."""
    for name, texts in (("corpus", documents), ("queries", queries)):
        records = [{"_id": key, "text": text} for key, text in texts.items()]
        write_lines(folder / f"{name}.jsonl", map(json.dumps, records))
    rows = [f"{query}\t{document}\t{grade}" for query, document, grade in judgements]
    write_lines(folder / "qrels/test.tsv", [HEADER, *rows])
    return folder
