"""Wait for a slot of a pool without keeping a core busy, and without being deaf to signals.

In Dagster 1.13 a run in one process asks for the slot again and again without a pause: the time to
the next question is min([0, ...]). Three waiting runs took two thirds of a machine with two cores
from the one that embedded. And signals are only noted there: such a run could not be stopped.
"""

import time

from dagster._core.errors import raise_execution_interrupts
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext


def mend_pool_waiting() -> None:
    """Let the runs of this process wait as Dagster means them to."""
    claims, execution = InstanceConcurrencyContext, ActiveExecution
    claims.interval_to_next_pending_claim_check = _seconds_to_next_claim  # type: ignore[assignment]
    execution.sleep_til_ready = _sleep_until_ready  # type: ignore[assignment]


def is_blocked_by_pool(event: DagsterEvent) -> bool:
    """Whether an event says that a step waits for a slot."""
    if event.event_type is not DagsterEventType.ENGINE_EVENT:
        return False
    return "pool" in event.engine_event_data.metadata


def _seconds_to_next_claim(context: InstanceConcurrencyContext) -> float:
    next_at = min(context._pending_timeouts.values(), default=0.0)
    return max(0.0, next_at - time.time())


def _sleep_until_ready(execution: ActiveExecution) -> None:
    # A signal that came before is raised here, too.
    with raise_execution_interrupts():
        time.sleep(max(0.0, execution.sleep_interval()))  # type: ignore[no-untyped-call]
