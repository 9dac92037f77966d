"""OpenVINO on a CPU: the same vectors, several batches in flight, and torch where it cannot."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embed_assets.embedding import backends, openvino_runtime
from embed_assets.embedding.backends import new_encoder, openvino_runs
from embed_assets.embedding.encoder import DeviceOutOfMemory, Encoder, encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.model_texts import ModelTexts
from embed_assets.embedding.openvino_encoder import OpenVinoEncoder
from embed_assets.embedding.probe_texts import probe_tokens
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import TorchEncoder
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets_tests.tiny_models import add_dense, bert_model


def cpu_settings(folder: Path, **values: object) -> PipelineSettings:
    return load_settings({"model": str(folder), "device": "cpu", **values})


def loaded(settings: PipelineSettings, precision: str = "fp32") -> Encoder:
    return new_encoder(settings, precision, open_model(settings))


def vectors_of(encoder: Encoder, tokens: TokenRows, budget: int = 300) -> NDArray[np.float32]:
    return encode_all(encoder, tokens, budget)[0]


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> OpenVinoEncoder:
    found = loaded(cpu_settings(tiny_bert))
    assert isinstance(found, OpenVinoEncoder)
    return found


@pytest.fixture(scope="module")
def tokens(encoder: OpenVinoEncoder) -> TokenRows:
    return probe_tokens(encoder.token_ids)


def test_a_model_with_a_dense_layer_runs_whole(tmp_path: Path) -> None:
    folder = bert_model(tmp_path / "model")
    add_dense(folder)
    encoder = loaded(cpu_settings(folder))
    tokens = probe_tokens(encoder.token_ids)
    expected = vectors_of(loaded(cpu_settings(folder, backend="torch")), tokens)
    assert isinstance(encoder, OpenVinoEncoder)
    np.testing.assert_allclose(vectors_of(encoder, tokens), expected, atol=1e-5)


def test_every_batch_comes_once_and_its_vectors_stay_what_they_were(
    encoder: OpenVinoEncoder, tokens: TokenRows
) -> None:
    batches = encoder.plan(tokens.lengths, 200)
    assert len(batches) > 10
    seen = [(batch, vectors, vectors.copy()) for batch, vectors in encoder.encode(tokens, batches)]
    rows = np.concatenate([batch.rows for batch, _, _ in seen])
    assert sorted(rows.tolist()) == list(range(len(tokens)))
    assert all(np.array_equal(vectors, at_first) for _, vectors, at_first in seen)


def test_a_consumer_that_stops_early_leaves_the_encoder_usable(
    encoder: OpenVinoEncoder, tokens: TokenRows
) -> None:
    expected = vectors_of(encoder, tokens)
    batches = encoder.plan(tokens.lengths, 100)
    for _ in range(5):
        stream = encoder.encode(tokens, batches)
        next(stream)
        stream.close()
    np.testing.assert_allclose(vectors_of(encoder, tokens), expected, atol=1e-6)


def test_two_streams_at_once_do_not_disturb_each_other(
    encoder: OpenVinoEncoder, tokens: TokenRows
) -> None:
    batches = encoder.plan(tokens.lengths, 100)
    pairs = zip(encoder.encode(tokens, batches), encoder.encode(tokens, batches), strict=True)
    for (_, a), (_, b) in pairs:
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_no_batches_are_no_work(encoder: OpenVinoEncoder, tokens: TokenRows) -> None:
    assert list(encoder.encode(tokens, [])) == []


class FailingRequest:
    """A request whose batch fails, as OpenVINO tells it."""

    def __init__(self, message: str) -> None:
        self._message = message

    def start_async(self, *_arguments: object, **_named: object) -> None: ...

    def wait(self) -> None:
        raise RuntimeError(self._message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("std::bad_alloc", DeviceOutOfMemory),
        ("Could not allocate memory\nin src/cpu", DeviceOutOfMemory),
        ("Failed to allocate 4096 bytes", DeviceOutOfMemory),
        ("src/cpu: a node failed", RuntimeError),
    ],
)
def test_a_batch_that_fails_is_told(
    encoder: OpenVinoEncoder,
    tokens: TokenRows,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    expected: type[Exception],
) -> None:
    class Failing:
        def create_infer_request(self) -> FailingRequest:
            return FailingRequest(message)

    monkeypatch.setattr(encoder, "_compiled", Failing())
    with pytest.raises(expected, match=message.split("\n")[0]):
        list(encoder.encode(tokens, encoder.plan(tokens.lengths, 200)))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("empty_cache")
def test_torch_takes_over_where_a_model_does_not_convert(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise NotImplementedError("no such operation: aten::sparkle\nmore")

    with monkeypatch.context() as patched:
        patched.setattr("openvino.convert_model", refuse)
        assert isinstance(loaded(cpu_settings(tiny_bert)), TorchEncoder)
    # Found out once: the next process takes torch at once, and says so again.
    assert isinstance(loaded(cpu_settings(tiny_bert)), TorchEncoder)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "no such operation: aten::sparkle; torch runs it, which is slower" in warnings[0]
    assert "more" not in warnings[0]
    assert warnings[1] == warnings[0]


@pytest.mark.usefixtures("empty_cache")
def test_a_conversion_for_which_there_was_no_memory_is_tried_again(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")

    with monkeypatch.context() as patched:
        patched.setattr("openvino.convert_model", full)
        assert isinstance(loaded(cpu_settings(tiny_bert)), TorchEncoder)
    assert isinstance(loaded(cpu_settings(tiny_bert)), OpenVinoEncoder)


@pytest.mark.usefixtures("empty_cache")
def test_a_conversion_that_changes_vectors_is_not_used(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import openvino

    convert = openvino.convert_model

    def convert_another(model: object, **arguments: object) -> object:
        converted = convert(model, **arguments)
        # As where tracing has taken a value for a constant.
        product = next(node for node in converted.get_ops() if node.get_type_name() == "MatMul")
        readers = product.output(0).get_target_inputs()
        scaled = openvino.opset13.multiply(product, openvino.opset13.constant(np.float32(1.5)))
        for reader in readers:
            reader.replace_source_output(scaled.output(0))
        return converted

    monkeypatch.setattr("openvino.convert_model", convert_another)
    assert isinstance(loaded(cpu_settings(tiny_bert)), TorchEncoder)
    assert "its vectors differ from torch's by" in caplog.text


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("kind", ["document", "query"])
def test_a_model_that_reads_texts_otherwise_than_its_tokenizer_stays_with_torch(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    alone = getattr(ModelTexts, kind)
    monkeypatch.setattr(ModelTexts, kind, lambda self, text: alone(self, text.lower() + "."))
    assert isinstance(loaded(cpu_settings(tiny_bert)), TorchEncoder)
    assert "its tokenizer alone makes other tokens of 'A plain sentence" in caplog.text


@pytest.mark.parametrize(
    ("values", "precision", "bf16", "expected"),
    [
        ({}, "fp32", False, True),
        ({"backend": "torch"}, "fp32", True, False),
        ({}, "bf16", False, False),
        ({}, "bf16", True, True),
        ({}, "fp16", True, False),
        ({}, "int8", False, True),
        ({"device": "cuda"}, "fp32", True, False),
    ],
)
def test_openvino_runs_what_the_cpu_computes_itself(
    tiny_bert: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, object],
    precision: str,
    bf16: bool,
    expected: bool,
) -> None:
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: bf16)
    monkeypatch.setattr(backends, "resolve_device", lambda device: device)
    assert openvino_runs(cpu_settings(tiny_bert, **values), precision) is expected


def test_bf16_stays_close_and_unit_vectors_stay_unit(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenVINO emulates bf16 where the CPU has none, which takes long and gives the same.
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: True)
    for family in ("bert-mean", "qwen"):
        settings = cpu_settings(tiny_model(family))
        exact, half = loaded(settings), loaded(settings, "bf16")
        tokens = probe_tokens(exact.token_ids)
        vectors = vectors_of(half, tokens)
        assert isinstance(half, OpenVinoEncoder)
        assert half.precision == "bf16"
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert np.einsum("ij,ij->i", vectors_of(exact, tokens), vectors).min() > 0.99
        assert not np.array_equal(vectors_of(exact, tokens), vectors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("processor : 0\nflags : fpu amx_bf16\n", True),
        ("flags : fpu avx512_vnni\n", False),
        ("Features : fp asimd bf16\n", False),
    ],
)
def test_bf16_is_read_from_the_cpus_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(openvino_runtime, "_CPU_INFO", tmp_path / "cpuinfo")
    assert openvino_runtime.has_bf16() is expected
    monkeypatch.setattr(openvino_runtime, "_CPU_INFO", tmp_path / "absent")
    assert openvino_runtime.has_bf16() is False


@pytest.mark.parametrize(
    ("limit", "expected"), [("max 100000", None), ("150000 100000", 2), ("x", None)]
)
def test_a_containers_limit_bounds_the_streams(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, expected: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(openvino_runtime, "_CGROUP_LIMIT", tmp_path / "cpu.max")
    assert openvino_runtime._quota() == expected
    assert openvino_runtime.n_streams() >= 1


def test_openvino_reports_to_nobody() -> None:
    script = """
import sys
from embed_assets.embedding.openvino_runtime import import_openvino
import_openvino()
import openvino.tools.ovc
loaded = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print(loaded, openvino.tools.ovc.telemetry_utils.tm.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[] openvino.tools.ovc.telemetry_stub", done.stderr
