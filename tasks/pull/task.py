"""All there is of Prefect in the pull stage. The digest-checked file on disk is the only cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from tasks.contracts import PlannedModel, PulledModel, Stage
from tasks.errors import ProvisionError
from tasks.pull import download
from tasks.pull.sources import PullContext


def may_help(_task: Any, _run: TaskRun, state: State[Any]) -> bool:  # noqa: ANN401  # Prefect's own signature
    """Try again only where the error says that it may help."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ProvisionError) and error.retryable


@task(
    name="pull",
    task_run_name="pull-{planned.model}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 8],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_help,
)
def pull(
    planned: PlannedModel,
    cache: Path,
    ctx: PullContext,
    timed: Callable[[Stage, str], AbstractContextManager[None]],
) -> PulledModel:
    """Run `download.pull` as a Prefect task."""
    with timed("pull", planned.model):
        return download.pull(planned, cache, ctx)
