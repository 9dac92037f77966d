"""A device's memory: how an error says that it is full, and giving back what torch keeps of it."""

# The CPU's allocators, those of torch and of OpenVINO, and cuBLAS have no exception class.
_SIGNS = (
    "allocate memory",
    "Failed to allocate",
    "not enough memory",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def out_of_memory_reason(error: RuntimeError) -> str | None:
    """The first line of an error that says the device has no room; None for another error."""
    import torch

    is_full = isinstance(error, torch.OutOfMemoryError) or any(
        sign in str(error) for sign in _SIGNS
    )
    return str(error).strip().partition("\n")[0] if is_full else None


def release_cached_memory() -> None:
    """Give blocks that torch keeps for later back to the GPU; nothing to do on a CPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
