"""Dagster's own programs on loopback: code server, web server and daemon, each killed at the end.

Each has a process group of its own, and its log is shown when it does not come up.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

ROOT = Path(__file__).parents[2]
_PROGRAMS = Path(sys.executable).parent
# The daemon looks at backfills every 30 s; there is no setting for it.
_FAST_DAEMON = (
    "from dagster._daemon import controller; controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2; "
    "from dagster._daemon.cli import main; main()"
)

T = TypeVar("T")


def until(ask: Callable[[], T], what: str, seconds: float = 600) -> T:
    """The first answer that is true. Raises AssertionError after a deadline that nobody meets who
    still works.
    """
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain until {what}"
        time.sleep(0.5)
    return answer


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One of Dagster's programs, with all that it starts."""

    def __init__(self, arguments: list[str], home: Path, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            # Runs are many and their models tiny: more threads would only wait for each other.
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments,
                cwd=home,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def listens(self, port: int) -> bool:
        """Whether it is up. Raises AssertionError with its log if it ended."""
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def kill(self) -> None:
        """kill -9 for it and all below it, as a machine that goes down would do."""
        below: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


def code_server(project: Path, home: Path, port: int) -> Program:
    """Serves definitions.py; runs are processes below it."""
    program = str(_PROGRAMS / "dagster")
    where = ["-f", str(project / "definitions.py"), "-d", str(project)]
    address = ["-h", "127.0.0.1", "-p", str(port)]
    arguments = [program, "api", "grpc", *where, *address]
    return Program(arguments, home, project / "code-server.log")


def web_server(project: Path, home: Path, workspace: Path, port: int) -> Program:
    """The UI and GraphQL."""
    program = str(_PROGRAMS / "dagster-webserver")
    arguments = [program, "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    return Program(arguments, home, project / "webserver.log")


def daemon(project: Path, home: Path, workspace: Path, *, fast: bool) -> Program:
    """Starts runs, walks backfills, retries; `fast` looks at backfills every two seconds."""
    program = [sys.executable, "-c", _FAST_DAEMON] if fast else [str(_PROGRAMS / "dagster-daemon")]
    arguments = [*program, "run", "-w", str(workspace)]
    return Program(arguments, home, project / "daemon.log")
