"""What Dagster costs: a backfill through the real daemon, against the same work without Dagster.

    python -m benchmarks.backfill [--shards 1000] [--shards-per-run 50] [--json FILE]

One small file per shard and a tiny random model, so that there is little else to do than to
orchestrate. The web server, the daemon and the code server are Dagster's own, with this project's
dagster.yaml; the backfill is launched over GraphQL. Then the plain pipeline goes over the same
corpus in one process, shard by shard. Wall seconds hold on an idle machine only; CPU seconds, which
count start-up and imports of every process, say something on a busy one, too.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from embed_assets.staleness import STAGES
from embed_assets_tests.daemon.deployment import Deployment, deployed
from embed_assets_tests.tiny_models import bert_model

#: What a process does that has the settings and no Dagster.
_PLAIN = """
import json, sys, time
from embed_assets_tests.small_pipelines import run
from embed_assets.settings import load_settings
began = time.perf_counter()
run(load_settings(json.loads(sys.argv[1])))
print(time.perf_counter() - began)
"""


def measured(folder: Path, n_shards: int, shards_per_run: int) -> dict[str, object]:
    """All figures."""
    model = bert_model(folder / "model")
    cpu_before = _cpu_seconds()
    with deployed(
        folder / "project", fast=False, model=str(model), shards_per_run=shards_per_run
    ) as deployment:
        deployment.write(*(f"note-{i:05}" for i in range(n_shards)))
        shards = deployment.list_corpus()
        began = time.perf_counter()
        backfill = deployment.graphql.launch_backfill(shards)
        status = deployment.graphql.wait_for_backfill(backfill, seconds=4 * n_shards + 600)
        seconds = time.perf_counter() - began
        runs = [r for r in deployment.graphql.runs() if r["tags"].get("dagster/backfill")]
        wrong = _what_is_wrong(deployment, shards, status)
    cpu, cpu_before = _cpu_seconds() - cpu_before, _cpu_seconds()
    plain = _plain_seconds(deployment)
    cpu_plain = _cpu_seconds() - cpu_before
    of_runs = sum(r["endTime"] - r["startTime"] for r in runs)
    return {
        "shards": n_shards,
        "shards_per_run": shards_per_run,
        "runs": len(runs),
        "wrong": wrong,
        "backfill_seconds": round(seconds, 1),
        "seconds_per_shard": round(seconds / n_shards, 3),
        "without_dagster_seconds": round(plain, 1),
        "orchestration_seconds_per_shard": round((seconds - plain) / n_shards, 3),
        "seconds_of_all_runs_added_up": round(of_runs, 1),
        "cpu_seconds": round(cpu, 1),
        "cpu_seconds_without_dagster": round(cpu_plain, 1),
        "event_log_bytes": sum(f.stat().st_size for f in deployment.home.rglob("*.db")),
    }


def _what_is_wrong(deployment: Deployment, shards: list[str], status: str) -> list[str]:
    """Everything that a user would not expect after a backfill."""
    rows = pl.read_delta(f"{deployment.settings.tables}/embeddings")
    wrong = [] if status == "COMPLETED_SUCCESS" else [f"the backfill ended as {status}"]
    if set(rows["shard"]) != set(shards) or not rows["chunk_id"].is_unique().all():
        wrong.append("the vectors are not those of every shard, once")
    for stage in STAGES:
        if deployment.graphql.statuses(stage)["materialized"] != sorted(shards):
            wrong.append(f"not every shard of {stage} shows as materialised")
    return wrong


def _cpu_seconds() -> float:
    """Of all processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _plain_seconds(deployment: Deployment) -> float:
    """The same corpus in one process without Dagster, imports left out."""
    tables = str(deployment.folder / "plain-tables")
    values = deployment.settings.model_dump(mode="json", exclude_unset=True) | {"tables": tables}
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN, json.dumps(values)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print; with --json, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--shards-per-run", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, kept afterwards")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="backfill-"))
    load_before = os.getloadavg()[0]
    try:
        figures = measured(folder, arguments.shards, arguments.shards_per_run)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    told: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "load_before": round(load_before, 1),
        **figures,
    }
    print(json.dumps(told, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
