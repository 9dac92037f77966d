"""Which encoder runs a model in a precision on a device: one line per backend."""

from functools import lru_cache

from embed_assets.embedding.cuda_encoder import new_cuda_encoder
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import Model, open_model
from embed_assets.embedding.torch_encoder import new_torch_encoder, resolve_device


def load_encoder(settings: EncoderSettings, precision: str) -> Encoder:
    """The encoder for these settings, loaded once per process: one warm model for many shards."""
    return _loaded(settings, precision, open_model(settings))


# Keyed by the model's files too, so that a long-lived process never runs weights of yesterday.
@lru_cache(maxsize=2)
def _loaded(settings: EncoderSettings, precision: str, model: Model) -> Encoder:
    return new_encoder(settings, precision, model)


def new_encoder(settings: EncoderSettings, precision: str, model: Model) -> Encoder:
    """A freshly loaded encoder, which nothing else holds."""
    if resolve_device(settings.device).startswith("cuda"):
        return new_cuda_encoder(settings, precision, model)
    return new_torch_encoder(settings, precision, model)
