"""Damage to files as disks and crashes do it, seeded, and what a reader sees of it."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

WAYS = ("flip", "flip", "flip", "truncate", "delete", "empty")


@dataclass(frozen=True)
class Damage:
    """One way to damage one file of the tables."""

    path: Path
    way: str
    at: int
    bit: int = 0

    def __str__(self) -> str:
        return f"{self.way} {self.path} at byte {self.at} bit {self.bit}"

    def apply(self, root: Path) -> bytes:
        """Do it. Returns what the file held."""
        file = root / self.path
        data = file.read_bytes()
        if self.way == "delete":
            file.unlink()
        elif self.way == "empty":
            file.write_bytes(b"")
        elif self.way == "truncate":
            file.write_bytes(data[: self.at])
        else:
            flipped = bytes([data[self.at] ^ 1 << self.bit])
            file.write_bytes(data[: self.at] + flipped + data[self.at + 1 :])
        return data


def table_files(root: Path) -> list[Path]:
    """Every file of every table, relative to the root, sorted."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in files if not path.parts[0].startswith("."))


def flips(root: Path, per_file: int, seed: int) -> Iterator[Damage]:
    """Some flipped bits in every file."""
    for path in table_files(root):
        rng = random.Random(f"{seed}{path.parent}{path.stem[:10]}")
        size = (root / path).stat().st_size
        for _ in range(per_file if size else 0):
            yield Damage(path, "flip", rng.randrange(size), rng.randrange(8))


def view(root: Path) -> Mapping[str, object]:
    """What a reader sees: all rows of every table, in any order; or that it cannot read."""
    seen: dict[str, object] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith("."):
            continue
        try:
            frame = pl.read_delta(str(folder))
            seen[folder.name] = sorted(map(str, frame.select(sorted(frame.columns)).rows()))
        except (Exception, pl.exceptions.PanicException) as error:
            seen[folder.name] = type(error).__name__
    return seen
