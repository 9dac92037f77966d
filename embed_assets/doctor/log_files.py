"""A Delta log on a local disk, read strictly: readers pass over much that they do not know."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from embed_assets.tables.durable import LOG, commit_path

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(\..+)?\.parquet")
_ACTIONS = frozenset(
    {"add", "remove", "metaData", "protocol", "txn", "commitInfo", "cdc", "domainMetadata"}
)


@dataclass
class LogReading:
    """What a log says, commit by commit.

    `live` are the add actions in force by path, and None where the log does not begin at commit 0
    or holds a commit that cannot be read. `named` are all paths that any commit names. A commit
    that is missing, but that a checkpoint of the log has made history, is not held against it.
    """

    damaged: dict[int, str] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    live: dict[str, Mapping[str, Any]] | None = field(default_factory=dict)
    named: set[str] = field(default_factory=set)

    @property
    def newest(self) -> int:
        """The newest commit's version, -1 where there is none."""
        return self.versions[-1] if self.versions else -1


class _Damaged(Exception):
    """A commit does not say what a commit says."""


def read_log(table: Path) -> LogReading:
    """Read every commit of a table's log."""
    reading = LogReading()
    files = (table / LOG).glob("*.json")
    reading.versions = sorted(int(m[1]) for f in files if (m := _COMMIT.fullmatch(f.name)))
    if not reading.versions:
        reading.live = None
        return reading
    live: dict[str, Mapping[str, Any]] = {}
    history = _checkpoint_version(table)
    first = min([history + 1, *reading.versions])
    is_complete = first == 0
    for version in range(first, reading.newest + 1):
        try:
            actions = _actions(commit_path(table, version))
            _apply(actions, live, reading.named, version, is_complete=is_complete)
        except _Damaged as damage:
            # What later commits take away may be what this one has brought.
            is_complete = False
            if version > history or commit_path(table, version).exists():
                reading.damaged[version] = str(damage)
    reading.live = live if is_complete else None
    return reading


def _checkpoint_version(table: Path) -> int:
    """The version up to which a checkpoint of the log stands for its commits; -1 for none."""
    versions = [int(path.name[:20]) for path in checkpoints(table)]
    return max(versions, default=-1)


def checkpoints(table: Path) -> list[Path]:
    """The log's own checkpoint files, oldest first."""
    return sorted(f for f in (table / LOG).glob("*.parquet") if _CHECKPOINT.fullmatch(f.name))


def _actions(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise _Damaged("is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _Damaged(f"cannot be read: {error}") from error
    if not text.strip():
        raise _Damaged("is empty")
    actions = []
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise _Damaged(f"is not JSON: {error}") from error
        if not isinstance(entry, dict) or len(entry) != 1 or not _ACTIONS.issuperset(entry):
            raise _Damaged("holds an action that Delta does not know")
        ((name, action),) = entry.items()
        if not isinstance(action, dict):
            raise _Damaged(f"holds {name!r} without its fields")
        actions.append((name, action))
    return actions


def _apply(
    actions: list[tuple[str, dict[str, Any]]],
    live: dict[str, Mapping[str, Any]],
    named: set[str],
    version: int,
    *,
    is_complete: bool,
) -> None:
    names = {name for name, _ in actions}
    if version == 0 and not {"protocol", "metaData"} <= names:
        raise _Damaged("does not create the table")
    for name, action in actions:
        if name not in ("add", "remove"):
            continue
        path = action.get("path")
        if not isinstance(path, str) or (name == "add" and not _is_whole_add(action)):
            raise _Damaged(f"holds {name!r} without its fields")
        path = unquote(path)
        named.add(path)
        if name == "add":
            live[path] = action
        elif live.pop(path, None) is None and is_complete:
            raise _Damaged(f"removes {path}, which no commit added")


def _is_whole_add(action: Mapping[str, Any]) -> bool:
    kinds = {"size": int, "partitionValues": dict, "stats": str, "dataChange": bool}
    if not all(isinstance(action.get(name), kind) for name, kind in kinds.items()):
        return False
    try:
        statistics = json.loads(action["stats"])
    except ValueError:
        return False
    return isinstance(statistics, dict) and isinstance(statistics.get("numRecords"), int)
