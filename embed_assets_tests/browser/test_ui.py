"""The Dagster UI in a real browser, as a person meets it after the first run.

Screenshots go to the test's temporary folder, or to the folder that SCREENSHOTS names.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

pytest.importorskip("selenium")

from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.partitions import range_tags
from embed_assets.staleness import STAGES
from embed_assets_tests.browser.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from embed_assets_tests.daemon.deployment import Deployment, deployed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or CHROMEDRIVER is None,
        reason="needs chromium: apt-get install chromium chromium-driver",
    ),
]

#: Every stage of the flow, as the graph shows it.
ASSETS = ("shards", "raw_corpus", "chunks", "embeddings", "quality_metrics", "quality_report")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Iterator[Deployment]:
    """A pipeline whose runs are done, and its web server."""
    folder = tmp_path_factory.mktemp("project")
    with deployed(folder, with_daemon=False, model=str(tiny_bert)) as made:
        made.write("a", "b", "c")
        definitions = build_pipeline(made.settings)
        with dg.DagsterInstance.from_config(str(made.home)) as instance:
            for job in ("shards", "embed", "report"):
                shards = instance.get_dynamic_partitions("notes_shards")
                result = definitions.resolve_job_def(f"notes_{job}").execute_in_process(
                    instance=instance,
                    tags=range_tags(list(shards)) if job == "embed" else {},
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
                assert result.success
        yield made


@pytest.fixture(scope="module")
def ui(deployment: Deployment) -> Iterator[Browser]:
    with browser(deployment.url) as opened:
        yield opened


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_the_asset_graph_shows_the_whole_flow_materialised(ui: Browser, screenshots: Path) -> None:
    ui.visit("/asset-groups", *ASSETS, "3 partitions", "100% filled", "6 / 6 Passed")
    ui.save(screenshots / "asset-graph.png")
    # Those of the stages, and of the files that they were made from.
    assert ui.text.count("3 partitions") == len(STAGES) + 1
    assert "Failed" not in ui.text


def test_a_partitions_page_shows_its_numbers(ui: Browser, screenshots: Path) -> None:
    ui.visit(
        "/assets/notes/embeddings?view=partitions&partition=shard-000001",
        "shard-000001",
        "tokens_per_second",
    )
    ui.save(screenshots / "partition.png")
    assert "row_count" in ui.text


def test_the_report_shows_its_pictures(ui: Browser, screenshots: Path) -> None:
    ui.visit("/assets/notes/quality_report", "quality_report", "Show Markdown")
    ui.save(screenshots / "report-asset.png")
    ui.click("Show Markdown")
    pictures = ui.pictures(4)
    ui.save(screenshots / "report.png")
    assert all(width > 100 and height > 100 for width, height in pictures), pictures
