"""The Dagster entry point: everything declared under `defs/`, and nothing else."""

import dagster as dg

from embed_assets.orchestration.project import component_tree


@dg.definitions
def defs() -> dg.Definitions:
    """All pipelines of this code location; runs started from the asset graph take one process."""
    executor = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(component_tree().build_defs(), executor)
