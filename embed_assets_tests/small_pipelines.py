"""A pipeline over a small folder, run stage by stage without Dagster; an encoder that counts."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import DeltaTable
from numpy.typing import NDArray

from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.pipeline import chunk_shard, embed_shard, ingest_shard, measure_shard
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.tables.delta import open_delta_tables

Vectors = NDArray[np.float32]


class WatchedEncoder:
    """The real encoder, that counts texts and may be made to return something else."""

    def __init__(
        self,
        encoder: Encoder,
        spoil: Callable[[Vectors], Vectors] = lambda vectors: vectors,
        wrong_ids: bool = False,
    ) -> None:
        self._encoder = encoder
        self._spoil = spoil
        self._wrong_ids = wrong_ids
        self.n_texts = 0

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    @property
    def device(self) -> str:
        return self._encoder.device

    @property
    def precision(self) -> str:
        return self._encoder.precision

    @property
    def max_tokens_per_batch(self) -> int:
        return self._encoder.max_tokens_per_batch

    def plan(self, lengths: NDArray[np.int64], max_tokens_per_batch: int) -> list[Batch]:
        return self._encoder.plan(lengths, max_tokens_per_batch)

    def encode(
        self, tokens: TokenRows, batches: Sequence[Batch]
    ) -> Generator[tuple[Batch, Vectors]]:
        for batch, vectors in self._encoder.encode(tokens, batches):
            self.n_texts += len(batch.rows)
            yield batch, self._spoil(vectors.copy())

    def token_ids(self, text: str) -> list[int]:
        ids = self._encoder.token_ids(text)
        return ids[:-1] if self._wrong_ids else ids

    def encode_query(self, text: str) -> Vectors:
        return self._encoder.encode_query(text)


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")


def settings_for(tmp_path: Path, model: Path, **values: object) -> PipelineSettings:
    """Every file of tmp_path/corpus in a shard of its own, if it has 600 bytes or more."""
    places = {"corpus": f"{tmp_path}/corpus", "tables": f"{tmp_path}/tables", "model": str(model)}
    # Converting for OpenVINO takes a second or two for each model: the tests of that do it.
    how = {"shard_bytes": 1024, "device": "cpu", "backend": "torch"}
    return load_settings({**places, **how, **values})


def chunked(tmp_path: Path, model: Path) -> OpenedPipeline:
    """Four shards, chunked."""
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abcd"})
    pipeline = OpenedPipeline(settings_for(tmp_path, model))
    pipeline.plan()
    pipeline.prepare()
    for shard in pipeline.pieces:
        ingest_shard(shard, pipeline)
        chunk_shard(shard, pipeline)
    return pipeline


def run(
    settings: PipelineSettings, *, encoder: Encoder | None = None, force: bool = False
) -> list[Outcome]:
    """One whole run, as a new process would do it."""
    return run_pipeline(OpenedPipeline(settings), encoder, force)


def run_pipeline(
    pipeline: OpenedPipeline, encoder: Encoder | None = None, force: bool = False
) -> list[Outcome]:
    """The same with a pipeline that is open already."""
    pipeline.check_fits()
    pipeline.plan()
    pipeline.claim()
    shards = sorted(pipeline.pieces) if force else list(pipeline.stale_shards())
    return [outcome for shard in shards for outcome in run_shard(shard, pipeline, encoder, force)]


def run_shard(
    shard: str, pipeline: OpenedPipeline, encoder: Encoder | None = None, force: bool = False
) -> list[Outcome]:
    def load() -> Encoder:
        return encoder or pipeline.encoder()

    return [
        ingest_shard(shard, pipeline, force=force),
        chunk_shard(shard, pipeline, force=force),
        embed_shard(shard, pipeline, load, force=force),
        measure_shard(shard, pipeline, force=force),
    ]


def read(settings: PipelineSettings, table: str) -> pl.DataFrame:
    """All rows of a table, by shard."""
    tables = open_delta_tables(settings.tables)
    frame = (
        tables.manifest.read().frame
        if table == "shards"
        else tables.by_shard[table].scan().collect()
    )
    return frame.sort("shard", maintain_order=True)


def versions(settings: PipelineSettings) -> dict[str, int]:
    """Delta version of every table that exists."""
    logs = Path(settings.tables).glob("*/_delta_log")
    return {log.parent.name: DeltaTable(str(log.parent)).version() for log in logs}


def shard_of(settings: PipelineSettings, source: str) -> str:
    manifest = read(settings, "shards")
    return str(manifest.filter(pl.col("source") == source)["shard"].item())
