"""Tune a pipeline's token budget on this device, keep the answer, and use it in later runs."""

import numpy as np
import polars as pl

from embed_assets.embedding.autotune import Tuning, tune
from embed_assets.embedding.device_answers import (
    TOKEN_BUDGETS,
    DeviceAnswers,
    answer_key,
    device_name,
)
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline

# More chunks than this tell no more about how long a corpus's texts are.
_SAMPLED_CHUNKS = 20_000
_SAMPLED_SHARDS = 20
_LEAST_CHUNKS = 50


def tune_pipeline(pipeline: OpenedPipeline, seconds: float) -> Tuning:
    """Measure budgets with the corpus's own chunks, and keep the best for this device and model.

    Raises InputError where the corpus has too few chunks to tell budgets apart.
    """
    tokens, encoder = _sample(pipeline), pipeline.encoder()
    tuning = tune(encoder, tokens, seconds)
    DeviceAnswers(TOKEN_BUDGETS).put(
        answer_key(encoder, pipeline.model), tuning.best.max_tokens_per_batch
    )
    return tuning


def _sample(pipeline: OpenedPipeline) -> TokenRows:
    chunks = pipeline.tables.chunks
    states = chunks.states()
    shards = sorted(states)
    if not shards:
        raise InputError(
            f"{chunks.uri} has no chunks yet, and tuning is done with the corpus's own; "
            f"materialise {pipeline.settings.name}/chunks, or embed-assets run, first"
        )
    n_chunks = sum(state.n_rows for state in states.values())
    if n_chunks < _LEAST_CHUNKS:
        raise InputError(
            f"{chunks.uri} has {n_chunks} chunks, too few to stand for the texts to come: "
            f"{_LEAST_CHUNKS} are needed, because every pipeline with this model will go by what "
            "is found; nothing was measured"
        )
    some = shards[:: max(1, len(shards) // _SAMPLED_SHARDS)][:_SAMPLED_SHARDS]
    rows = pl.concat([chunks.read(shard, ["token_ids"]) for shard in some])
    return TokenRows.from_series(
        rows.sample(min(rows.height, _SAMPLED_CHUNKS), seed=0, shuffle=True)["token_ids"]
    )


def tuning_plot(tuning: Tuning) -> bytes:
    """The curve as a PNG."""
    from embed_assets.quality.plots import token_budget_plot

    return token_budget_plot(
        np.array([trial.max_tokens_per_batch for trial in tuning.trials]),
        np.array([trial.tokens_per_second for trial in tuning.trials]),
        tuning.best.max_tokens_per_batch,
        f"{device_name(tuning.device)}, {tuning.precision}",
    )
