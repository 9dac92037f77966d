"""Convert a loaded sentence-transformers model for OpenVINO: transformer, pooling and the rest.

The result is compared with torch before it is used, since tracing can freeze what depends on a
text's length, and is kept in the user's cache.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from embed_assets.digests import digest
from embed_assets.embedding.device_answers import DeviceAnswers
from embed_assets.embedding.device_memory import out_of_memory_reason
from embed_assets.embedding.file_cache import FileCache
from embed_assets.embedding.openvino_runtime import compiled, import_openvino
from embed_assets.embedding.probe_texts import HARD_TEXTS, probe_tokens
from embed_assets.embedding.torch_reference import TorchReference

if TYPE_CHECKING:
    import openvino
    from torch import Tensor

    from embed_assets.embedding.torch_encoder import TorchEncoder

log = logging.getLogger(__name__)

# Raised when the conversion changes, so that what is kept is made again.
_CONVERSION = "openvino-2"
#: The inputs of a converted model, both int64 (n, width).
INPUTS = ("input_ids", "attention_mask")
_PACKAGES = ("openvino", "tokenizers", "torch", "transformers", "sentence-transformers")
# Between torch and OpenVINO in fp32. Rounding alone is 1e-6 of a vector's length.
_MAX_DIFFERENCE = 1e-4
# Of the 64 probe texts, every ninth: 8 texts of 40 to 2,560 characters.
_PROBED_EVERY = 9

_FILES = ("model.xml", "model.bin")
_CACHE = FileCache("openvino", *_FILES)
# Where a converted model says what stands in a batch where a shorter text has no token.
_PAD_ID = ["embed_assets", "pad_id"]
# File of the models that cannot be converted: finding out takes as long as converting.
_REFUSALS = "not_convertible"


class CannotConvert(Exception):
    """OpenVINO cannot run this model, or gives other vectors than torch."""


class _OutOfMemory(CannotConvert):
    """The machine had no room for the conversion; it may have at another time."""


def model_key(reference: TorchReference, *parts: str) -> str:
    """What a converted model is kept under: all that it is made from, and `parts`."""
    versions = [f"{package} {version(package)}" for package in _PACKAGES]
    content = reference.model.content_version
    return digest(_CONVERSION, content, reference.prompt_left_out, *versions, *parts)


def converted(reference: TorchReference) -> "openvino.Model":
    """The model in fp32: input_ids and attention_mask (n, width) int64 in, one vector (n, d) per
    text out, before it is cut or normalised by a setting. torch is needed for the first time only.

    Raises CannotConvert, also for a model that could not be converted in an earlier process.
    """
    key = model_key(reference)
    known = read_kept(key)
    if known is not None:
        return known
    refusals = DeviceAnswers(_REFUSALS)
    reason = refusals.get(key)
    if isinstance(reason, str):
        raise CannotConvert(reason)
    # Not remembered, for it depends on the prompts, too.
    _refuse_other_texts(reference)
    try:
        model = _converted(reference.loaded)
        _refuse_other_vectors(model, reference.loaded)
    except _OutOfMemory:
        raise
    except CannotConvert as error:
        refusals.put(key, str(error))
        raise
    model.set_rt_info(str(reference.loaded.pad_id), _PAD_ID)
    # What is kept under the digest of these files must have been made from these files.
    reference.model.verify_unchanged()
    keep(key, model)
    return model


def pad_id(model: "openvino.Model") -> int:
    """What a converted model takes where a text has no token.

    Always on the right. Under a causal mask a pad on the left sees nothing at all, and what
    OpenVINO's softmax makes of that, NaN, spreads to the text; pads on the right see the text.
    """
    return int(model.get_rt_info(_PAD_ID).astype(str))


def read_kept(key: str) -> "openvino.Model | None":
    """The model kept under a key, if any."""
    entry = _CACHE.kept(key)
    if entry is None:
        return None
    try:
        return import_openvino().Core().read_model(entry / _FILES[0])
    except RuntimeError as error:
        # Another process has just replaced it, or it is of a version that this one cannot read.
        log.info("the converted model in %s is made again: %s", entry, error)
        return None


def keep(key: str, model: "openvino.Model") -> None:
    """Keep a model under a key, as it is."""
    _CACHE.keep(key, partial(_save, model))


def _save(model: "openvino.Model", entry: Path) -> None:
    # OpenVINO would halve the weights' precision.
    import_openvino().save_model(model, entry / _FILES[0], compress_to_fp16=False)


def _refuse_other_texts(reference: TorchReference) -> None:
    """From here on texts are read by the tokenizer alone: it must be what the model goes by."""
    texts, torch = reference.texts, reference.loaded
    for text in HARD_TEXTS:
        for own, alone in (
            (torch.token_ids(text), texts.document(text)),
            (torch.query_token_ids(text), texts.query(text)),
        ):
            if own != alone:
                raise CannotConvert(f"its tokenizer alone makes other tokens of {text!r:.40}")


def _converted(reference: "TorchEncoder") -> "openvino.Model":
    import torch

    class Whole(torch.nn.Module):
        """Token ids in, vectors out: tracing knows no dictionaries of features."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = reference.transformer

        def forward(self, input_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
            features = reference.features(input_ids, attention_mask)
            vectors: Tensor = self.transformer(features)["sentence_embedding"]
            return vectors

    tokens = probe_tokens(reference.token_ids, every=_PROBED_EVERY)
    # Two rows of two lengths, so that padding is seen.
    arrays = tokens.padded(np.array([0, 2]), reference.pad_id)
    example = tuple(torch.from_numpy(array) for array in arrays)
    openvino = import_openvino()
    shape = openvino.PartialShape([-1, -1])
    try:
        with _quietly(), torch.no_grad():
            return openvino.convert_model(
                Whole().eval(),
                example_input=example,
                input=[
                    (name, shape, openvino.Type.i64) for name in ("input_ids", "attention_mask")
                ],
            )
    # Tracing runs the model's own code, which can raise anything.
    except Exception as error:
        raise _refusal(error) from error


def _refusal(error: Exception) -> CannotConvert:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    is_full = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and out_of_memory_reason(error) is not None
    )
    return _OutOfMemory(reason) if is_full else CannotConvert(reason)


