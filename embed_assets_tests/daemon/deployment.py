"""A whole deployment of a small project in a folder: what its user sees and does, over GraphQL."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from deltalake import DeltaTable

from embed_assets.orchestration.project import prepared_home
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.daemon.graphql import GraphQL
from embed_assets_tests.daemon.processes import (
    ROOT,
    Program,
    code_server,
    daemon,
    free_port,
    until,
    web_server,
)
from embed_assets_tests.daemon.project_code import GO_ON, HELD, SETTINGS, WISH
from embed_assets_tests.small_pipelines import write_files

_CODE = """from pathlib import Path

from embed_assets_tests.daemon.project_code import definitions

defs = definitions(Path(__file__).parent)
"""


class Deployment:
    """The project `notes`: a corpus, its tables, DAGSTER_HOME, and Dagster's three programs."""

    def __init__(self, folder: Path, settings: Mapping[str, object], *, fast: bool = True) -> None:
        self.folder = folder
        self.corpus = folder / "corpus"
        self.corpus.mkdir(parents=True, exist_ok=True)
        places = {"corpus": str(self.corpus), "tables": str(folder / "tables"), "name": "notes"}
        values = {**places, "device": "cpu", "backend": "torch", "shard_bytes": 1024, **settings}
        (folder / SETTINGS).write_text(json.dumps(values))
        (folder / "definitions.py").write_text(_CODE)
        self.settings: PipelineSettings = load_settings(values)
        self.home = _made_home(folder / "home", fast=fast)
        self._fast = fast
        self._ports = {"code": free_port(), "web": free_port()}
        self._workspace = folder / "workspace.yaml"
        server = {"host": "127.0.0.1", "port": self._ports["code"], "location_name": "here"}
        self._workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        self._running: dict[str, Program] = {}
        self.graphql = GraphQL(self._ports["web"])

    @property
    def url(self) -> str:
        """Of the UI."""
        return f"http://127.0.0.1:{self._ports['web']}"

    def start(self, *, with_daemon: bool = True) -> None:
        """Start what does not run, and wait until the project is loaded."""
        if "code" not in self._running:
            self._running["code"] = code_server(self.folder, self.home, self._ports["code"])
            self._wait("code")
        if "web" not in self._running:
            self._running["web"] = web_server(
                self.folder, self.home, self._workspace, self._ports["web"]
            )
        if with_daemon and "daemon" not in self._running:
            self._running["daemon"] = daemon(
                self.folder, self.home, self._workspace, fast=self._fast
            )
        self._wait("web")
        until(self.graphql.is_loaded, "the project is loaded")

    def _wait(self, name: str) -> None:
        program, port = self._running[name], self._ports[name]
        until(lambda: program.listens(port), f"the {name} server listens on {port}")

    def kill(self, *names: str) -> None:
        """kill -9 for some of "code", "web" and "daemon", or for all; runs die with "code"."""
        for name in names or tuple(self._running):
            self._running.pop(name).kill()

    def logs(self) -> str:
        """The last of what each program said."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {f.name}\n{f.read_text(errors='replace')[-6000:]}" for f in files)

    def write(self, *names: str, word: str = "first") -> None:
        """Files of about 1.3 kB, each a shard of its own."""
        for name in names:
            lines = [f"File {name}, {word} edition, line {i} of its kind." for i in range(30)]
            write_files(self.corpus, {f"{name}.txt": " ".join(lines)})

    def list_corpus(self) -> list[str]:
        """Materialise `shards`, as a user's first click does. Returns the partitions."""
        run = self.graphql.launch_job("notes_shards")
        assert self.graphql.wait_for_run(run) == "SUCCESS"
        return self.graphql.partitions("notes")

    def hold_next_run_at(self, table: str, nth: int, step: str = "before") -> None:
        """Let the next run's process wait before the nth commit of a table."""
        for name in (HELD, GO_ON):
            (self.folder / name).unlink(missing_ok=True)
        wish = {"table": table, "step": step, "nth": nth}
        # Renamed, so that nobody reads half of it.
        (self.folder / f".{WISH}").write_text(json.dumps(wish))
        (self.folder / f".{WISH}").rename(self.folder / WISH)

    def held_run(self) -> int:
        """The id of the process that holds as asked."""
        file = self.folder / HELD
        return int(until(lambda: file.exists() and file.read_text(), "a run holds"))

    def go_on(self) -> None:
        """Let the run that holds go on."""
        (self.folder / GO_ON).touch()

    def files_by_shard(self, table: str) -> dict[str, list[str]]:
        """The data files that stand for each shard: others after a shard is written again."""
        actions = DeltaTable(f"{self.settings.tables}/{table}").get_add_actions(flatten=True)
        found: dict[str, list[str]] = {}
        for path, shard in zip(
            actions["path"].to_pylist(), actions["partition.shard"].to_pylist(), strict=True
        ):
            found.setdefault(shard, []).append(path)
        return {shard: sorted(paths) for shard, paths in found.items()}


@contextmanager
def deployed(
    folder: Path, *, fast: bool = True, with_daemon: bool = True, **settings: object
) -> Iterator[Deployment]:
    """A deployment that runs, and leaves no process behind; its logs are shown on failure."""
    deployment = Deployment(folder, settings, fast=fast)
    try:
        deployment.start(with_daemon=with_daemon)
        yield deployment
    except BaseException:
        print(deployment.logs())
        raise
    finally:
        deployment.kill()


def _made_home(home: Path, *, fast: bool) -> Path:
    """DAGSTER_HOME with the project's own dagster.yaml; `fast` shortens what it waits, no more."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    if fast:
        config["run_queue"]["dequeue_interval_seconds"] = 1
        config["run_queue"]["user_code_failure_retry_delay"] = 2
        config["run_monitoring"]["poll_interval_seconds"] = 1
        config["run_monitoring"]["free_slots_after_run_end_seconds"] = 2
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return prepared_home(home)
