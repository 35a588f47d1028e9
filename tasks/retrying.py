"""When a task is worth another try: what the skins of the stages ask Prefect to do."""

from __future__ import annotations

from typing import Any

from tasks.errors import ProvisionError


def may_help(_task: Any, _run: Any, state: Any) -> bool:  # noqa: ANN401  # what Prefect calls it with
    """Try again only where the error says that it may help."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ProvisionError) and error.retryable
