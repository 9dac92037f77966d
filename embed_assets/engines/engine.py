"""Where encoders run: in this process, or in one process per GPU."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from embed_assets.embedding.backends import new_encoder
from embed_assets.embedding.device_choice import resolve_device
from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import open_model
from embed_assets.engines.worker_encoder import WorkerEncoder

if TYPE_CHECKING:
    from embed_assets.embedding.encoder import Encoder

    Load = Callable[[], Encoder]


@contextmanager
def devices(
    settings: EncoderSettings, precision: str, in_process: "Load"
) -> "Iterator[list[Load]]":
    """What loads an encoder, for each device that the settings may use; nothing loads before.

    On a CPU or a single GPU it is `in_process`, the warm one of this process. Of several GPUs each
    gets a process of its own with its own model; those end on leaving.
    """
    n_gpus = _n_gpus(settings.device)
    if n_gpus < 2:
        yield [in_process]
        return
    with ExitStack() as processes:

        def worker(index: int) -> WorkerEncoder:
            factory = _Factory(settings, precision)
            encoder = WorkerEncoder(factory, f"cuda:{index}", _visible_gpu(index))
            processes.callback(encoder.close)
            return encoder

        yield [cache(partial(worker, index)) for index in range(n_gpus)]


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
