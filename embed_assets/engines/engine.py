"""Where encoders run: in this process, or in one process per GPU."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embed_assets.embedding.backends import load_encoder, new_encoder
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import open_model
from embed_assets.embedding.torch_encoder import resolve_device
from embed_assets.engines.worker_encoder import WorkerEncoder

if TYPE_CHECKING:
    from embed_assets.embedding.encoder import Encoder


def open_encoders(settings: EncoderSettings, precision: str) -> "list[Encoder]":
    """One encoder for each device that the settings may use, for shards to be shared among.

    On a CPU or a single GPU it is the warm one of this process. Of several GPUs each gets a
    process of its own with its own model. `close_encoders` ends those processes.
    """
    n_gpus = _n_gpus(settings.device)
    if n_gpus < 2:
        return [load_encoder(settings, precision)]
    return [
        WorkerEncoder(_Factory(settings, precision), f"cuda:{index}", _visible_gpu(index))
        for index in range(n_gpus)
    ]


def close_encoders(encoders: "Sequence[Encoder]") -> None:
    """End the processes among these; the warm encoder of this process stays."""
    for encoder in encoders:
        if isinstance(encoder, WorkerEncoder):
            encoder.close()


@dataclass(frozen=True)
class _Factory:
    """Makes the encoder in the worker, which sees a single GPU."""

    settings: EncoderSettings
    precision: str

    def __call__(self) -> "Encoder":
        return new_encoder(self.settings, self.precision, open_model(self.settings))


def _n_gpus(device: str) -> int:
    if resolve_device(device) == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()


def _visible_gpu(index: int) -> str:
    """What CUDA_VISIBLE_DEVICES calls the GPU that is number `index` here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[index].strip() if visible else str(index)
