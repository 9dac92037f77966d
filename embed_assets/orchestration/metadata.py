"""What the Dagster UI shows beside an asset: table, code, numbers. Never text of the corpus."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dagster as dg

from embed_assets.orchestration.columns import UPSTREAM, column_lineage, column_schema
from embed_assets.outcome import Outcome
from embed_assets.run_numbers import embedding_numbers
from embed_assets.settings import PipelineSettings
from embed_assets.tables.table import ShardState

# Of the numbers of a whole run those that say something a shard's own do not.
_SHOWN_OF_A_RUN = (
    "embedded_tokens",
    "tokens_per_second",
    "device_seconds",
    "cost",
    "cost_per_million_tokens",
)


def table_metadata(pipeline: str, table: str, uri: str) -> dict[str, dg.MetadataValue]:
    """What is true of a table whether it was materialised or not."""
    return {
        "dagster/column_schema": dg.MetadataValue.table_schema(column_schema(table)),
        "dagster/uri": dg.MetadataValue.text(uri),
        "dagster/table_name": dg.MetadataValue.text(f"{pipeline}.{table}"),
        "dagster/storage_kind": dg.MetadataValue.text("deltalake"),
    }


def code_metadata(does_the_work: Callable[..., object]) -> dict[str, dg.MetadataValue]:
    """Where the code is that makes an asset. Dagster adds the defs.yaml that declares it."""
    function = inspect.unwrap(does_the_work)
    _, line = inspect.getsourcelines(function)
    with warnings.catch_warnings():
        # Dagster would tell of it once for every asset.
        warnings.simplefilter("ignore", dg.BetaWarning)
        link = dg.LocalFileCodeReference(
            file_path=str(Path(inspect.getfile(function)).resolve()),
            line_number=line,
            label=function.__name__,
        )
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[link])}


def shard_metadata(outcome: Outcome) -> dict[str, dg.MetadataValue]:
    """Numbers of one shard, under stable keys that Dagster plots over time.

    A shard that stood already has its sizes alone: a speed of 0, or the last one again, would be
    a point in the plot where nothing happened.
    """
    return {
        "dagster/partition_row_count": dg.MetadataValue.int(outcome.n_rows),
        "written": dg.MetadataValue.bool(outcome.written),
        **{name: _number(value) for name, value in outcome.numbers.items()},
    }


def run_metadata(
    settings: PipelineSettings,
    table: str,
    outcomes: Sequence[Outcome],
    states: Mapping[str, ShardState],
) -> dict[str, dg.MetadataValue]:
    """Numbers of all shards of a run together, and the size of the table behind it.

    Those of the run are named `run_...`: the last shard's event has them beside its own.
    """
    counts = {
        "dagster/row_count": sum(state.n_rows for state in states.values()),
        "dagster/size_bytes": sum(state.n_bytes for state in states.values()),
        "shards": len(outcomes),
        "shards_written": sum(outcome.written for outcome in outcomes),
        "shards_unchanged": sum(not outcome.written for outcome in outcomes),
    }
    numbers = embedding_numbers(outcomes, settings.price_per_hour)
    metadata: dict[str, dg.MetadataValue] = {
        **{name: dg.MetadataValue.int(int(value)) for name, value in counts.items()},
        **{f"run_{name}": _number(numbers[name]) for name in _SHOWN_OF_A_RUN if name in numbers},
    }
    if table in UPSTREAM:
        lineage = column_lineage(settings, table)
        metadata["dagster/column_lineage"] = dg.MetadataValue.column_lineage(lineage)
    return metadata


def _number(value: float) -> dg.MetadataValue:
    """A number as a person reads it: six digits, and all of a whole number's."""
    exact = float(value)
    return dg.MetadataValue.float(exact if exact.is_integer() else float(f"{exact:.6g}"))
