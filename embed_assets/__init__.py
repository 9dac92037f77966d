"""Turn a text corpus into embeddings with Dagster.

The flow, shard by shard, each arrow one atomic replace in a Delta table:

    source files -> raw_corpus -> chunks -> embeddings -> quality_metrics -> quality_report

Declare a pipeline in YAML with the component `embed_assets.EmbeddingPipeline`, or in Python with
`embed_assets.build_pipeline(settings)`.
"""

from typing import TYPE_CHECKING

from embed_assets.settings import PipelineSettings, load_settings

if TYPE_CHECKING:
    from embed_assets.orchestration.build import build_pipeline
    from embed_assets.orchestration.component import EmbeddingPipeline

__version__ = "0.1.0"
__all__ = ["EmbeddingPipeline", "PipelineSettings", "build_pipeline", "load_settings"]


def __getattr__(name: str) -> object:
    # Dagster takes a second to import; the command line's help and the core do without it.
    if name == "EmbeddingPipeline":
        from embed_assets.orchestration.component import EmbeddingPipeline

        return EmbeddingPipeline
    if name == "build_pipeline":
        from embed_assets.orchestration.build import build_pipeline

        return build_pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # `dg` finds the component by listing the package's names.
    return [*globals(), *__all__]
