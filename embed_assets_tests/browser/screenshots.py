"""The README's picture of the UI, taken anew: `make run`, then this.

python -m embed_assets_tests.browser.screenshots docs/images
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from embed_assets.orchestration.project import prepared_home, project_home
from embed_assets_tests.browser.browser import browser
from embed_assets_tests.deploy.servers import ROOT, free_port, process


def main() -> None:
    """Look at the project's own instance, and save what it shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder: Path = parser.parse_args().folder
    port = free_port()
    home = project_home()
    assert home is not None
    program = str(Path(sys.executable).parent / "dagster-webserver")
    ui = [program, "-w", str(ROOT / "workspace.yaml"), "-p", str(port)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": path, "DAGSTER_HOME": str(prepared_home(home))}
    with (
        tempfile.TemporaryDirectory() as logs,
        process(ui, port, Path(logs) / "ui.log", **environment),
        browser(f"http://127.0.0.1:{port}", height=720) as opened,
    ):
        opened.visit("/asset-groups", "quality_report", "100% filled", "Passed")
        opened.save(folder / "asset-graph.png")


if __name__ == "__main__":
    main()
