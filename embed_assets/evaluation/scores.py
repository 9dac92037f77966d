"""What is scored on, and what a model reached there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embed_assets.evaluation.estimate import Estimate
from embed_assets.evaluation.retrieval import RetrievalScores


@dataclass(frozen=True)
class Task:
    """What to score on. At least one of `beir` and `sts` is given."""

    beir: Path | None
    split: str
    sts: Path | None
    one_vector_per_document: bool


@dataclass(frozen=True)
class Scores:
    """What a model reached in one precision; None for what was not asked."""

    precision: str
    max_tokens: int
    retrieval: RetrievalScores | None
    spearman: Estimate | None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Every value by name: the metrics of retrieval, then `spearman`."""
        means = dict(self.retrieval.means) if self.retrieval else {}
        return means | ({"spearman": self.spearman} if self.spearman else {})


def relative_loss(
    reference: Mapping[str, Estimate], other: Mapping[str, Estimate]
) -> dict[str, float | None]:
    """1 - other / reference of each value: 0.005 is half a percent lost, negative is gained.

    None where the reference is 0.
    """
    return {
        name: 1 - other[name].value / own.value if own.value else None
        for name, own in reference.items()
    }
