"""Devices, precisions and damaged models, as a user meets them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from embed_assets.embedding import device_choice
from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder import DeviceOutOfMemory
from embed_assets.embedding.length_buckets import Batch
from embed_assets.embedding.model import open_model
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import write_json


def cpu_settings(folder: Path, **values: object) -> PipelineSettings:
    return load_settings({"model": str(folder), "device": "cpu", "backend": "torch", **values})


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    monkeypatch.setattr(device_choice, "_has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is found; use auto or cpu"):
        load_encoder(cpu_settings(tiny_bert, device="cuda"), "fp32")
    assert resolve_device("auto") == "cpu"


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [resolve_device(device) for device in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_torch_is_not_asked_where_there_is_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("it was asked"))
    monkeypatch.setattr(device_choice, "_NVIDIA_DRIVER", "libno-such-driver.so.1")
    monkeypatch.setattr(device_choice, "_AMD_DRIVERS", (tmp_path / "dxg", tmp_path / "kfd"))
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        resolve_device("cuda")
    (tmp_path / "kfd").touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resolve_device("auto") == "cuda"


def test_a_precision_without_a_backend_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="int8 runs by OpenVINO on a CPU; set device cpu"):
        load_encoder(cpu_settings(tiny_bert), "int8")


def test_more_dimensions_than_the_model_has_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="truncate_dim 33 is more than the model's 32 dimensions"):
        load_encoder(cpu_settings(tiny_bert, truncate_dim=33), "fp32")


def truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def foreign_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("<!doctype html><title>Not found</title>")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def unknown_architecture(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "no-such-model", "hidden_size": 32})


@pytest.mark.parametrize(
    "damage",
    [truncated_weights, empty_weights, foreign_weights, no_tokenizer, unknown_architecture],
)
def test_a_damaged_model_is_one_line(tiny_bert: Path, tmp_path: Path, damage: object) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    assert callable(damage)
    damage(folder)
    with pytest.raises(InputError, match="could not be loaded: ") as refusal:
        load_encoder(cpu_settings(folder), "fp32")
    assert "\n" not in str(refusal.value)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_an_allocator_without_room_asks_for_a_smaller_batch(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path, message: str
) -> None:
    with pytest.raises(DeviceOutOfMemory):
        run_failing(monkeypatch, tiny_bert, RuntimeError(message))


def test_torchs_own_out_of_memory_asks_for_a_smaller_batch(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path
) -> None:
    import torch

    with pytest.raises(DeviceOutOfMemory, match="CUDA out of memory"):
        run_failing(monkeypatch, tiny_bert, torch.OutOfMemoryError("CUDA out of memory."))


def test_other_errors_of_the_device_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch, tiny_bert: Path
) -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run_failing(monkeypatch, tiny_bert, RuntimeError("CUDA error: illegal memory access"))


def run_failing(monkeypatch: pytest.MonkeyPatch, folder: Path, error: RuntimeError) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise error

    encoder = load_encoder(cpu_settings(folder, name="failing"), "fp32")
    monkeypatch.setattr("sentence_transformers.SentenceTransformer.forward", fail)
    tokens = TokenRows(np.array([2, 5, 3], dtype=np.int32), np.array([0, 3]))
    list(encoder.encode(tokens, [Batch(np.array([0]), 3)]))


def test_a_model_loads_once_per_process_and_again_when_its_files_change(
    tiny_bert: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    settings = cpu_settings(folder)
    encoder = load_encoder(settings, "fp32")
    assert load_encoder(settings, "fp32") is encoder
    write_json(folder / "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "cls"})
    assert load_encoder(settings, "fp32") is not encoder
    open_model(settings).verify_unchanged()


def test_loading_leaves_the_terminal_alone(
    tiny_bert: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load_encoder(cpu_settings(tiny_bert, name="quiet"), "fp32")
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


@pytest.mark.parametrize(("setting", "expected"), [(None, 2048), (300, 300)])
def test_the_token_budget_is_the_setting_or_the_devices_best(
    tiny_bert: Path, setting: int | None, expected: int
) -> None:
    settings = cpu_settings(tiny_bert, max_tokens_per_batch=setting)
    encoder = load_encoder(settings, "fp32")
    assert encoder.max_tokens_per_batch == expected
    assert encoder.device == "cpu"
