"""The nearest chunks to a query, straight from the tables: exact, one shard at a time."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from embed_assets import calibration
from embed_assets.embedding import model as models
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.model_folder import leaves_prompt_out
from embed_assets.errors import InputError
from embed_assets.fingerprints import recorded_configurations
from embed_assets.settings import Device, PipelineSettings
from embed_assets.tables.delta_files import reading
from embed_assets.tables.table import Tables


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk near the query. `score` is the cosine of the two vectors, -1 to 1."""

    score: float
    shard: str
    chunk_id: str
    source: str
    title: str
    text: str


def search(tables: Tables, query: str, k: int, device: Device = "auto") -> list[Hit]:
    """The k chunks with the highest cosine to the query, best first.

    The query is embedded in fp32 by the model that made the vectors, as the table `fingerprints`
    tells.
    Memory holds one shard's vectors at a time. Raises InputError if there are no vectors yet.
    """
    encoder, fingerprint = _encoder_of(tables, device)
    vector = encoder.encode_query(query).astype(np.float64)
    vector /= np.linalg.norm(vector) or 1.0
    best = pl.concat(
        [
            _nearest(tables, shard, fingerprint, vector, k)
            for shard in sorted(tables.embeddings.states())
        ]
    )
    best = best.sort("score", "chunk_id", descending=[True, False]).head(k)
    return list(_hits(tables, best))


def _encoder_of(tables: Tables, device: Device) -> tuple[Encoder, str]:
    """The encoder of the newest fingerprint that has vectors."""
    standing = reading(
        tables.embeddings.uri,
        lambda: tables.embeddings.scan().select(pl.col("fingerprint").unique()).collect(),
    )
    for recorded in recorded_configurations(tables):
        fingerprint = recorded.configuration.fingerprint
        if fingerprint in standing["fingerprint"]:
            if recorded.settings is None:
                raise InputError(
                    f"the newest vectors under {tables.root} were made with settings that this "
                    "version does not know; upgrade embed-assets"
                )
            settings = recorded.settings.model_copy(update={"device": device})
            _check_model(settings, fingerprint, calibration.versions(tables))
            return _load(settings), fingerprint
    raise InputError(
        f"there are no vectors under {tables.root}; embed a corpus first: "
        f"embed-assets run --corpus FOLDER --tables {shlex.quote(tables.root)}"
    )


def _check_model(settings: PipelineSettings, fingerprint: str, calibrations: Sequence[str]) -> None:
    """Raise InputError if the model is no longer the one that made the vectors."""
    model = models.open_model(settings)
    # The precision that `auto` stood for is in the fingerprint alone.
    if fingerprint not in calibration.possible_fingerprints(settings, model, calibrations):
        raise InputError(
            f"the model {settings.model} is not what it was when these vectors were made, so no "
            "query can be compared with them; run the pipeline again to embed with the new one"
        )


def _load(settings: PipelineSettings) -> Encoder:
    # A query is one short text: an exact vector costs nothing, and is compared best with any. On a
    # GPU what packing takes to begin with is longer than a query, and where the prompt is left out
    # of the mean torch embeds it anyway.
    model = models.open_model(settings)
    if resolve_device(settings.device) == "cuda" or leaves_prompt_out(model.folder):
        settings = settings.model_copy(update={"backend": "torch"})
    return load_encoder(settings, "fp32")


def _nearest(
    tables: Tables, shard: str, fingerprint: str, query: NDArray[np.float64], k: int
) -> pl.DataFrame:
    """The best k of a shard: shard, chunk_id, doc_id, score."""
    rows = tables.embeddings.read(shard, ["chunk_id", "doc_id", "fingerprint", "embedding"])
    rows = rows.filter(pl.col("fingerprint") == fingerprint)
    vectors = rows["embedding"].list.to_array(len(query)).to_numpy()
    norms = np.linalg.norm(vectors, axis=1)
    scores = (vectors @ query.astype(np.float32)) / np.where(norms == 0, 1, norms)
    found = rows.select("chunk_id", "doc_id").with_columns(
        pl.lit(shard).alias("shard"), pl.Series("score", scores.astype(np.float64))
    )
    return found.top_k(k, by="score")


def _hits(tables: Tables, best: pl.DataFrame) -> Iterable[Hit]:
    for row in best.iter_rows(named=True):
        shard, chunk_id, doc_id = row["shard"], row["chunk_id"], row["doc_id"]
        # Not those of `chunks`, which may be newer than the vectors.
        rows = tables.embeddings.read(shard, ["chunk_id", "text"])
        texts = rows.filter(pl.col("chunk_id") == chunk_id)["text"].to_list()
        documents = tables.raw_corpus.read(shard, ["doc_id", "source", "title"])
        found = documents.filter(pl.col("doc_id") == doc_id).to_dicts()
        # A shard published between two reads may have lost the chunk: say what is known.
        document = found[0] if found else {"source": "", "title": ""}
        yield Hit(
            score=row["score"],
            shard=shard,
            chunk_id=chunk_id,
            source=document["source"],
            title=document["title"],
            text=texts[0] if texts else "",
        )
