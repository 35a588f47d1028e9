"""All there is of Prefect in the record stage. Reporting is best effort: it never fails a run."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.contracts import RunRecord
from tasks.record import history


@task(name="record", task_run_name="record-{made.host}", cache_policy=NO_CACHE)
def record(made: RunRecord, journal: str, markdown: str) -> RunRecord:
    """Write a run to the host's journal (where one is named), and show it as a Prefect artifact."""
    if journal:
        history.append(Path(journal), made)
    try:
        create_markdown_artifact(
            key=f"host-{made.host}", markdown=markdown, description=f"{made.outcome}: run {made.run}"
        )
    except Exception as error:  # noqa: BLE001  # the journal is the truth, Prefect is the window on it
        get_run_logger().warning("the artifact could not be written: %s", error)
    return made
