"""What was measured once for a model on this device, kept in the user's cache as JSON."""

import json
import logging
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embed_assets.concurrency import usable_cores
from embed_assets.embedding.encoder import Encoder
from embed_assets.embedding.model import Model

log = logging.getLogger(__name__)

#: File of the budgets that tuning found.
TOKEN_BUDGETS = "token_budgets"


class DeviceAnswers:
    """Answers by key in one file. A file that cannot be read or written costs a measurement."""

    def __init__(self, name: str) -> None:
        import platformdirs  # Here: a bare GPU machine does without.

        self._file = Path(platformdirs.user_cache_dir("embed_assets")) / f"{name}.json"

    def get(self, key: str) -> Any:  # noqa: ANN401  whatever JSON holds
        """The answer kept under a key; None where there is none."""
        return self._all().get(key)

    def put(self, key: str, answer: object) -> None:
        """Keep an answer beside the others."""
        written = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(json.dumps(self._all() | {key: answer}, indent=1))
            written.replace(self._file)
        except OSError as error:
            # A container's home is often read-only; the next process measures again.
            log.info("an answer could not be kept in %s: %s", self._file, error)

    def _all(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            # Absent, or no longer readable: measuring again is always right.
            return {}


def device_name(device: str) -> str:
    """The chip behind a torch device: "NVIDIA H200", or a processor with its usable cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {usable_cores()} cores"


def answer_key(encoder: Encoder, model: Model) -> str:
    """What a speed depends on: the model, how it runs, the chip and torch's version."""
    # A worker process hides which class runs on its GPU; there is one for GPUs.
    backend = "cuda" if encoder.device.startswith("cuda") else type(encoder).__name__
    return " ".join(
        (
            model.content_version,
            backend,
            encoder.precision,
            device_name(encoder.device),
            f"torch {version('torch')}",
        )
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def tuned_budget(encoder: Encoder, model: Model) -> int | None:
    """The token budget that `embed-assets tune` found for this device; None where it never ran."""
    answer = DeviceAnswers(TOKEN_BUDGETS).get(answer_key(encoder, model))
    return answer if isinstance(answer, int) and answer > 0 else None
