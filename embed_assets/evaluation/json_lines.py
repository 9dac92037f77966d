"""Lines of a JSONL file of a benchmark: every line must be right, or its number is named."""

import json
from collections.abc import Iterator
from pathlib import Path

from embed_assets.errors import InputError
from embed_assets.sources.compressed import COMPRESSIONS, opened
from embed_assets.sources.decoding import without_surrogates
from embed_assets.sources.refusal import Refusal


def existing_file(path: Path) -> Path:
    """The file, or the same compressed: `corpus.jsonl` or `corpus.jsonl.gz`. Else InputError."""
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in COMPRESSIONS)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(f"there is no {path}, and none compressed ({', '.join(COMPRESSIONS)})")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of a plain or compressed file. InputError if it is unreadable."""
    try:
        with opened(path) as stream:
            yield from enumerate(stream, 1)
    except Refusal as refusal:
        raise InputError(f"{path} cannot be read: {refusal}") from refusal


def json_records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(line number, object) of each line that is not blank. InputError names one that is none."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        # A wrong encoding and too many digits are ValueErrors, too.
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(record, dict):
            raise InputError(
                f"{path}, line {number}: expected an object, got {type(record).__name__}"
            )
        yield number, record


def record_id(record: dict[str, object], place: str) -> str:
    """The `_id` of a record as text; some sets write numbers."""
    found = record.get("_id")
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise InputError(f"{place}: _id is {found!r}, expected a text or a whole number")
    return without_surrogates(str(found))


def text_field(record: dict[str, object], key: str, place: str) -> str:
    """A text of a record; null is an empty one. InputError where the key is missing."""
    found = record.get(key, False)
    if found is None:
        return ""
    if not isinstance(found, str):
        said = f"{key} is missing" if key not in record else f"{key} is {found!r:.40}"
        raise InputError(f"{place}: {said}, expected a text")
    return without_surrogates(found)
