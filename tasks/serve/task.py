"""All there is of Prefect in the serve stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import ModelServer, PulledModel, Stage
from tasks.serve import apply


@task(name="serve", task_run_name="serve-{pulled.planned.model}", cache_policy=NO_CACHE)
def serve(
    pulled: PulledModel,
    ctx: apply.ServeContext,
    timed: Callable[[Stage, str], AbstractContextManager[None]],
) -> ModelServer:
    """Run `apply.serve` as a Prefect task."""
    with timed("serve", pulled.planned.model):
        return apply.serve(pulled, ctx)
