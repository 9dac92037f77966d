"""The GPU benchmark, as far as a machine without a GPU can take it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu_device import covered
from benchmarks.gpu_models import SHAPES, TINY, as_texts, made_up, save_model, text_lengths
from embed_assets_tests.tiny_models import sentence_transformer

WITHOUT = """
import sys

ABSENT = {"dagster", "deltalake", "matplotlib", "pathspec", "platformdirs",
          "polars", "pydantic"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

from benchmarks import gpu

sys.exit(gpu.main(sys.argv[1:]))
"""


@pytest.mark.soak
def test_it_runs_from_end_to_end_with_little_installed_on_a_cpu(tmp_path: Path) -> None:
    options = "--device cpu --tiny --tokens 3000 --lengths 8 mix --precision fp32 --budget 200"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *options.split(), "--results", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert [(row["shape"], row["length"]) for row in written["rows"]] == [
        ("tiny", "8"),
        ("tiny", "mix"),
    ]
    for row in written["rows"]:
        assert row["encoder"] == "PackedEncoder"
        assert row["lowest_cosine_to_fp32"] > 0.9999
        assert row["ratio"] == row["tokens_per_second"] / row["peer_tokens_per_second"]
    assert (tmp_path / "gpu.md").read_text() in done.stdout
    assert "| tiny | mix |" in done.stdout


def test_without_a_gpu_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "torch finds no CUDA device here" in capsys.readouterr().err


def test_the_peer_reads_the_same_tokens(tmp_path: Path) -> None:
    save_model(TINY["tiny"], tmp_path)
    tokens = made_up(text_lengths("mix", 400, 32), TINY["tiny"].n_words)
    tokenizer = sentence_transformer(tmp_path / "model").tokenizer
    found = tokenizer(as_texts(tokens))["input_ids"]
    assert np.concatenate(found).tolist() == tokens.flat.tolist()


def test_work_per_token_is_that_of_the_published_shapes() -> None:
    # Twice the weights of the layers alone: 10.6, 84.9 and 302 million.
    short = np.ones(1, dtype=np.int64)
    work = {name: shape.flops_per_token(short) / 1e6 for name, shape in SHAPES.items()}
    assert work["MiniLM-L6"] == pytest.approx(21.2, rel=0.01)
    assert work["BERT-base"] == pytest.approx(169.9, rel=0.01)
    assert work["BERT-large"] == pytest.approx(604.1, rel=0.01)


def test_kernels_side_by_side_count_once() -> None:
    assert covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.7)]) == 4.0
    assert covered([]) == 0.0


@pytest.mark.usefixtures("cuda")
def test_on_a_gpu_it_measures_idle_time_and_peak(tmp_path: Path) -> None:
    assert gpu.main(["--tiny", "--tokens", "20000", "--results", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["peak_tflops"] > 0
    assert all(0 <= row["idle_share"] <= 1 for row in written["rows"])
