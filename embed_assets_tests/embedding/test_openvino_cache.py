"""Converted models on disk: used again, never believed when damaged, never needed."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embed_assets.embedding import openvino_model
from embed_assets.embedding.backends import new_encoder
from embed_assets.embedding.encoder import Encoder, encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.openvino_encoder import OpenVinoEncoder
from embed_assets.embedding.probe_texts import probe_tokens
from embed_assets.embedding.torch_encoder import TorchEncoder
from embed_assets.errors import InputError
from embed_assets.settings import PipelineSettings, load_settings


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(tmp_path / "cache"))
    return tmp_path / "cache/openvino"


@pytest.fixture
def settings(tiny_bert: Path) -> PipelineSettings:
    return load_settings({"model": str(tiny_bert), "device": "cpu"})


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows by one with each conversion."""
    done: list[object] = []
    convert = openvino_model._converted

    def counted(reference: TorchEncoder) -> object:
        done.append(reference)
        return convert(reference)

    monkeypatch.setattr(openvino_model, "_converted", counted)
    return done


def loaded(settings: PipelineSettings) -> Encoder:
    encoder = new_encoder(settings, "fp32", open_model(settings))
    assert isinstance(encoder, OpenVinoEncoder)
    return encoder


def refuse_wrong_vectors(settings: PipelineSettings) -> None:
    in_torch = settings.model_copy(update={"backend": "torch"})
    exact = new_encoder(in_torch, "fp32", open_model(settings))
    tokens = probe_tokens(exact.token_ids, every=16)
    found, expected = (encode_all(e, tokens, 500)[0] for e in (loaded(settings), exact))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_is_converted_once(
    cache: Path, settings: PipelineSettings, conversions: list[object]
) -> None:
    loaded(settings)
    refuse_wrong_vectors(settings)
    assert len(conversions) == 1
    (entry,) = cache.iterdir()
    assert sorted(file.name for file in entry.iterdir()) == [
        "model.bin",
        "model.xml",
        "sha256.json",
    ]
    assert cache.stat().st_mode & 0o777 == 0o700


def one_bit(entry: Path) -> None:
    data = bytearray((entry / "model.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (entry / "model.bin").write_bytes(data)


def cut_short(entry: Path) -> None:
    os.truncate(entry / "model.bin", 100)


def without_digests(entry: Path) -> None:
    (entry / "sha256.json").unlink()


def unreadable_digests(entry: Path) -> None:
    (entry / "sha256.json").write_text("{")


def without_weights(entry: Path) -> None:
    (entry / "model.bin").unlink()


def test_a_damaged_model_is_converted_again(
    cache: Path, settings: PipelineSettings, conversions: list[object]
) -> None:
    loaded(settings)
    for damage in (one_bit, cut_short, without_digests, unreadable_digests, without_weights):
        conversions.clear()
        damage(next(cache.iterdir()))
        refuse_wrong_vectors(settings)
        loaded(settings)
        assert len(conversions) == 1, damage.__name__


def test_other_weights_are_another_model(
    cache: Path, settings: PipelineSettings, conversions: list[object], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    loaded(settings)
    other = Path(shutil.copytree(settings.model, tmp_path / "model"))
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: 2 * weights[name]}, other / "model.safetensors")
    refuse_wrong_vectors(settings.model_copy(update={"model": str(other)}))
    assert len(conversions) == 2
    assert len(list(cache.iterdir())) == 2


def test_a_folder_that_others_can_write_to_is_not_used(
    cache: Path, settings: PipelineSettings, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    refuse_wrong_vectors(settings)
    assert list(cache.iterdir()) == []
    assert "other users can write there" in caplog.text


def test_without_a_place_to_keep_it_the_model_runs_all_the_same(
    cache: Path, settings: PipelineSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the folder should be")
    refuse_wrong_vectors(settings)
    assert "each process makes again what could be kept in" in caplog.text


def test_a_full_disk_leaves_nothing_behind(
    cache: Path,
    settings: PipelineSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def half(_model: object, entry: Path) -> None:
        (entry / "model.xml").write_text("<net")
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(openvino_model, "_save", half)
    caplog.set_level(logging.INFO)
    refuse_wrong_vectors(settings)
    assert list(cache.iterdir()) == []
    assert "nothing could be kept in" in caplog.text


def test_a_prompt_left_out_of_the_mean_is_part_of_what_is_kept(
    cache: Path, tiny_model: Callable[[str], Path], conversions: list[object]
) -> None:
    folder = str(tiny_model("bert-without-prompt-in-mean"))
    for prompt in ("Short: ", "A prompt of quite some more words: ", "Short: "):
        refuse_wrong_vectors(
            load_settings({"model": folder, "device": "cpu", "document_prompt": prompt})
        )
    assert len(conversions) == 2


def test_weights_that_change_before_they_are_converted_are_not_kept(
    cache: Path, settings: PipelineSettings, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(settings.model, tmp_path / "model"))
    changing = settings.model_copy(update={"model": str(folder)})
    model = open_model(changing)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: 2 * weights[name]}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"changed while they were in use: model\.safetensors"):
        new_encoder(changing, "fp32", model)
    assert list(cache.iterdir()) == []
