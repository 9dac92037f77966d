"""The JSON files of a model folder, which may hold anything: read with a bound, checked by type."""

import json
import math
from pathlib import Path
from typing import Any

from embed_assets.errors import InputError

# Configurations, not vocabularies: the largest of real models are about 1 MB.
_MOST_BYTES = 16 << 20


def json_object(file: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no file. InputError for anything else."""
    found = json_value(file, default={})
    if not isinstance(found, dict):
        raise InputError(f"{file} holds a JSON {type(found).__name__}, expected an object")
    return found


def json_value(file: Path, default: object) -> Any:  # noqa: ANN401  as in json
    """What a file holds; the default where there is no file. InputError if it is no JSON."""
    if not file.is_file():
        return default
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(f"{file} has more than {_MOST_BYTES:,} bytes, too many for settings")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error


def whole_number(place: Path, name: str, value: object, least: int = 0) -> int:
    """A size or a limit that a file gives. InputError with its place and name for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{place} has {name} {value!r:.80}, expected a whole number")
    if not math.isfinite(value) or value < least:
        raise InputError(f"{place} has {name} {value}, expected a number of at least {least}")
    return int(value)
