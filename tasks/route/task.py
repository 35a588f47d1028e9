"""All there is of Prefect in the route stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import Route, Stage
from tasks.route import rollout
from tasks.route.context import NAME, Order, RouteContext


@task(name="route", task_run_name="route-gateway", cache_policy=NO_CACHE)
def route(
    order: Order,
    ctx: RouteContext,
    timed: Callable[[Stage, str], AbstractContextManager[None]],
) -> Route:
    """Run `rollout.roll_out` as a Prefect task."""
    with timed("route", NAME):
        return rollout.roll_out(order, ctx)
