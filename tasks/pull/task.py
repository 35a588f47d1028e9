"""All there is of Prefect in the pull stage. The digest-checked file on disk is the only cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import PlannedModel, PulledModel, Stage
from tasks.pull import origins
from tasks.pull.ollama.pull import Server
from tasks.pull.resolve.lock import Pins
from tasks.pull.resolve.resolve import Places, Resolved, resolve_all
from tasks.pull.sources import PullContext
from tasks.retrying import may_help


@task(
    name="resolve",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 8],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_help,
)
def resolve(
    models: Sequence[PlannedModel], pins: Pins, places: Places, ctx: PullContext
) -> tuple[Resolved, ...]:
    """Run `resolve_all` as a Prefect task."""
    return resolve_all(models, pins, places, ctx)


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
    places: Places,
    server: Server,
    ctx: PullContext,
    timed: Callable[[Stage, str], AbstractContextManager[None]],
    through: str = "",
) -> PulledModel:
    """Run `origins.pull` as a Prefect task; `through` is the Ollama that pulls, where it is another."""
    with timed("pull", planned.model):
        return origins.pull(planned, places, replace(server, url=through) if through else server, ctx)
