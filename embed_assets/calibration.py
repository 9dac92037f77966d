"""The texts that int8 is fitted to: a sample of the corpus's own chunks, kept beside the tables.

Taken once for each way of chunking and read ever after, because it is part of the fingerprint: a
corpus that grows, another machine or a lost cache make no vector stale. What it is made from is
spread evenly over the corpus, so that the same corpus gives the same sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl

from embed_assets.checksums import rows_digest, sound_or_refused, with_checksums
from embed_assets.chunking.token_windows import TokenWindows
from embed_assets.embedding import model as models
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.rows import CALIBRATION
from embed_assets.settings import PipelineSettings, Precision, choices
from embed_assets.sources.source import Document, Source
from embed_assets.tables.table import ShardTable, Superseded, Tables

# 300 fitted no better than 100 (mean cosine to fp32 0.9957, 0.9960) and took three times as long.
_N_CHUNKS = 128
_N_PIECES = 100
_PIECE_BYTES = 1 << 20
# Of a long document its beginning will do: about eight chunks of 256 tokens.
_CHARS_PER_DOCUMENT = 8_000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Calibration:
    """A sample: its rows as the table `calibration` holds them."""

    frame: pl.DataFrame

    @property
    def version(self) -> str:
        """Digest of the rows."""
        return rows_digest(self.frame["checksum"].to_numpy())

    @property
    def tokens(self) -> TokenRows:
        """The chunks as the model reads them, in their order."""
        return TokenRows.from_series(self.frame.sort("position")["token_ids"])


def standing(tables: Tables, chunking_version: str) -> Calibration | None:
    """The sample that is kept for a way of chunking, if any. Raises InputError if damaged."""
    frame = tables.calibration.read().frame
    rows = frame.filter(pl.col("chunking_version") == chunking_version)
    if rows.is_empty():
        return None
    return Calibration(sound_or_refused(rows, tables.calibration.uri, tables.root))


def texts_of_corpus(source: Source) -> list[str]:
    """Texts spread over a corpus, enough for a sample. Raises InputError if it is missing."""
    files = _evenly(source.files().files, _N_PIECES)
    pieces = [piece for file in files for piece in source.pieces(file, _PIECE_BYTES)]
    pieces = _evenly(pieces, _N_PIECES)
    n_documents = _documents_each(len(pieces))
    texts = []
    for piece in pieces:
        documents = [item for item in source.read(piece) if isinstance(item, Document)]
        texts += [d.text[:_CHARS_PER_DOCUMENT] for d in _evenly(documents, n_documents)]
    return texts


def texts_of_documents(raw_corpus: ShardTable) -> list[str]:
    """Texts spread over documents that were read already."""
    shards = _evenly(sorted(raw_corpus.states()), _N_PIECES)
    n_documents = _documents_each(len(shards))
    texts = []
    for shard in shards:
        documents = raw_corpus.read(shard, ["text"])["text"].to_list()
        texts += [text[:_CHARS_PER_DOCUMENT] for text in _evenly(documents, n_documents)]
    return texts


def _documents_each(n_parts: int) -> int:
    """Documents to take from each part of a corpus."""
    return -(-2 * _N_CHUNKS // max(1, n_parts))


def taken(texts: Sequence[str], chunker: TokenWindows, chunking_version: str) -> Calibration:
    """A sample of up to 128 chunks, taken now. Empty where there is no text."""
    chunks = _evenly([chunk for own in chunker.chunk(list(texts)) for chunk in own], _N_CHUNKS)
    rows = {
        "chunking_version": [chunking_version] * len(chunks),
        "position": np.arange(len(chunks)),
        "token_ids": [chunk.token_ids for chunk in chunks],
        "content_version": [""] * len(chunks),
    }
    frame = with_checksums(pl.DataFrame(rows, schema_overrides=CALIBRATION), CALIBRATION)
    version = rows_digest(frame["checksum"].to_numpy())
    return Calibration(frame.with_columns(content_version=pl.lit(version)))


def keep(tables: Tables, calibration: Calibration) -> None:
    """Keep a sample; nothing is written if it stands already.

    Raises Superseded if another run has kept another one for the same chunks meanwhile.
    """
    snapshot = tables.calibration.read()
    if calibration.frame.is_empty():
        return
    mine = pl.col("chunking_version") == calibration.frame["chunking_version"][0]
    there = snapshot.frame.filter(mine)["content_version"].unique().to_list()
    if there == [calibration.version]:
        return
    if there:
        raise Superseded(
            f"another run has taken the sample in {tables.calibration.uri} meanwhile; run again"
        )
    frame = pl.concat([snapshot.frame, calibration.frame])
    tables.calibration.replace(frame, snapshot, snapshot.counter + 1)


def versions(tables: Tables) -> list[str]:
    """The versions of all samples that are kept."""
    found = tables.calibration.read().frame["content_version"]
    return [str(version) for version in found.unique().sort()]


def precision_version(precision: str, calibration_version: str) -> str:
    """What a fingerprint says of the precision: int8 is nothing without its sample."""
    return f"int8 {calibration_version}" if precision == "int8" else precision


def possible_fingerprints(
    settings: PipelineSettings, model: models.Model, calibrations: Iterable[str]
) -> dict[str, str]:
    """Fingerprint -> precision: those that a model has under these settings.

    `calibrations` are the versions of the samples that int8 may have been fitted to.
    """
    exact = [(name, name) for name in choices(Precision) if name not in ("auto", "int8")]
    fitted = [(precision_version("int8", version), "int8") for version in calibrations]
    return {models.fingerprint(settings, model, word): name for word, name in exact + fitted}


def _evenly(items: Sequence[_Item], n: int) -> list[_Item]:
    """At most n of the items, spread over all of them, in their order."""
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]
