"""Which files of a model folder a load may read: their hashes, and stamps that are cheaper."""

import os
from pathlib import Path

from embed_assets.digests import file_sha256
from embed_assets.embedding.model_folder import module_folders

# What a hub download fetches and what a fingerprint covers. Pickled, ONNX and OpenVINO weights
# are never loaded, so they are neither fetched nor hashed.
LOADED_SUFFIXES = (".json", ".txt", ".safetensors", ".model", ".jinja")
UNUSED_FOLDERS = ("onnx/", "openvino/")

# Name, size and time of change of each file: cheap to look at again.
Stamps = tuple[tuple[str, int, int], ...]


def hashes_of(folder: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file that a load may read."""
    return [(name, file_sha256(folder / name)) for name in _loaded_files(folder)]


def stamps_of(folder: Path) -> Stamps:
    """Name, bytes and time of change of each file that a load may read."""
    stats = [(name, (folder / name).stat()) for name in _loaded_files(folder)]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _loaded_files(folder: Path) -> list[str]:
    """Sorted names, relative to the folder."""
    names = []
    seen = set()
    loaded = {os.path.realpath(place) for place in module_folders(folder)}
    # Links to folders that a load reads are followed, others not: one may lead to the whole disk.
    for parent, children, files in os.walk(folder, followlinks=True):
        children[:] = sorted(
            child
            for child in children
            if not Path(parent, child).is_symlink()
            or os.path.realpath(Path(parent, child)) in loaded
        )
        real = os.path.realpath(parent)
        if real in seen:
            children.clear()
            continue
        seen.add(real)
        below = Path(parent).relative_to(folder)
        names += [(below / file).as_posix() for file in files if Path(parent, file).is_file()]
    return sorted(name for name in names if _is_loaded(name))


def _is_loaded(name: str) -> bool:
    return name.endswith(LOADED_SUFFIXES) and not name.startswith((".", *UNUSED_FOLDERS))
