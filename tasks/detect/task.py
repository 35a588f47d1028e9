"""All there is of Prefect in the detect stage."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.contracts import HostFacts
from tasks.detect.look import Where, look


@task(name="detect", task_run_name="detect-{where.host}", cache_policy=NO_CACHE, timeout_seconds=60)
def detect(where: Where) -> HostFacts:
    """Run `look` as a Prefect task."""
    return look(where)
