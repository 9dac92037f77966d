"""Which encoder runs a model in a precision on a device: one line per backend."""

import logging
from functools import lru_cache

from embed_assets.embedding import openvino_runtime
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import Model, open_model
from embed_assets.embedding.openvino_encoder import OpenVinoEncoder
from embed_assets.embedding.openvino_model import CannotConvert, converted
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_encoder import new_torch_encoder, resolve_device

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
    Raises InputError if there is no backend for the precision.
    """
    if openvino_runs(settings, precision):
        reference = new_torch_encoder(settings, "fp32", model)
        try:
            return OpenVinoEncoder(converted(reference), reference, settings, precision)
        except CannotConvert as error:
            log.warning(
                "OpenVINO does not run the model %s: %s; torch runs it, which is slower",
                settings.model,
                error,
            )
            if precision == "fp32":
                return reference
    return new_torch_encoder(settings, precision, model)


def openvino_runs(settings: EncoderSettings, precision: str) -> bool:
    """Whether OpenVINO is to run a precision here. bf16 only where the CPU has it."""
    return (
        settings.backend == "auto"
        and (precision == "fp32" or (precision == "bf16" and openvino_runtime.has_bf16()))
        and resolve_device(settings.device) == "cpu"
        and openvino_runtime.is_installed()
    )
