"""What a run cost: seconds of every device, and money only where a price is set."""

import pytest

from embed_assets.cost import cost_numbers
from embed_assets.outcome import Outcome
from embed_assets.run_numbers import embedding_numbers


def embedded(shard: str, **numbers: float) -> Outcome:
    return Outcome(shard, "embeddings", True, 1, numbers)


def test_two_devices_for_an_hour_cost_two_hours() -> None:
    assert cost_numbers(7200.0, 4_000_000.0, 2.5) == {"cost": 5.0, "cost_per_million_tokens": 1.25}
    assert cost_numbers(7200.0, 4_000_000.0, None) == {}
    assert cost_numbers(0.0, 0.0, 2.5) == {"cost": 0.0}


def test_shards_that_stood_already_cost_nothing() -> None:
    outcomes = [
        embedded("a", embedded_tokens=900.0, padded_tokens=1000.0, seconds=1.0, device_seconds=2.0),
        embedded("b", embedded_tokens=900.0, padded_tokens=1000.0, seconds=2.0, device_seconds=2.0),
        embedded("all reused", embedded_tokens=0.0, padded_tokens=0.0, seconds=0.0),
        Outcome("unchanged", "embeddings", False, 1, {"tokens": 9e9}),
        Outcome("a", "chunks", True, 1, {"seconds": 99.0}),
    ]
    numbers = embedding_numbers(outcomes, 3600.0)
    assert numbers["tokens_per_second"] == 600.0
    assert numbers["padding_waste"] == pytest.approx(0.1)
    assert (numbers["device_seconds"], numbers["cost"]) == (4.0, 4.0)
    assert embedding_numbers(outcomes[3:], 3600.0) == {}