def _refuse_other_vectors(model: "openvino.Model", reference: "TorchEncoder") -> None:
    import torch

    tokens = probe_tokens(reference.token_ids, every=_PROBED_EVERY)
    request = compiled(model, "fp32").create_infer_request()
    # All together, then the shortest alone: other widths and counts than the trace has seen.
    for rows in (np.arange(len(tokens)), np.array([0])):
        try:
            request.infer(tokens.padded(rows, reference.pad_id))
        except RuntimeError as error:
            raise _refusal(error) from error
        found = cast(NDArray[np.float32], request.get_output_tensor(0).data)
        arrays = tokens.padded(rows, reference.pad_id, left=reference.pads_left)
        with torch.inference_mode():
            features = reference.features(*map(torch.from_numpy, arrays))
            expected = reference.transformer(features)["sentence_embedding"].numpy()
        if found.shape != expected.shape:
            raise CannotConvert(f"vectors of shape {found.shape}, torch gives {expected.shape}")
        scale = float(np.linalg.norm(expected, axis=1).max()) or 1.0
        difference = float(np.abs(found - expected).max()) / scale
        # The negation holds for NaN, too.
        if not difference <= _MAX_DIFFERENCE:
            raise CannotConvert(f"its vectors differ from torch's by {difference:.1e}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the tracer's warnings off the terminal: the comparison with torch tells what matters."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    # It warns of its own old names, which the tracer looks at with all others.
    modules = logging.getLogger("sentence_transformers")
    modules_level = modules.level
    modules.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        modules.setLevel(modules_level)
