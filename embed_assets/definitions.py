"""The Dagster entry point: everything declared under `defs/`, and nothing else."""

import dagster as dg

from embed_assets.orchestration.project import component_tree


@dg.definitions
def defs() -> dg.Definitions:
    """All pipelines of this code location."""
    return component_tree().build_defs()
