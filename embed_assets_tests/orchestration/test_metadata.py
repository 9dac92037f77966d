"""What the UI shows of an asset: every column described, lineage that exists, code that opens,
numbers under stable keys.
"""

from pathlib import Path

import dagster as dg
import pytest

from embed_assets.orchestration.columns import (
    COLUMN_NOTES,
    UPSTREAM,
    column_lineage,
    column_schema,
)
from embed_assets.orchestration.metadata import shard_metadata
from embed_assets.outcome import Outcome
from embed_assets.rows import SHARD_TABLES, SHARDS
from embed_assets.settings import PipelineSettings
from embed_assets_tests.orchestration.conftest import Project

SCHEMAS = {"shards": SHARDS, **SHARD_TABLES}
ASSETS = ("shards", "raw_corpus", "chunks", "embeddings", "quality_metrics", "quality_report")


@pytest.mark.parametrize("table", COLUMN_NOTES)
def test_every_column_says_what_it_holds(table: str) -> None:
    columns = column_schema(table).columns
    assert [column.name for column in columns] == SCHEMAS[table].names()
    assert set(COLUMN_NOTES[table]) == set(SCHEMAS[table].names())
    assert all(column.description and column.description.endswith(".") for column in columns)


@pytest.mark.parametrize("table", UPSTREAM)
def test_columns_come_from_columns_that_exist(table: str) -> None:
    lineage = column_lineage(PipelineSettings(name="notes"), table).deps_by_column
    assert set(lineage) <= set(SCHEMAS[table].names())
    assert len(lineage) >= 3
    for deps in lineage.values():
        for dep in deps:
            assert dep.asset_key == dg.AssetKey(["notes", UPSTREAM[table]])
            assert dep.column_name in SCHEMAS[UPSTREAM[table]].names()


def test_an_asset_says_what_it_is_where_it_stands_and_who_makes_it(fresh: Project) -> None:
    graph = fresh.definitions.resolve_asset_graph()
    for name in ASSETS:
        spec = graph.get(dg.AssetKey(["notes", name]))
        description = spec.description or ""
        assert fresh.settings.tables in description
        assert "**When it fails:**" in description
        assert spec.group_name == "notes"
        assert {"python"} < spec.kinds
        references = spec.metadata["dagster/code_references"]
        assert isinstance(references, dg.CodeReferencesMetadataValue)
        (link,) = references.code_references
        assert isinstance(link, dg.LocalFileCodeReference)
        line = Path(link.file_path).read_text().splitlines()[(link.line_number or 0) - 1]
        assert line.strip().startswith(f"def {link.label}(")


def test_a_path_that_looks_like_markdown_stays_a_path() -> None:
    from embed_assets.orchestration.descriptions import description

    assert "`/data/![x](y)`" in description("chunks", "/data/`![x](y)")


def latest(project: Project, asset: str, shard: str) -> dict[str, object]:
    records = project.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(["notes", asset]), asset_partitions=[shard]),
        limit=1,
    ).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return {name: value.value for name, value in materialization.metadata.items()}


def test_numbers_of_shards_stand_under_stable_keys(project: Project) -> None:
    first, *_, last = project.shards
    assert project.run("embed", first, last).success
    expected = {
        "raw_corpus": {"documents", "rejected", "seconds"},
        "chunks": {"documents", "chunks", "tokens", "seconds"},
        "embeddings": {
            *("chunks", "tokens", "tokens_per_second", "padding_waste", "reused_share"),
            *("seconds", "device_seconds"),
        },
        "quality_metrics": {
            *("documents", "rejected", "chunks", "tokens", "tokens_per_second"),
            *("padding_waste", "reused_share", "seconds", "device_seconds"),
        },
    }
    for asset, names in expected.items():
        found = latest(project, asset, first)
        assert names <= found.keys()
        # No GPU here, or none that tells; no price.
        assert not {name for name in found if name.startswith("gpu_") or "cost" in name}
        # The asset's page shows the latest event: there the numbers of the run and the table are.
        shown = latest(project, asset, last)
        assert 0 < found["dagster/partition_row_count"] < shown["dagster/row_count"]  # type: ignore[operator]
        assert "dagster/column_lineage" in shown
        assert ("run_tokens_per_second" in shown) == (asset == "embeddings")


def test_an_unchanged_shard_keeps_its_sizes_and_claims_no_speed(project: Project) -> None:
    shard = project.shards[0]
    assert project.run("embed", shard).success
    made = latest(project, "embeddings", shard)
    assert project.run("embed", shard).success
    unchanged = latest(project, "embeddings", shard)
    assert unchanged["written"] is False
    for name in ("chunks", "tokens", "dagster/partition_row_count"):
        assert unchanged[name] == made[name]
    for name in ("seconds", "tokens_per_second", "device_seconds", "padding_waste"):
        assert name in made
        assert name not in unchanged


def test_a_price_gives_money(project: Project) -> None:
    priced = project.settings.model_copy(update={"price_per_hour": 3.6})
    shard = project.shards[0]
    assert Project(priced, project.instance).run("embed", shard).success
    found = latest(project, "embeddings", shard)
    seconds, tokens = found["device_seconds"], found["embedded_tokens"]
    assert isinstance(seconds, float)
    assert isinstance(tokens, float)
    # Six digits are shown.
    assert found["cost"] == pytest.approx(seconds * 0.001, rel=1e-5)
    assert found["cost_per_million_tokens"] == pytest.approx(seconds * 1000 / tokens, rel=1e-5)
    assert found["run_cost"] == pytest.approx(found["cost"])


def test_what_a_gpu_tells_stands_on_the_shard() -> None:
    outcome = Outcome("s", "embeddings", True, 1, {"gpu_utilization": 0.9, "gpu_memory_bytes": 2e9})
    assert shard_metadata(outcome)["gpu_utilization"].value == 0.9
