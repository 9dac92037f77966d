"""The maintenance of the tables as a Dagster job; the work is in `tables.maintenance`."""

from collections.abc import Sequence

import dagster as dg

from embed_assets.errors import NothingYet
from embed_assets.orchestration.corpus_assets import or_nothing_yet
from embed_assets.settings import PipelineSettings
from embed_assets.tables.maintenance import Maintained, maintain


def maintenance_job(settings: PipelineSettings) -> dg.JobDefinition:
    """Merge small files and delete old ones in all tables; runs may write meanwhile."""

    @dg.op(
        name=f"{settings.name}__maintain",
        description="Merges small files and deletes files that the tables no longer use.",
    )
    def maintain_tables(context: dg.OpExecutionContext) -> None:
        maintained = or_nothing_yet(lambda: maintain(settings.tables_root, settings.retention_days))
        if isinstance(maintained, NothingYet):
            context.log.info(f"nothing to maintain yet: {maintained}")
            return
        _log(context, maintained)
        metadata = _metadata(maintained)
        failures = [f"{done.table}: {why}" for done in maintained for why in done.failures]
        if failures:
            raise dg.Failure("; ".join(failures), metadata, allow_retries=False)
        context.add_output_metadata(metadata)

    @dg.job(
        name=f"{settings.name}_maintain",
        description="Merge small files, delete old ones and what killed runs left.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        maintain_tables()

    return job


def _log(context: dg.OpExecutionContext, maintained: Sequence[Maintained]) -> None:
    for done in maintained:
        context.log.info(
            f"{done.table}: {done.n_compacted} small files merged, {done.n_expired} old files and "
            f"{done.n_leftovers} leftovers deleted, {done.n_checkpoint_rows} checkpoint rows "
            "dropped"
        )
        for why in (*done.skipped, *done.failures):
            context.log.warning(f"{done.table}: {why}")


def _metadata(maintained: Sequence[Maintained]) -> dict[str, dg.MetadataValue]:
    """Numbers of all tables together, under stable keys that Dagster plots over time."""
    numbers = {
        "small_files_merged": sum(done.n_compacted for done in maintained),
        "old_files_deleted": sum(done.n_expired for done in maintained),
        "leftovers_deleted": sum(done.n_leftovers for done in maintained),
        "bytes_freed": sum(done.n_bytes_freed or 0 for done in maintained),
        "checkpoint_rows_dropped": sum(done.n_checkpoint_rows for done in maintained),
        "skipped": sum(len(done.skipped) for done in maintained),
    }
    return {name: dg.MetadataValue.int(number) for name, number in numbers.items()}
