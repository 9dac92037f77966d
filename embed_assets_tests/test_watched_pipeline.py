from pathlib import Path

import pytest

from embed_assets.embedding import precision
from embed_assets.errors import InputError
from embed_assets.fingerprints import Configuration, claim
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings
from embed_assets.watched_pipeline import WatchedPipeline
from embed_assets_tests.small_pipelines import run, settings_for, write_files


@pytest.fixture
def made(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineSettings:
    """A pipeline whose tables are up to date, and from here on no device to ask."""
    write_files(tmp_path / "corpus", {"a.txt": "Some text. " * 70, "b.txt": "More text. " * 70})
    settings = settings_for(tmp_path, tiny_bert)
    run(settings)

    def ask(_settings: object) -> str:
        raise AssertionError("somebody asked a device")

    monkeypatch.setattr(precision, "resolve_precision", ask)
    monkeypatch.setattr("embed_assets.opened_pipeline.resolve_precision", ask)
    return settings


def test_what_runs_found_out_about_the_device_is_read_from_the_tables(
    made: PipelineSettings,
) -> None:
    watched = WatchedPipeline(made)
    assert watched.precision == "fp32"
    assert watched.stale_shards() == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"precision": "bf16"}, "precision fp32 -> bf16"),
        ({"max_tokens": 16}, "max_tokens default -> 16"),
        ({"normalize": True}, "normalize False -> True"),
    ],
)
def test_changed_settings_are_told_from_changed_files(
    made: PipelineSettings, changes: dict[str, object], reason: str, tmp_path: Path
) -> None:
    write_files(tmp_path / "corpus", {"b.txt": "Quite another text. " * 70})
    watched = WatchedPipeline(made.model_copy(update=changes))
    watched.plan()
    a, b = watched.stale_shards().values()
    assert (a.reason, a.by_settings) == (reason, True)
    assert not b.by_settings


def test_a_machine_that_chose_another_precision_is_believed(made: PipelineSettings) -> None:
    # Runs on a GPU chose bf16; this process would have chosen fp32.
    on_gpu = OpenedPipeline(made)
    on_gpu.precision = "bf16"
    now = on_gpu.configuration
    claim(
        on_gpu.tables,
        Configuration(now.reading_version, now.chunking_version, on_gpu.fingerprint),
        on_gpu.dimension,
        made,
        on_gpu.started_at,
    )
    watched = WatchedPipeline(made)
    assert (watched.precision, watched.fingerprint) == ("bf16", on_gpu.fingerprint)


def test_tables_of_another_dimension_are_refused(made: PipelineSettings) -> None:
    with pytest.raises(InputError, match="32 dimensions"):
        WatchedPipeline(made.model_copy(update={"truncate_dim": 8}))
