"""Work that a killed run has done is not done again, but for one checkpoint interval."""

import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embed_assets_tests.faults.failpoints import Fault
from embed_assets_tests.faults.processes import DONE, Lab
from embed_assets_tests.faults.truth import assert_as_undisturbed
from embed_assets_tests.small_pipelines import Vectors, WatchedEncoder, run, write_files


@pytest.fixture
def lab(tmp_path: Path, tiny_bert: Path) -> Lab:
    lab = Lab(tmp_path, tiny_bert)
    sentences = [f"Sentence number {n} is about {n * n}. " for n in range(120)]
    write_files(lab.corpus, {"a.txt": "".join(sentences), "b.txt": "".join(sentences[::-2])})
    return lab


@pytest.mark.parametrize("step", [pytest.param("before", marks=pytest.mark.soak), "committed"])
def test_a_killed_run_costs_at_most_what_was_not_yet_committed(lab: Lab, step: str) -> None:
    n_texts = 0
    for nth in (2, 5, 3):
        before = sum(lab.encoded)
        assert lab.finish(Fault("checkpoints", step, nth)) == -signal.SIGKILL
        n_texts = sum(lab.encoded)
        assert n_texts > before
    assert lab.finish() == DONE
    rows = pl.read_delta(f"{lab.settings.tables}/embeddings")
    n_new = sum(
        n for _, n in rows.group_by("shard").agg(pl.col("text_hash").n_unique()).iter_rows()
    )
    lost = sum(lab.encoded) - n_new
    # Each batch is committed here as soon as it is done, while the next one is on the device: a
    # kill can cost both.
    n_batches = 2 if step == "before" else 1
    assert 0 <= lost <= 3 * n_batches * max(lab.encoded)
    assert_as_undisturbed(lab.settings)


def test_spent_checkpoints_leave_the_table(lab: Lab) -> None:
    def saved() -> int:
        return pl.read_delta(f"{lab.settings.tables}/checkpoints").height

    assert lab.finish(Fault("embeddings", "before")) == -signal.SIGKILL
    assert saved() > 0
    assert lab.finish(Fault("embeddings", "synced")) == -signal.SIGKILL
    assert saved() > 0
    assert lab.finish() == DONE
    assert saved() == 0


def test_a_quick_shard_is_not_checkpointed_at_all(lab: Lab) -> None:
    patient = lab.settings.model_copy(update={"checkpoint_seconds": 3600})
    assert lab.finish(settings=patient) == DONE
    assert not (Path(patient.tables) / "checkpoints").exists()
    assert_as_undisturbed(patient)


def test_what_is_no_vector_is_not_saved_for_the_next_run(lab: Lab) -> None:
    calls = 0

    def broken_once(vectors: Vectors) -> Vectors:
        nonlocal calls
        calls += 1
        if calls == 2:
            vectors[0] = np.nan
        return vectors

    from embed_assets.errors import InputError
    from embed_assets.opened_pipeline import OpenedPipeline

    encoder = OpenedPipeline(lab.settings).encoder()
    with pytest.raises(InputError, match=r"vectors_finite: 1 of .* nothing was published"):
        run(lab.settings, encoder=WatchedEncoder(encoder, broken_once))
    healthy = WatchedEncoder(encoder)
    run(lab.settings, encoder=healthy)
    assert_as_undisturbed(lab.settings)
    # Everything but the one bad vector of the first shard was at hand.
    first = pl.read_delta(f"{lab.settings.tables}/embeddings").sort("shard")["shard"][0]
    rows = pl.read_delta(f"{lab.settings.tables}/embeddings").filter(pl.col("shard") != first)
    assert healthy.n_texts == 1 + rows["text_hash"].n_unique()


def test_force_takes_nothing_from_checkpoints(lab: Lab) -> None:
    assert lab.finish(Fault("embeddings", "before")) == -signal.SIGKILL
    from embed_assets.opened_pipeline import OpenedPipeline

    watched = WatchedEncoder(OpenedPipeline(lab.settings).encoder())
    run(lab.settings, encoder=watched, force=True)
    rows = pl.read_delta(f"{lab.settings.tables}/embeddings")
    assert watched.n_texts == rows.select("shard", "text_hash").n_unique()
