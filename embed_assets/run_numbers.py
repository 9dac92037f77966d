"""What the shards of a run cost and gave together: the same for Dagster and the command line."""

from collections.abc import Iterable

from embed_assets.cost import cost_numbers
from embed_assets.outcome import Outcome

_SUMMED = (
    "chunks",
    "embedded_chunks",
    "embedded_tokens",
    "padded_tokens",
    "seconds",
    "device_seconds",
)


def embedding_numbers(
    outcomes: Iterable[Outcome], price_per_hour: float | None
) -> dict[str, float]:
    """Sums over the shards that were embedded, and what follows from them; empty without any.

    `tokens_per_second` is of one device: several at once are as many times faster.
    """
    written = [o.numbers for o in outcomes if o.stage == "embeddings" and o.written]
    if not written:
        return {}
    total = {name: sum(numbers.get(name, 0.0) for numbers in written) for name in _SUMMED}
    numbers = total | cost_numbers(
        total["device_seconds"], total["embedded_tokens"], price_per_hour
    )
    if total["embedded_tokens"]:
        numbers["tokens_per_second"] = total["embedded_tokens"] / total["seconds"]
        numbers["padding_waste"] = 1 - total["embedded_tokens"] / total["padded_tokens"]
    return numbers
