"""The documents of a retrieval set: read as a stream, so that only their ids stay in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embed_assets.errors import InputError
from embed_assets.evaluation.json_lines import json_records, record_id, text_field


@dataclass(frozen=True)
class Corpus:
    """Documents and their texts. Equal texts are one text with several documents.

    `ids` are the documents' ids in file order, `text_of` int64 (n_documents,) the number of each
    one's text. Texts are numbered from 0 by first appearance.
    """

    path: Path
    ids: tuple[str, ...]
    text_of: NDArray[np.int64]
    n_texts: int

    def texts(self) -> Iterator[str]:
        """Each different text once, in the order of their numbers; read from the file again."""
        expected = 0
        for (_, text), number in zip(_documents(self.path), self.text_of, strict=True):
            if number == expected:
                expected += 1
                yield text


def open_corpus(path: Path) -> Corpus:
    """Read ids and digests of texts. InputError names the file and line of what is wrong."""
    numbers: dict[bytes, int] = {}
    ids: dict[str, None] = {}
    text_of: list[int] = []
    for document_id, text in _documents(path):
        if document_id in ids:
            raise InputError(f"{path} has two documents with the id {document_id!r}")
        ids[document_id] = None
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        text_of.append(numbers.setdefault(digest, len(numbers)))
    if not ids:
        raise InputError(f"{path} has no documents")
    return Corpus(path, tuple(ids), np.array(text_of, dtype=np.int64), len(numbers))


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of each document: title, blank, text, stripped, as BEIR and MTEB join them."""
    for line, record in json_records(path):
        place = f"{path}, line {line}"
        title = text_field({"title": record.get("title")}, "title", place)
        text = text_field(record, "text", place)
        yield record_id(record, place), f"{title} {text}".strip()
