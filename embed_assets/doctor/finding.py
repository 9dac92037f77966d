"""What the doctor finds: one thing that is wrong, where, and what it means."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is wrong. The value is what a user reads."""

    COMMIT = "damaged commit"
    LOG_CHECKPOINT = "damaged log checkpoint"
    UNREADABLE_TABLE = "unreadable table"
    FOREIGN_TABLE = "unexpected table"
    FILE = "missing or damaged file"
    ROWS = "damaged rows"
    LOG_ENTRY = "log differs from data"
    MIXED = "mixed results"
    MIXED_FINGERPRINTS = "mixed fingerprints"
    NO_VECTOR = "chunks without vectors"
    NO_CHUNK = "vectors without chunks"
    STALE = "stale shard"
    UNKNOWN_SHARD = "shard not in the manifest"
    UNKNOWN_FINGERPRINT = "unknown fingerprint"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in one table. `where` is a shard or a path within the table."""

    kind: Kind
    table: str
    where: str
    detail: str

    def __str__(self) -> str:
        place = f"{self.table}/{self.where}" if self.where else self.table
        return f"{self.kind}: {place}: {self.detail}"
