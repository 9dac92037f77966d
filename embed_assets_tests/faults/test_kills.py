"""kill -9 at every step of the write path, and at random: nothing lost, nothing doubled."""

import signal
from pathlib import Path

import pytest

from embed_assets_tests.faults.failpoints import STEPS, Fault
from embed_assets_tests.faults.processes import DONE, Lab
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable
from embed_assets_tests.small_pipelines import write_files

FILES = {
    "a.txt": "One sentence about apples. " * 30,
    "b.txt": "Pears are another matter, and so are their seeds. " * 16,
    "c.jsonl": '{"text": "a record of plums"}\n' * 20 + "{broken\n",
}
TABLES = (
    "fingerprints",
    "shards",
    "rejected",
    "raw_corpus",
    "chunks",
    "checkpoints",
    "embeddings",
    "quality_metrics",
)
# The others are killed in `make soak`: they write by the same code.
QUICK = ("shards", "checkpoints", "embeddings")


@pytest.fixture(scope="module")
def model(tiny_bert: Path) -> Path:
    return tiny_bert


def new_lab(folder: Path, model: Path) -> Lab:
    lab = Lab(folder, model)
    write_files(lab.corpus, FILES | {f"{i}.txt": f"file {i} of {i * 7} words. " * 20 for i in "45"})
    return lab


@pytest.fixture
def lab(tmp_path: Path, model: Path) -> Lab:
    return new_lab(tmp_path, model)


def test_the_suite_knows_every_step_of_the_write_path(lab: Lab) -> None:
    assert lab.finish() == DONE
    reached = {(fault.table, fault.step) for fault in lab.steps}
    assert reached == {(table, step) for table in TABLES for step in STEPS}


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(table, marks=() if table in QUICK else pytest.mark.soak, id=table)
        for table in TABLES
    ],
)
def test_a_run_killed_at_any_step_is_finished_by_the_next(lab: Lab, table: str) -> None:
    """One corpus, one kill after the other: each run gets a little further than the last."""
    for step in STEPS:
        assert lab.finish(Fault(table, step)) in (-signal.SIGKILL, DONE)
        assert_readable(lab.settings.tables)
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)
    lab.forget()
    assert lab.finish() == DONE
    assert lab.encoded == []
