"""Which device a setting means here."""

import ctypes
from pathlib import Path

from embed_assets.errors import SettingsError

# Where torch can use a GPU, there is a driver: NVIDIA's, or AMD's, which in WSL is Windows' own.
_NVIDIA_DRIVER = "libcuda.so.1"
_AMD_DRIVERS = (Path("/dev/kfd"), Path("/dev/dxg"))


def resolve_device(device: str) -> str:
    """The torch device for a setting. SettingsError where cuda is asked for and there is none."""
    if device == "cpu":
        return "cpu"
    if _has_gpu():
        return "cuda"
    if device == "cuda":
        raise SettingsError("device is cuda, but no CUDA device is found; use auto or cpu")
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
        return any(driver.exists() for driver in _AMD_DRIVERS)
    return True
