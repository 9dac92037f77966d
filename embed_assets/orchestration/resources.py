"""Dagster resources: thin factories of the plain objects that the pipeline works with."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import dagster as dg
from pydantic import Field

from embed_assets.embedding.encoder import Encoder
from embed_assets.engines.engine import devices
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.settings import PipelineSettings


class GpuResource(dg.ConfigurableResource):
    """The device that embeds. Nothing is loaded before the first shard that has work to do.

    The model itself is kept per process: `shards_per_run` shards share one load.
    """

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; auto takes CUDA where there is one."
    )
    max_tokens_per_batch: int | None = Field(
        default=None, description="Token budget of one batch; none takes the device's default."
    )

    def located(self, settings: PipelineSettings) -> PipelineSettings:
        """A pipeline's settings with this device."""
        return settings.model_copy(
            update={"device": self.device, "max_tokens_per_batch": self.max_tokens_per_batch}
        )

    def devices(
        self, pipeline: OpenedPipeline
    ) -> AbstractContextManager[list[Callable[[], Encoder]]]:
        """What loads the pipeline's model, for each device; worker processes end on leaving."""
        return devices(pipeline.settings, pipeline.precision, pipeline.encoder)


def gpu_key(pipeline_name: str) -> str:
    """Resource key of a pipeline's device: two pipelines may use different ones."""
    return f"{pipeline_name}_gpu"
