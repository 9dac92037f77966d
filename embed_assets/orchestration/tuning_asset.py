"""The asset `batch_tuning`: which token budget suits this device, measured and drawn."""

import base64

import dagster as dg
from pydantic import Field

from embed_assets.embedding.autotune import Tuning
from embed_assets.orchestration.corpus_assets import opened, or_fail
from embed_assets.orchestration.observer import Observer
from embed_assets.orchestration.resources import GpuResource, gpu_key
from embed_assets.orchestration.run_processes import note_process
from embed_assets.quality.saved_plots import save_plots
from embed_assets.settings import PipelineSettings
from embed_assets.tuning import tune_pipeline, tuning_plot


class TuningConfig(dg.Config):
    """Options of one run."""

    seconds: float = Field(default=60.0, gt=0, description="How long to measure, about.")


def tuning_asset(settings: PipelineSettings, observer: Observer) -> dg.AssetsDefinition:
    """Not part of the main job: a person runs it once on a new device."""
    gpu = gpu_key(settings.name)

    @dg.asset(
        key=dg.AssetKey([settings.name, "batch_tuning"]),
        deps=[dg.AssetKey([settings.name, "chunks"])],
        group_name=settings.name,
        kinds={"python", "huggingface"},
        description=(
            "Tokens per second over token budgets, measured on this device with chunks of this "
            "corpus. The best that is safe for memory is kept, and later runs on this device use "
            "it. Materialise it once on a new device, when nothing else runs there."
        ),
        required_resource_keys={gpu},
        pool="gpu",
    )
    def batch_tuning(
        context: dg.AssetExecutionContext, config: TuningConfig
    ) -> dg.MaterializeResult:
        note_process(context.instance, context.run)
        resource: GpuResource = getattr(context.resources, gpu)
        pipeline = opened(resource.located(settings), context, observer)
        tuning = or_fail(lambda: tune_pipeline(pipeline, config.seconds))
        plot = tuning_plot(tuning)
        folder = or_fail(
            lambda: save_plots({"token_budgets": plot}, settings.tables_root, "batch_tuning")
        )
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.md(tuning_markdown(tuning, plot)),
                "max_tokens_per_batch": dg.MetadataValue.int(tuning.best.max_tokens_per_batch),
                "tokens_per_second": dg.MetadataValue.float(tuning.best.tokens_per_second),
                "device": dg.MetadataValue.text(tuning.device),
                **({"plots": dg.MetadataValue.path(folder)} if folder else {}),
            }
        )

    return batch_tuning


def tuning_markdown(tuning: Tuning, plot: bytes) -> str:
    """The trials as a table, and the curve."""
    lines = ["| tokens per batch | tokens/s | padding | peak memory |", "| --: | --: | --: | --: |"]
    for trial in tuning.trials:
        peak = f"{trial.peak_bytes / 2**30:.2f} GiB" if trial.peak_bytes else "not told"
        lines.append(
            f"| {trial.max_tokens_per_batch:,} | {trial.tokens_per_second:,.0f} "
            f"| {trial.padding_waste:.1%} | {peak} |"
        )
    parts = ["\n".join(lines)]
    if tuning.memory:
        parts.append(f"Memory ends at about {tuning.memory.out_of_memory_at:,} tokens.")
    parts.append(f"![curve](data:image/png;base64,{base64.b64encode(plot).decode('ascii')})")
    return "\n\n".join(parts) + "\n"
