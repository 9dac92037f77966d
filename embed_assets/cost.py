"""What vectors cost: the time they had a device for, and money where a price is set. Pure."""

_SECONDS_PER_HOUR = 3600.0
_MILLION = 1_000_000


def cost_numbers(
    device_seconds: float, tokens: float, price_per_hour: float | None
) -> dict[str, float]:
    """`cost` and `cost_per_million_tokens`, in the currency of the price; empty without a price.

    cost = device_seconds / 3600 * price_per_hour. `device_seconds` are wall seconds for which
    shards had a device to themselves, summed over shards, so that two devices for one second count
    two; loading the model is not in them. `tokens` are those that were embedded in them: reused
    vectors cost nothing. Without any the second number is left out.
    """
    if price_per_hour is None:
        return {}
    cost = device_seconds / _SECONDS_PER_HOUR * price_per_hour
    numbers = {"cost": cost}
    if tokens > 0:
        numbers["cost_per_million_tokens"] = cost / tokens * _MILLION
    return numbers
