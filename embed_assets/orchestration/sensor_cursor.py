"""What the sensor remembers from one look to the next. Small, whatever the size of the corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from embed_assets.settling import Seen


class Asked(NamedTuple):
    """What a shard was to be made from when it was asked for, a short digest, and how many stages
    of it stood then, or where a run of it was last found to have failed or to be cancelled.
    """

    version: str
    n_standing: int


@dataclass(frozen=True)
class SensorCursor:
    """`asked` is by shard, of those that were asked for and are not up to date: they run, wait or
    failed.

    `quiet` is a digest of everything that a look depends on, empty if there was something to do,
    and `why` what to say of such a look. `told_at` is when Dagster was last told of a look, in
    seconds since 1970.
    """

    seen: Seen = field(default_factory=Seen)
    asked: Mapping[str, Asked] = field(default_factory=dict)
    quiet: str = ""
    why: str = ""
    told_at: float = 0.0


_JSON = TypeAdapter(SensorCursor)


def parse_cursor(text: str | None) -> SensorCursor:
    """A cursor from the text that Dagster kept; an empty one for none, or of another version."""
    try:
        return _JSON.validate_json(text or "{}")
    except ValidationError:
        return SensorCursor()


def cursor_text(cursor: SensorCursor) -> str:
    """The text that Dagster keeps."""
    return _JSON.dump_json(cursor).decode("utf-8")
