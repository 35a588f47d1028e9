"""All there is of Prefect in the serve stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import ModelServer, PlannedModel, PulledModel, Stage, VerifiedServer
from tasks.retrying import may_help
from tasks.serve import apply

Timed = Callable[[Stage, str], AbstractContextManager[None]]


@task(
    name="image",
    task_run_name="image-{reference}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_help,
)
def image(reference: str, servers: tuple[str, ...], ctx: apply.ServeContext, timed: Timed) -> str:
    """Run `apply.fetch_image` as a Prefect task, for all servers of one image."""
    with timed("pull", f"image {reference}"):
        return [apply.fetch_image(server, ctx) for server in servers][-1]


@task(name="prepare", task_run_name="prepare-{planned.server}", cache_policy=NO_CACHE)
def prepare(planned: PlannedModel, _image: str, ctx: apply.ServeContext, timed: Timed) -> str:
    """Run `apply.prepare` as a Prefect task."""
    with timed("serve", planned.server):
        return apply.prepare(planned, ctx)


@task(name="serve", task_run_name="serve-{pulled.planned.model}", cache_policy=NO_CACHE)
def serve(pulled: PulledModel, _image: str, ctx: apply.ServeContext, timed: Timed) -> ModelServer:
    """Run `apply.serve` as a Prefect task."""
    with timed("serve", pulled.planned.model):
        return apply.serve(pulled, ctx)


@task(name="promote", task_run_name="promote-{name}", cache_policy=NO_CACHE)
def promote(
    name: str,  # noqa: ARG001  # names the task run
    verified: tuple[VerifiedServer, ...],
    ctx: apply.ServeContext,
) -> tuple[VerifiedServer, ...]:
    """Run `apply.promote` as a Prefect task."""
    return apply.promote(verified, ctx)
