"""Failed runs: said in the log, and handed to whatever a user wants to hear them by.

Reasons are the pipeline's own. Of an unexpected exception only the type is told, because its
message may quote the corpus; the run's page has it whole.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from embed_assets.errors import SettingsError
from embed_assets.settings import PipelineSettings

# A message stays readable in a chat; the run's page lists all.
_MOST_SHARDS_NAMED = 20
_UNEXPECTED = re.compile(r"^(\w+): ")


@dataclass(frozen=True)
class RunFailure:
    """A run of a pipeline that failed. `reasons` says why, by shard, or by step where no shard is
    at fault; `will_retry` whether Dagster starts it again by itself.
    """

    pipeline: str
    run_id: str
    job: str
    reasons: Mapping[str, str]
    will_retry: bool

    def text(self) -> str:
        """A few lines to send to people. No line quotes the corpus."""
        shown = list(self.reasons.items())[:_MOST_SHARDS_NAMED]
        more = len(self.reasons) - len(shown)
        then = (
            "Dagster runs it again by itself."
            if self.will_retry
            else "To try again: Re-execute on the run's page. What is done is not done again."
        )
        return "\n".join(
            [
                f"{self.pipeline}: run {self.run_id} of {self.job} failed",
                *(f"- {name}: {reason}" for name, reason in shown),
                *([f"- and {more} more"] if more else []),
                then,
            ]
        )


#: What a user gives to hear of failures: called once for each run that is not tried again.
OnFailure = Callable[[RunFailure], None]


def failure_sensor(
    settings: PipelineSettings, jobs: Collection[str], on_failure: OnFailure | None
) -> dg.SensorDefinition:
    """Logs each failed run of this pipeline's jobs or assets, and calls `on_failure`, or what the
    setting of that name says, if it is not tried again.

    An exception of `on_failure` is shown on the run. Raises SettingsError if the setting names no
    function.
    """
    hook = on_failure or (_imported(settings.on_failure) if settings.on_failure else None)

    @dg.run_failure_sensor(
        name=f"{settings.name}_failures",
        description="Logs what failed and why, and tells whoever is to be told.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        if not _is_ours(context, settings.name, jobs):
            return dg.SkipReason("a run of something else")
        failure = _failure(context, settings.name)
        context.log.error(failure.text())
        if hook is not None and not failure.will_retry:
            hook(failure)
        return None

    return failures


def _imported(place: str) -> OnFailure:
    """The function that `package.module:function` names."""
    module, _, name = place.partition(":")
    try:
        hook = getattr(import_module(module), name)
    # An import runs the module, which can raise anything.
    except Exception as error:
        raise SettingsError(
            f"setting 'on_failure' is {place!r}: {type(error).__name__}: {error}"
        ) from error
    if not callable(hook):
        raise SettingsError(f"setting 'on_failure' is {place!r}: that is not a function")
    return cast(OnFailure, hook)


def _is_ours(context: dg.RunFailureSensorContext, name: str, jobs: Collection[str]) -> bool:
    run = context.dagster_run
    # A run from the asset graph has no job of ours, but a selection of assets.
    return run.job_name in jobs or any(key.path[0] == name for key in run.asset_selection or ())


def _failure(context: dg.RunFailureSensorContext, name: str) -> RunFailure:
    run = context.dagster_run
    reasons: dict[str, str] = {}
    for event in context.get_step_failure_events():
        reasons |= _reasons(event)
    return RunFailure(
        pipeline=name,
        run_id=run.run_id,
        job=run.job_name,
        # Without a failed step it was the worker: killed, or never started.
        reasons=reasons or {"the run": context.failure_event.message or "no reason was given"},
        will_retry=run.tags.get(WILL_RETRY_TAG) == "true",
    )


def _reasons(event: dg.DagsterEvent) -> dict[str, str]:
    step, data = event.step_key or "a step", event.step_failure_data
    told = data.user_failure_data
    if told is None:
        return {step: _cut(f"{data.error.cls_name}: " if data.error else "no reason was given")}
    shards = {
        shard: _cut(value.text)
        for shard, value in told.metadata.items()
        if isinstance(value, dg.TextMetadataValue) and value.text
    }
    return shards or {step: told.description or "no reason was given"}


def _cut(reason: str) -> str:
    unexpected = _UNEXPECTED.match(reason)
    return f"{unexpected[1]}; the run's page says more" if unexpected else reason
