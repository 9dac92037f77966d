"""The recipes of deploy/ as this machine can run them: its programs, folders and ports."""

import shlex
import sys
from pathlib import Path

from embed_assets_tests.deploy.servers import ROOT

BIN = Path(sys.executable).parent
UNITS = ("dagster-code", "dagster-daemon", "dagster-webserver")


def unit(name: str) -> dict[str, list[str]]:
    """Key -> values of a systemd unit, all sections together."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / f"deploy/systemd/{name}").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def command_of(name: str, module: str, workspace: Path, code: int, ui: int) -> list[str]:
    """What a service starts, with a module, a workspace file and ports of this machine."""
    (command,) = unit(f"{name}.service")["ExecStart"]
    here = {
        "/opt/embed_assets/.venv/bin": str(BIN),
        "/opt/embed_assets/deploy/workspace.yaml": str(workspace),
        "embed_assets.definitions": module,
        "4266": str(code),
        "3000": str(ui),
    }
    for there, ours in here.items():
        command = command.replace(there, ours)
    return shlex.split(command)
