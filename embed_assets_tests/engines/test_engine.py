"""Which encoders there are for the devices at hand."""

from pathlib import Path

import numpy as np
import pytest

from embed_assets.embedding.backends import load_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.engines import engine
from embed_assets.engines.worker_encoder import WorkerEncoder
from embed_assets_tests.embedding.test_packed_families import cpu_settings, random_rows


def test_a_cpu_has_one_encoder_in_this_process(tiny_bert: Path) -> None:
    settings = cpu_settings(tiny_bert)
    warm = load_encoder(settings, "fp32")
    with engine.devices(settings, "fp32", lambda: warm) as loads:
        assert [load() for load in loads] == [warm]


def test_of_several_gpus_each_has_a_process_once_it_is_needed(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_n_gpus", lambda _: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8c")
    settings = cpu_settings(tiny_bert)
    tokens = random_rows(100)
    warm = load_encoder(settings, "fp32")
    expected, _ = encode_all(warm, tokens, 512)
    with engine.devices(settings, "fp32", lambda: warm) as loads:
        encoders = [load() for load in loads]
        assert [load() for load in loads] == encoders
        assert [encoder.device for encoder in encoders] == ["cuda:0", "cuda:1"]
        for encoder, gpu in zip(encoders, ["5", "GPU-8c"], strict=True):
            assert isinstance(encoder, WorkerEncoder)
            assert encoder._gpu == gpu
            vectors, _ = encode_all(encoder, tokens, encoder.max_tokens_per_batch)
            np.testing.assert_allclose(vectors, expected, atol=2e-6)
    assert not any(encoder._worker for encoder in encoders if isinstance(encoder, WorkerEncoder))
