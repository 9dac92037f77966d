"""Turn `precision: auto` into a number format: the fastest whose vectors stay close to fp32."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.backends import new_encoder, openvino_runs
from embed_assets.embedding.device_answers import DeviceAnswers, device_name
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import open_model
from embed_assets.embedding.probe_texts import probe_tokens

#: Lowest cosine to the fp32 vector that any probe text may have.
MIN_COSINE = 0.9999


def resolve_precision(settings: EncoderSettings) -> str:
    """The precision that runs: the setting, or what `auto` means on this device for this model.

    The formats that the device computes in itself are tried once on probe texts against fp32; the
    answer is kept per device and model in the user's cache. int8 is never chosen by itself.
    """
    if settings.precision != "auto":
        return settings.precision
    if not _candidates(settings):
        return "fp32"
    answers = DeviceAnswers("precisions")
    key = _key(settings)
    known = answers.get(key)
    if known not in (*_candidates(settings), "fp32"):
        known = _measure(settings)
        answers.put(key, known)
    return str(known)


def pick_precision(
    reference: NDArray[np.float32], candidates: Mapping[str, Callable[[], NDArray[np.float32]]]
) -> str:
    """The first candidate whose vectors (n, d) all have cosine >= MIN_COSINE to the reference."""
    for name, vectors in candidates.items():
        if lowest_cosine(reference, vectors()) >= MIN_COSINE:
            return name
    return "fp32"


def lowest_cosine(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    """Lowest cosine between rows of two arrays (n, d). -1 where a vector is zero or not finite."""
    a, b = reference.astype(np.float64), vectors.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.einsum("ij,ij->i", a, b) / norms
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _candidates(settings: EncoderSettings) -> tuple[str, ...]:
    """Half precision formats that are faster than fp32 here, in the order they are tried."""
    if resolve_device(settings.device) == "cuda":
        # Both run at the same speed on a GPU, and bf16 cannot overflow.
        return ("bf16", "fp16")
    return ("bf16",) if openvino_runs(settings, "bf16") else ()


def _key(settings: EncoderSettings) -> str:
    """What an answer holds for: the model, the device and the library that computes."""
    device = resolve_device(settings.device)
    library = "torch" if device == "cuda" else "openvino"
    runs_on = f"{device_name(device)} {library} {version(library)}"
    return f"{open_model(settings).content_version} {runs_on}"


def _measure(settings: EncoderSettings) -> str:
    def encoded(precision: str) -> NDArray[np.float32]:
        # Not the cached loader: each model must leave the device before the next one comes.
        encoder = new_encoder(settings, precision, open_model(settings))
        tokens = probe_tokens(encoder.token_ids)
        vectors, _ = encode_all(encoder, tokens, encoder.max_tokens_per_batch)
        return vectors

    candidates = {name: partial(encoded, name) for name in _candidates(settings)}
    return pick_precision(encoded("fp32"), candidates)
