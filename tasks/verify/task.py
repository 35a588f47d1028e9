"""All there is of Prefect in the verify stage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import ModelServer, Stage, VerifiedServer
from tasks.verify import check


@task(name="verify", task_run_name="verify-{server.planned.model}", cache_policy=NO_CACHE)
def verify(
    server: ModelServer,
    ctx: check.VerifyContext,
    timed: Callable[[Stage, str], AbstractContextManager[None]],
) -> VerifiedServer:
    """Run `check.verify` as a Prefect task; a server that was kept is asked, but not measured at length."""
    with timed("verify", server.planned.model):
        return check.verify(server, replace(ctx, light=server.change.kind == "keep"))
