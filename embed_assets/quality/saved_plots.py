"""Pictures beside the tables, for those who don't look at them in the Dagster UI."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from embed_assets.errors import InputError


def save_plots(plots: Mapping[str, bytes], tables_root: str, folder_name: str) -> str | None:
    """Write PNGs by name to a folder beside the tables; None where that is not local.

    Each is replaced whole, so that a viewer never loads half a picture. Raises InputError where
    the folder cannot be written.
    """
    if "://" in tables_root:
        return None
    folder = Path(tables_root) / folder_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in plots.items():
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
                file.write(png)
            Path(file.name).chmod(0o644)
            Path(file.name).replace(folder / f"{name}.png")
    except OSError as error:
        raise InputError(f"the pictures cannot be written to {folder}: {error.strerror}") from error
    return str(folder)
