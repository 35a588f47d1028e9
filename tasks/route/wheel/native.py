"""The seam to the TensorZero wheel: a config file → an HTTP server of this process on a random port."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib.metadata
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar, cast

T = TypeVar("T")


class Native(Protocol):
    """A TensorZero that serves. `base_url` ends in `/openai/v1`; `close` waits for its requests."""

    base_url: str

    def close(self) -> None:
        """Stop listening, finish what runs, and free everything."""


def version() -> str:
    """Return the version of the TensorZero wheel."""
    return importlib.metadata.version("tensorzero")


def load(path: Path, database: str | None = None) -> Native:
    """Start a TensorZero with a config that lies in the current folder, and the address of a ClickHouse.

    TensorZero takes the path for a glob pattern, and a folder may hold a "[": so only the file's
    name is handed on.
    """
    from tensorzero.tensorzero import _start_http_gateway  # noqa: PLC0415  # after the port is ours

    started = _start_http_gateway(
        config_file=path.name,
        clickhouse_url=database,
        postgres_url=None,
        valkey_url=None,
        async_setup=False,
    )
    return cast("Native", started)


async def in_daemon_thread(call: Callable[[], T]) -> T:
    """Run a call that may block for long. Unlike a pool's thread, this one never delays the process's end."""
    pending: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        # InvalidStateError: nobody waits any more.
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            try:
                pending.set_result(call())
            except Exception as error:  # noqa: BLE001  # whoever waits gets it
                pending.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(pending)
