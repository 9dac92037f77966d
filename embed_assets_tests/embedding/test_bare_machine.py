"""embedding/ alone, on a machine with only torch, transformers, sentence-transformers, numpy."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

ABSENT = {"dagster", "deltalake", "matplotlib", "nncf", "openvino", "pathspec", "platformdirs",
          "polars", "pydantic"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

from benchmarks.plain_settings import PlainSettings
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.token_rows import TokenRows
import numpy as np

encoder = load_encoder(PlainSettings(sys.argv[1], "cpu", None), "fp32")
tokens = TokenRows(np.array([2, 5, 3, 2, 5, 6, 3], dtype=np.int32), np.array([0, 3, 7]))
vectors, stats = encode_all(encoder, tokens, encoder.max_tokens_per_batch)
print(vectors.shape, stats.n_tokens)
"""


def test_a_model_runs_without_anything_but_torch_and_its_libraries(tiny_bert: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_bert)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "(2, 32) 7", done.stderr
