"""Semantic textual similarity: how well cosines order sentence pairs as people do."""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embed_assets.errors import InputError
from embed_assets.evaluation.estimate import Estimate, spearman_of
from embed_assets.evaluation.json_lines import numbered_lines
from embed_assets.evaluation.text_embedder import TextEmbedder

_HEADER = ("score", "sentence1", "sentence2")
# STS benchmark's own files have no header: genre, file, year, number, score, two sentences, and
# sometimes two licences behind them.
_STS_BENCHMARK = dict(zip(_HEADER, (4, 5, 6), strict=True))


@dataclass(frozen=True)
class SentencePairs:
    """Two sentences and people's score for each pair, on any scale."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]


def score_sts(pairs: SentencePairs, embedder: TextEmbedder) -> Estimate:
    """Spearman's correlation of cosines and scores. Sentences are embedded as documents are."""
    texts = dict.fromkeys(pairs.first + pairs.second)
    vectors = embedder.documents(list(texts)).astype(np.float64)
    row = {text: i for i, text in enumerate(texts)}
    first, second = (vectors[[row[text] for text in side]] for side in (pairs.first, pairs.second))
    cosines = np.einsum("ij,ij->i", first, second)
    if np.ptp(cosines) == 0:
        raise InputError("the model gives every pair the same cosine, so pairs have no order")
    return spearman_of(cosines, np.array(pairs.scores))


def load_pairs(path: Path) -> SentencePairs:
    """Pairs of a file with the columns score, sentence1 and sentence2, by a header; or without
    one, as STS benchmark's own. Tabs or commas. InputError names file, line and what was expected.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    rows = _rows(path)
    line, fields = next(rows, (1, []))
    names = [name.strip().lower() for name in fields]
    if set(_HEADER) <= set(names):
        columns = {name: names.index(name) for name in _HEADER}
        pairs = []
    else:
        columns = _STS_BENCHMARK
        pairs = [_pair(path, line, fields, columns)]
    pairs += [_pair(path, line, fields, columns) for line, fields in rows]
    scores = tuple(score for score, _, _ in pairs)
    if len(set(scores)) < 2:
        raise InputError(f"{path} has {len(pairs)} pairs, but not two different scores to order")
    return SentencePairs(
        tuple(first for _, first, _ in pairs), tuple(second for _, _, second in pairs), scores
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields). The first line tells the delimiter."""
    lines = _decoded(path)
    first = next(lines, "")
    # With tabs a quote is a character like others: STS benchmark has sentences that begin with one.
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    arguments = tabs if "\t" in first else {"delimiter": ",", "strict": True}
    reader = csv.reader(_chained(first, lines), **arguments)  # type: ignore[arg-type]
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _decoded(path: Path) -> Iterator[str]:
    for number, line in numbered_lines(path):
        try:
            yield line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}, line {number}: not UTF-8") from error


def _pair(
    path: Path, line: int, fields: Sequence[str], columns: dict[str, int]
) -> tuple[float, str, str]:
    if len(fields) <= max(columns.values()):
        raise InputError(
            f"{path}, line {line}: {len(fields)} columns; expected a header with "
            f"{', '.join(_HEADER)}, or the seven columns of STS benchmark"
        )
    score, first, second = (fields[columns[name]] for name in _HEADER)
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: score is {score!r}, expected a number")
    return value, first, second
