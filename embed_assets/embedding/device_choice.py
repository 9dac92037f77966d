"""Which device a setting means here."""

import ctypes
from pathlib import Path

from embed_assets.errors import InputError

# Where torch can use a GPU, there is a driver: NVIDIA's, or AMD's.
_NVIDIA_DRIVER = "libcuda.so.1"
_AMD_DRIVER = Path("/dev/kfd")


def resolve_device(device: str) -> str:
    """The torch device for a setting. InputError where cuda is asked for and there is none."""
    if device == "cpu":
        return "cpu"
    if _has_gpu():
        return "cuda"
    if device == "cuda":
        raise InputError("device is cuda, but torch finds no CUDA device; use auto or cpu")
    return "cpu"


def _has_gpu() -> bool:
    # torch loads for two seconds, only to say no.
    if not _has_driver():
        return False
    import torch

    return torch.cuda.is_available()


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return _AMD_DRIVER.exists()
    return True
