"""`embed-assets ui --read-only`: what others may look at and not change."""

import http.client
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from embed_assets.cli import main
from embed_assets_tests.deploy.servers import ROOT, free_port, graphql, process

CHANGES = (
    'setConcurrencyLimit(concurrencyKey:"x",limit:1)',
    "setAutoMaterializePaused(paused:true)",
    'wipeAssets(assetPartitionRanges:[{assetKey:{path:["python_docs","chunks"]}}]){__typename}',
    'startSchedule(scheduleSelector:{repositoryName:"__repository__",'
    'repositoryLocationName:"embed_assets",scheduleName:"x"}){__typename}',
)


@pytest.mark.slow
def test_read_only_shows_the_project_and_refuses_every_change(tmp_path: Path) -> None:
    port = free_port()
    arguments = [sys.executable, "-m", "embed_assets", "ui", "--read-only", "--port", str(port)]
    home = tmp_path / "home"
    home.mkdir()
    environment = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with process(arguments, port, tmp_path / "log", **environment):
        status, answer = graphql(port, "{assetNodes{assetKey{path}}}")
        assert status == 200
        keys = [node["assetKey"]["path"] for node in answer["data"]["assetNodes"]]
        assert ["python_docs", "embeddings"] in keys
        for change in CHANGES:
            status, answer = graphql(port, f"mutation{{{change}}}")
            # Dagster answers Unauthorized as a result, or as an error where it promised a Boolean.
            assert "Unauthorized" in str(answer), (status, answer)
        query = 'instance{concurrencyLimit(concurrencyKey:"x"){slotCount}autoMaterializePaused}'
        instance = graphql(port, "{" + query + "}")[1]["data"]["instance"]
        assert instance["concurrencyLimit"]["slotCount"] == 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/report_asset_materialization/python_docs/chunks")
        assert connection.getresponse().status == 401
        connection.close()


def test_the_help_says_that_it_comes_without_the_daemon() -> None:
    output = " ".join(CliRunner().invoke(main, ["ui", "--help"]).output.split())
    assert "--read-only" in output
    assert "without the daemon that starts runs" in output
