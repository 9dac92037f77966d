"""Which encoder runs a model in a precision on a device: one line per backend."""

import logging
from functools import lru_cache

from embed_assets.embedding import openvino_runtime
from embed_assets.embedding.cuda_encoder import new_cuda_encoder
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import Model, open_model
from embed_assets.embedding.openvino_encoder import OpenVinoEncoder
from embed_assets.embedding.openvino_int8 import quantised, refuse_without_nncf
from embed_assets.embedding.openvino_model import CannotConvert, converted
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import new_torch_encoder
from embed_assets.embedding.torch_reference import TorchReference
from embed_assets.errors import InputError, SettingsError

log = logging.getLogger(__name__)


def load_encoder(
    settings: EncoderSettings, precision: str, calibration: TokenRows | None = None
) -> Encoder:
    """The encoder for these settings, loaded once per process: one warm model for many shards."""
    return _loaded(settings, precision, open_model(settings), calibration)


# Keyed by the model's files too, so that a long-lived process never runs weights of yesterday.
@lru_cache(maxsize=2)
def _loaded(
    settings: EncoderSettings, precision: str, model: Model, calibration: TokenRows | None
) -> Encoder:
    return new_encoder(settings, precision, model, calibration)


def new_encoder(
    settings: EncoderSettings,
    precision: str,
    model: Model,
    calibration: TokenRows | None = None,
) -> Encoder:
    """A freshly loaded encoder, which nothing else holds.

    `calibration` are texts such as those to come, as the model reads them: int8 is fitted to them.
    Raises InputError if nothing runs the precision here.
    """
    if precision == "int8":
        return _int8_encoder(settings, model, calibration)
    if resolve_device(settings.device) == "cuda":
        return new_cuda_encoder(settings, precision, model)
    if not openvino_runs(settings, precision):
        return new_torch_encoder(settings, precision, model)
    reference = TorchReference(settings, model)
    try:
        return OpenVinoEncoder(converted(reference), reference, settings, precision)
    except CannotConvert as error:
        log.warning(
            "OpenVINO does not run the model %s: %s; torch runs it, which is slower",
            settings.model,
            error,
        )
    if precision == "fp32":
        return reference.loaded
    return new_torch_encoder(settings, precision, model)


def _int8_encoder(
    settings: EncoderSettings, model: Model, calibration: TokenRows | None
) -> Encoder:
    refuse_int8_without_backend(settings)
    if calibration is None or not len(calibration):
        raise InputError("precision int8 needs texts to be fitted to, and there are none")
    reference = TorchReference(settings, model)
    try:
        return OpenVinoEncoder(quantised(reference, calibration), reference, settings, "int8")
    except CannotConvert as error:
        raise SettingsError(
            f"precision int8 cannot be had: OpenVINO does not run the model {settings.model}: "
            f"{error}; choose another precision"
        ) from error


def refuse_int8_without_backend(settings: EncoderSettings) -> None:
    """Raise SettingsError unless int8 can run here: OpenVINO on a CPU, with the extra `int8`."""
    if not openvino_runs(settings, "int8"):
        raise SettingsError(
            "precision int8 runs by OpenVINO on a CPU; set device cpu and backend auto, or choose "
            "another precision"
        )
    refuse_without_nncf()


def openvino_runs(settings: EncoderSettings, precision: str) -> bool:
    """Whether OpenVINO is to run a precision here. bf16 only where the CPU has it."""
    return (
        settings.backend == "auto"
        and (precision in ("fp32", "int8") or (precision == "bf16" and openvino_runtime.has_bf16()))
        and resolve_device(settings.device) == "cpu"
        and openvino_runtime.is_installed()
    )
