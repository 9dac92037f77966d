"""Turn a text corpus into embeddings with Dagster.

The flow, shard by shard, each arrow one atomic replace in a Delta table:

    source files -> raw_corpus -> chunks -> embeddings -> quality_metrics -> quality_report

Declare a pipeline in YAML with the component `embed_assets.EmbeddingPipeline`, or in Python with
`embed_assets.build_pipeline(settings)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embed_assets.orchestration.build import build_pipeline, build_pipelines
    from embed_assets.orchestration.component import EmbeddingPipeline
    from embed_assets.settings import PipelineSettings, load_settings

__version__ = "0.1.0"
__all__ = [
    "EmbeddingPipeline",
    "PipelineSettings",
    "build_pipeline",
    "build_pipelines",
    "load_settings",
]

# Imported on first use: Dagster takes a second that the command line's help does without, and
# `embed_assets.embedding` runs where neither Dagster nor pydantic is installed.
_PLACES = {
    "EmbeddingPipeline": "embed_assets.orchestration.component",
    "PipelineSettings": "embed_assets.settings",
    "build_pipeline": "embed_assets.orchestration.build",
    "build_pipelines": "embed_assets.orchestration.build",
    "load_settings": "embed_assets.settings",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    # `dg` finds the component by listing the package's names.
    return [*globals(), *__all__]
