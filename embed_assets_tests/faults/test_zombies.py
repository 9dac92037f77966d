"""Runs that were paused, and wake up after another run has gone by."""

from pathlib import Path

import polars as pl
import pytest

from embed_assets_tests.faults.failpoints import Fault
from embed_assets_tests.faults.processes import DONE, REFUSED, SUPERSEDED, Lab, stop_at, wake
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable
from embed_assets_tests.small_pipelines import write_files

TABLES = (
    "fingerprints",
    "shards",
    "raw_corpus",
    "chunks",
    "checkpoints",
    "embeddings",
    "quality_metrics",
)
FILES = {"a.txt": "One sentence about apples. " * 30, "b.txt": "Pears are another matter. " * 30}


def moments(*quick: str) -> list[object]:
    """Every moment in which a run may be caught; all but the quick ones for `make soak` alone."""
    faults = [Fault(table, step) for table in TABLES for step in ("before", "data", "synced")]
    return [
        pytest.param(
            fault,
            id=f"{fault.table}-{fault.step}",
            marks=() if f"{fault.table}:{fault.step}" in quick else pytest.mark.soak,
        )
        for fault in faults
    ]


@pytest.fixture
def lab(tmp_path: Path, tiny_bert: Path) -> Lab:
    lab = Lab(tmp_path, tiny_bert)
    write_files(lab.corpus, FILES)
    return lab


@pytest.mark.parametrize(
    "moment",
    moments("fingerprints:before", "embeddings:before"),
)
def test_a_run_of_an_older_configuration_never_overwrites_a_newer_result(
    lab: Lab, moment: Fault
) -> None:
    newer = lab.settings.model_copy(update={"max_tokens": 24, "text_column": "body"})
    sleeper = stop_at(lab, moment)
    assert lab.finish(settings=newer) == DONE
    assert_as_undisturbed(newer)
    # Not REFUSED: it is told what happened, and that what stands there is right.
    assert wake(sleeper) in (SUPERSEDED, DONE)
    assert_readable(newer.tables)
    assert_as_undisturbed(newer)
    assert lab.finish(settings=newer) == DONE


@pytest.mark.parametrize("moment", moments("shards:before", "embeddings:before"))
def test_a_run_with_an_older_listing_never_overwrites_newer_files(lab: Lab, moment: Fault) -> None:
    sleeper = stop_at(lab, moment)
    write_files(lab.corpus, {"a.txt": "Apples have changed since. " * 30, "new.txt": "new " * 300})
    (lab.corpus / "b.txt").unlink()
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)
    assert wake(sleeper) in (SUPERSEDED, DONE)
    assert_readable(lab.settings.tables)
    assert_as_undisturbed(lab.settings)


@pytest.mark.parametrize("moment", moments("embeddings:data"))
def test_of_two_runs_of_one_configuration_both_end_well(lab: Lab, moment: Fault) -> None:
    sleeper = stop_at(lab, moment)
    assert lab.finish() == DONE
    assert wake(sleeper) in (DONE, SUPERSEDED)
    assert_as_undisturbed(lab.settings)


def test_going_back_to_older_settings_is_a_new_run(lab: Lab) -> None:
    newer = lab.settings.model_copy(update={"max_tokens": 24})
    for settings in (lab.settings, newer, lab.settings):
        assert lab.finish(settings=settings) == DONE
        assert_as_undisturbed(settings)


def test_two_runs_at_once_over_all_shards_leave_each_row_once(lab: Lab) -> None:
    write_files(lab.corpus, {f"{i}.txt": f"file {i} has words. " * 40 for i in range(4)})
    runs = [lab.start() for _ in range(3)]
    for process in runs:
        process.join(120)
        assert process.exitcode in (DONE, SUPERSEDED)
    assert_readable(lab.settings.tables)
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)


def test_a_run_that_was_overtaken_says_so(lab: Lab) -> None:
    sleeper = stop_at(lab, Fault("embeddings", "before"))
    assert lab.finish(settings=lab.settings.model_copy(update={"max_tokens": 24})) == DONE
    assert wake(sleeper) == SUPERSEDED
    assert "settings" in lab.refusal or "published by another run" in lab.refusal


def test_another_dimension_is_refused_before_anything_is_written(
    lab: Lab, tmp_path: Path, tiny_bert: Path
) -> None:
    assert lab.finish() == DONE
    rows = pl.read_delta(f"{lab.settings.tables}/embeddings")
    smaller = lab.settings.model_copy(update={"truncate_dim": 8})
    assert lab.finish(settings=smaller) == REFUSED
    assert "dimensions" in lab.refusal
    assert pl.read_delta(f"{lab.settings.tables}/embeddings").equals(rows)
