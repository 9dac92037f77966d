"""A pipeline declared in YAML: `defs/<name>/defs.yaml` with the settings as attributes."""

from typing import cast

import dagster as dg
from pydantic import BaseModel

from embed_assets.orchestration.build import build_pipeline
from embed_assets.settings import PipelineSettings, load_settings


class EmbeddingPipeline(dg.Component, dg.Resolvable, PipelineSettings):
    """Turn a text corpus into embeddings: raw_corpus, chunks, embeddings and quality_metrics by
    shard, in Delta tables, with checks, a sensor for changed files and a quality report.
    """

    @classmethod
    def load(
        cls, attributes: BaseModel | None, context: dg.ComponentLoadContext
    ) -> "EmbeddingPipeline":
        """From YAML. The name is the folder's unless it is set; paths start at the project root."""
        declared = super().load(attributes, context)
        values = cast(PipelineSettings, declared).model_dump(exclude_unset=True)
        folder = context.component_path.file_path
        settings = load_settings({"name": folder.name, **values}).located(context.project_root)
        return cls(**settings.model_dump(exclude_unset=True))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the pipeline's assets, checks, jobs, sensor and schedule."""
        return build_pipeline(self.settings)

    @property
    def settings(self) -> PipelineSettings:
        """The plain settings, without the component around them."""
        return load_settings(self.model_dump(exclude_unset=True))
