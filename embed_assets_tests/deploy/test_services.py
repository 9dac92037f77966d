"""The three services of deploy/systemd and deploy/compose.yaml, started as they say."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from embed_assets_tests.deploy.recipes import BIN, UNITS, command_of, unit
from embed_assets_tests.deploy.servers import ROOT, free_port, graphql, process

VERIFY = shutil.which("systemd-analyze")
RUNS = "{runsOrError{... on Runs{results{runId status parentRunId}}}}"
LAUNCH = """mutation{launchRun(executionParams:{runConfigData:{},selector:{jobName:"JOB",
repositoryLocationName:"embed_assets",repositoryName:"__repository__"}}){
__typename ... on LaunchRunSuccess{run{runId}}}}"""

#: A pipeline, and a job that goes on until somebody ends it, or a file says that it is enough.
PROJECT = """
import time
from pathlib import Path
import dagster as dg
from embed_assets import build_pipeline, load_settings

@dg.op(pool="gpu")
def wait():
    Path("started").touch()
    while not Path("enough").exists():
        time.sleep(0.1)

@dg.job(executor_def=dg.in_process_executor)
def waiting():
    wait()

settings = load_settings({"name": "notes", "corpus": "corpus", "tables": "tables"})
defs = dg.Definitions.merge(build_pipeline(settings), dg.Definitions(jobs=[waiting]))
"""


def until(done: Callable[[], Any], what: str, seconds: int = 120) -> Any:  # noqa: ANN401
    """What `done` gives, once that is something."""
    for _ in range(seconds * 4):
        if found := done():
            return found
        time.sleep(0.25)
    raise AssertionError(f"{what} did not happen in {seconds} s")


def runs(port: int) -> list[dict[str, str]]:
    return list(graphql(port, RUNS)[1]["data"]["runsOrError"]["results"])


def launch(port: int, job: str) -> str:
    answer = graphql(port, LAUNCH.replace("JOB", job))[1]["data"]["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return str(answer["run"]["runId"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a home as dagster.yaml says, only quicker to look."""
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.txt").write_text("A sentence. " * 50)
    (tmp_path / "home").mkdir()
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    config["run_monitoring"] |= {"poll_interval_seconds": 1, "free_slots_after_run_end_seconds": 1}
    (tmp_path / "home/dagster.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.mark.soak
def test_the_services_find_each_other_and_a_run_outlives_its_code_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, ui = free_port(), free_port()
    workspace = folder / "workspace.yaml"
    text = (ROOT / "deploy/workspace.yaml").read_text()
    workspace.write_text(text.replace("4266", str(code)))
    (variables,) = unit("dagster-code.service")["EnvironmentFile"]
    assert variables == "/etc/dagster/dagster.env"
    for line in (ROOT / "deploy/systemd/dagster.env").read_text().splitlines():
        if line.startswith("DAGSTER_CODE_HOST"):
            monkeypatch.setenv(*line.split("="))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{folder}")
    before = unit("dagster-daemon.service")["ExecStartPre"]
    assert before == ["/opt/embed_assets/.venv/bin/dagster instance migrate"]
    subprocess.run([BIN / "dagster", "instance", "migrate"], check=True, capture_output=True)
    commands = {name: command_of(name, "project", workspace, code, ui) for name in UNITS}

    with ExitStack() as services:
        services.enter_context(process(commands["dagster-webserver"], ui, folder / "webserver.log"))
        code_server = ExitStack()
        with code_server:
            code_server.enter_context(process(commands["dagster-code"], code, folder / "code.log"))
            # Its own port is the web server's: it has none, and that one answers already.
            services.enter_context(process(commands["dagster-daemon"], ui, folder / "daemon.log"))
            listed = until(lambda: _try_launch(ui, "notes_shards"), "the location's loading")
            until(lambda: _status(ui, listed) == "SUCCESS", "the run of the pipeline")
            killed = launch(ui, "waiting")
            until((folder / "started").exists, "the run's start")
            until(lambda: _status(ui, killed) == "STARTED", "the run's event")
        # Ended as by KillMode=mixed: SIGTERM to the server, then SIGKILL to all below it.
        (folder / "enough").touch()
        services.enter_context(process(commands["dagster-code"], code, folder / "code-2.log"))
        until(lambda: _status(ui, killed) == "FAILURE", "noticing the dead run")
        retried = until(
            lambda: next((r["runId"] for r in runs(ui) if r["parentRunId"] == killed), None),
            "the retry",
        )
        until(lambda: _status(ui, retried) == "SUCCESS", "the retry's success")


def _try_launch(ui: int, job: str) -> str | None:
    answer = graphql(ui, LAUNCH.replace("JOB", job))[1]["data"]["launchRun"]
    return str(answer["run"]["runId"]) if "run" in answer else None


def _status(ui: int, run_id: str) -> str:
    return next(run["status"] for run in runs(ui) if run["runId"] == run_id)


@pytest.mark.skipif(VERIFY is None, reason="needs systemd-analyze: apt-get install systemd")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert VERIFY is not None
    for path in (ROOT / "deploy/systemd").glob("*.*"):
        text = path.read_text().replace("/opt/embed_assets/.venv/bin", str(BIN))
        (tmp_path / path.name).write_text(text)
    units = [str(tmp_path / f"{name}.service") for name in UNITS]
    said = subprocess.run(
        [VERIFY, "verify", "--man=no", *units, str(tmp_path / "dagster.target")],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    ours = [line for line in said.stderr.splitlines() if "dagster" in line]
    assert (said.returncode, ours) == (0, [])
    wanted = " ".join(unit("dagster.target")["Wants"]).split()
    assert wanted == [f"{name}.service" for name in UNITS]


def test_compose_starts_what_systemd_starts() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    services = compose["services"]
    for name in ("code", "daemon", "webserver"):
        (command,) = unit(f"dagster-{name}.service")["ExecStart"]
        expected = command.replace("/opt/embed_assets/.venv/bin/", "")
        expected = expected.replace("/opt/embed_assets/", "").replace("127.0.0.1", "0.0.0.0")
        assert " ".join(services[name]["command"]) == expected
        assert services[name]["healthcheck"]["test"]
        context = services[name]["build"]
        assert (ROOT / "deploy" / context["context"] / context["dockerfile"]).is_file()
    assert services["migrate"]["command"] == ["dagster", "instance", "migrate"]
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"]
    used = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if volume[0] not in ".$"
    }
    assert used <= compose["volumes"].keys()
    gpu = yaml.safe_load((ROOT / "deploy/compose.gpu.yaml").read_text())["services"]
    assert gpu.keys() <= services.keys()


def test_the_image_carries_what_it_copies() -> None:
    allowed = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for line in (ROOT / "deploy/Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists()
                assert f"!{name}" in allowed
