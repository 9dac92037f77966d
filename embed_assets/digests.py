"""Content digests: the ids and versions that make a run repeatable anywhere.

All of them are BLAKE2b (RFC 7693) over length-prefixed parts, so that ("ab", "c") and ("a", "bc")
never meet; those of whole columns are in `column_digests`. 128 bits: among 10^12 texts the chance
of any two colliding is about 1e-15.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

# Read files in pieces of 1 MiB: larger ones gain nothing once the disk cache is warm.
_FILE_PIECE_BYTES = 1 << 20


def digest(*parts: str | int) -> str:
    """Hex digest (32 characters) of the parts in order."""
    return digest_of(parts)


def digest_of(parts: Iterable[str | int]) -> str:
    """Hex digest (32 characters) of an iterable of parts in order."""
    return hashlib.blake2b(b"".join(map(_framed, parts)), digest_size=16).hexdigest()


def _framed(part: str | int) -> bytes:
    # "surrogatepass": a POSIX file name may hold bytes that are not UTF-8.
    encoded = str(part).encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(8, "little") + encoded


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hex, the form in which model hubs publish it."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_FILE_PIECE_BYTES):
            state.update(piece)
    return state.hexdigest()
