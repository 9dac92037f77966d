"""Once a machine has converted a model, a run and a search start without torch."""

import os
import subprocess
import sys
from pathlib import Path

from embed_assets.embedding.backends import load_encoder
from embed_assets.settings import load_settings
from embed_assets_tests.small_pipelines import write_files

SCRIPT = """
import sys

ABSENT = ("torch", "transformers", "sentence_transformers")
sys.modules |= dict.fromkeys(ABSENT)  # Whoever imports one of them gets an ImportError.

from embed_assets.cli import main

main()
"""


def without_torch(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_and_a_search_need_no_torch(tmp_path: Path, tiny_bert: Path) -> None:
    corpus, tables = tmp_path / "corpus", tmp_path / "tables"
    write_files(corpus, {"a.txt": "Apples are red.", "b.txt": "Pears are green."})
    load_encoder(load_settings({"model": str(tiny_bert), "device": "cpu"}), "fp32")
    told = without_torch("run", "--corpus", corpus, "--tables", tables, "--model", tiny_bert)
    assert "vectors        2 of 32 dimensions" in told
    hits = without_torch("search", "Pears are green.", "--tables", tables, "-k", 1)
    assert "b.txt" in hits
