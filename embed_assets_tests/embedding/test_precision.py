"""`precision: auto`: the fastest number format whose vectors stay those of fp32."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding import openvino_runtime
from embed_assets.embedding import precision as precisions
from embed_assets.embedding.precision import lowest_cosine, pick_precision, resolve_precision
from embed_assets.settings import PipelineSettings, load_settings

Vectors = NDArray[np.float32]
REFERENCE: Vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)


def turned(cosine: float) -> Vectors:
    """The reference, but for one row that has this cosine to it."""
    vectors = REFERENCE.copy()
    row = vectors[3] / np.linalg.norm(vectors[3])
    other = np.eye(8)[0] - row[0] * row
    other /= np.linalg.norm(other)
    vectors[3] = 5 * (cosine * row + np.sqrt(1 - cosine**2) * other)
    return vectors


def with_one(value: float) -> Vectors:
    vectors = REFERENCE.copy()
    vectors[7, 2] = value
    return vectors


ZERO_ROW = REFERENCE * (np.arange(20) != 5)[:, None]


@pytest.mark.parametrize(
    ("bf16", "fp16", "expected"),
    [
        (REFERENCE, REFERENCE, "bf16"),
        (2 * REFERENCE, REFERENCE, "bf16"),
        (turned(0.99995), REFERENCE, "bf16"),
        (turned(0.9998), REFERENCE, "fp16"),
        (turned(0.9998), turned(0.5), "fp32"),
        (with_one(np.nan), turned(0.99999), "fp16"),
        (with_one(np.inf), with_one(np.nan), "fp32"),
        (ZERO_ROW, REFERENCE, "fp16"),
        (-REFERENCE, REFERENCE, "fp16"),
    ],
)
def test_the_first_format_close_enough_to_fp32_is_taken(
    bf16: Vectors, fp16: Vectors, expected: str
) -> None:
    candidates: dict[str, Callable[[], Vectors]] = {"bf16": lambda: bf16, "fp16": lambda: fp16}
    assert pick_precision(REFERENCE, candidates) == expected


def test_a_format_behind_the_first_good_one_is_not_even_loaded() -> None:
    def never() -> Vectors:
        raise AssertionError("loaded for nothing")

    assert pick_precision(REFERENCE, {"bf16": REFERENCE.copy, "fp16": never}) == "bf16"


def test_the_worst_text_decides() -> None:
    assert lowest_cosine(REFERENCE, turned(0.75)) == pytest.approx(0.75)
    assert lowest_cosine(REFERENCE, with_one(np.nan)) == -1


@pytest.fixture
def settings(tiny_bert: Path) -> PipelineSettings:
    return load_settings({"model": str(tiny_bert), "device": "cpu"})


def test_auto_is_fp32_on_a_cpu_without_bf16_and_a_setting_is_taken_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, settings: PipelineSettings
) -> None:
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: False)
    assert resolve_precision(settings) == "fp32"
    for name in ("fp32", "bf16", "fp16", "int8"):
        assert resolve_precision(settings.model_copy(update={"precision": name})) == name


def test_auto_is_bf16_on_a_cpu_that_has_it_if_the_vectors_stay_close(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "cache/precisions.json"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(answers.parent))
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: True)
    settings = load_settings({"model": str(tiny_bert), "device": "cpu"})
    exact = load_settings({"model": str(tiny_bert), "device": "cpu", "backend": "torch"})
    assert resolve_precision(exact) == "fp32"
    for lowest, expected in ((-1.0, "bf16"), (2.0, "fp32")):
        answers.unlink(missing_ok=True)
        monkeypatch.setattr(precisions, "MIN_COSINE", lowest)
        assert resolve_precision(settings) == expected
        (key,) = json.loads(answers.read_text())
        assert "openvino" in key


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where answers are kept, on a machine that seems to have a GPU."""
    monkeypatch.setattr(precisions, "resolve_device", lambda _device: "cuda")
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _device: "Imaginary GPU")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(tmp_path / "cache"))
    return tmp_path / "cache/precisions.json"


def test_on_a_gpu_the_answer_is_measured_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, settings: PipelineSettings, answers: Path
) -> None:
    assert resolve_precision(settings) in ("bf16", "fp16", "fp32")
    kept = json.loads(answers.read_text())
    assert [answer for key, answer in kept.items() if "Imaginary GPU" in key] == [
        resolve_precision(settings)
    ]
    monkeypatch.setattr(precisions, "_measure", lambda _settings: pytest.fail("measured again"))
    assert resolve_precision(settings) == next(iter(kept.values()))


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_an_unreadable_answer_is_measured_again(
    settings: PipelineSettings, answers: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "_measure", lambda _settings: "fp16")
    answers.parent.mkdir()
    answers.write_text(content)
    assert resolve_precision(settings) == "fp16"
    assert list(json.loads(answers.read_text()).values()) == ["fp16"]
    assert list(answers.parent.iterdir()) == [answers]


def test_a_cache_that_cannot_be_written_stops_nothing(
    settings: PipelineSettings, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "_measure", lambda _settings: "bf16")
    answers.parent.write_text("a file where the folder should be")
    assert resolve_precision(settings) == "bf16"
