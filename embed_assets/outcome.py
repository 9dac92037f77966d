"""What a stage did for a shard."""

from dataclasses import dataclass, field

from embed_assets.quality.checks import Finding


@dataclass(frozen=True)
class Outcome:
    """What a stage did for a shard. `numbers` are the figures to show; `written` is false where
    everything already stood.
    """

    shard: str
    stage: str
    written: bool
    n_rows: int
    numbers: dict[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
