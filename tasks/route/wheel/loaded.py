"""A config that TensorZero took, and the server that it listens with."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import h11

from tasks.effects.forwarding.upstream import Upstream
from tasks.effects.forwarding.wire import WireError
from tasks.errors import RouteError
from tasks.route.validate import message_of
from tasks.route.wheel import native
from tasks.route.wheel.native import Native, in_daemon_thread

LOAD_DEADLINE_S = 30.0
SMOKE_TIMEOUT_S = 5.0
CLOSE_DEADLINE_S = 3.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A TensorZero that serves one config. `config_hash` is of the bytes that it loaded."""

    config_hash: str
    loaded_at: str
    native: Native
    upstream: Upstream

    async def close(self) -> None:
        """Let TensorZero end, and return after a bound even if it does not."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(in_daemon_thread(self.native.close), CLOSE_DEADLINE_S)
        self.upstream.close()


async def load(config: Path, start: Callable[[Path], Native] = native.load) -> Loaded:
    """Start a TensorZero with a config that lies in the current folder; return once it answers.

    Raises:
        RouteError: it cannot be read, TensorZero rejects it, or does not come up.
    """
    before = _read(config)
    try:
        gateway = await asyncio.wait_for(in_daemon_thread(lambda: start(config)), LOAD_DEADLINE_S)
    except TimeoutError:
        raise _refused(f"TensorZero did not load it within {LOAD_DEADLINE_S:g} s", config) from None
    except Exception as error:
        said = message_of(str(error)) or repr(error)
        raise _refused(f"TensorZero rejects the config: {said}", config) from error
    port = urlsplit(gateway.base_url).port or 0
    upstream = Upstream(port, "the gateway's TensorZero", "the gateway")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    loaded = Loaded(hashlib.sha256(before).hexdigest(), now, gateway, upstream)
    try:
        # TensorZero reads the file itself: what it read is known only where nobody wrote meanwhile.
        if _read(config) != before:
            raise _refused("the config changed while TensorZero loaded it", config)
        await _smoke(loaded, config)
    except RouteError:
        await loaded.close()
        raise
    return loaded


def _read(config: Path) -> bytes:
    try:
        return config.read_bytes()
    except OSError as error:
        raise _refused(f"{config} cannot be read ({error.strerror or error})", config) from error


async def _smoke(loaded: Loaded, config: Path) -> None:
    """Ask TensorZero anything; any HTTP answer says that it is up."""
    path = urlsplit(loaded.native.base_url).path
    host = [(b"host", loaded.upstream.host)]
    request = h11.Request(method="GET", target=f"{path}/embeddings", headers=host)
    try:
        async with asyncio.timeout(SMOKE_TIMEOUT_S):
            wire = await loaded.upstream.new_wire()
            try:
                await wire.send(request)
                await wire.send(h11.EndOfMessage())
                await wire.head()
            finally:
                wire.abort("it answered")
    except (WireError, TimeoutError) as error:
        raise _refused(f"TensorZero loads the config but does not answer ({error!r})", config) from error


def _refused(what: str, config: Path) -> RouteError:
    return RouteError(what, "nothing was started", f"correct {config}")
