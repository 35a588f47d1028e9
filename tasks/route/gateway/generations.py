"""Which TensorZero serves: one generation for each config that was loaded, and the switch between them.

    <folder of the config>/
      tensorzero.toml       read once for each generation
      .loading-<pid>.toml   the bytes that were read, for the moment in which TensorZero loads them

So the hash in /status is of what serves, whatever is written meanwhile. The copy lies beside the original,
because TensorZero resolves relative paths from the file's own folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import h11

from tasks.effects.forwarding.upstream import Upstream
from tasks.effects.forwarding.wire import WireError
from tasks.route.gateway import native
from tasks.route.gateway.native import Native, in_daemon_thread
from tasks.route.validate import message_of

LOAD_DEADLINE_S = 30.0
SMOKE_TIMEOUT_S = 5.0
DRAIN_S = 60.0
CLOSE_DEADLINE_S = 3.0


@dataclass(slots=True, eq=False)
class Generation:
    """One loaded config, and its requests."""

    number: int
    config_hash: str
    loaded_at: str
    native: Native
    upstream: Upstream

    async def close(self) -> None:
        """Wait a while for the last request, then let TensorZero finish what is left, and free it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.upstream.idle.wait(), DRAIN_S)
        try:
            await in_daemon_thread(self.native.close)
        finally:
            self.upstream.close()


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of one reading of the config. `config_hash` is of the bytes that were read."""

    attempt: int
    ok: bool
    config_hash: str
    error: str
    at: str


class Switch:
    """Holds the generation that gets new requests, and those that still finish theirs."""

    def __init__(self, config: Path, load: Callable[[Path], Native] = native.load) -> None:
        self._config = config
        self._load = load
        self._lock = asyncio.Lock()
        self._retiring: dict[Generation, asyncio.Task[None]] = {}
        self.current: Generation | None = None
        self.last_reload: Reload | None = None

    @property
    def serving(self) -> Generation:
        """The generation that gets new requests. It is not closed while one of them runs."""
        if self.current is None:
            raise RuntimeError("no generation serves")
        return self.current

    @property
    def in_flight(self) -> int:
        """Requests that run, on the current generation and on those that retire."""
        running = [*self._retiring, *([self.current] if self.current else [])]
        return sum(one.upstream.in_flight for one in running)

    @property
    def retiring(self) -> int:
        """Generations that still finish their requests."""
        return len(self._retiring)

    async def reload(self) -> Reload:
        """Read the config; flip to it when it loads and answers, else leave everything as it is."""
        async with self._lock:
            attempt = self.last_reload.attempt + 1 if self.last_reload else 1
            config_hash, error = "", ""
            try:
                raw = self._config.read_bytes()
                config_hash = hashlib.sha256(raw).hexdigest()
                self._flip(await self._start(raw, config_hash))
            except OSError as failure:
                error = f"{self._config} cannot be read or loaded ({failure.strerror or failure})"
            except Exception as failure:  # noqa: BLE001  # a config must never end the gateway that serves
                error = message_of(str(failure)) or repr(failure)
            self.last_reload = Reload(attempt, not error, config_hash, error, _now())
            return self.last_reload

    async def close(self) -> None:
        """Close every generation; return after a bound even if one of them does not end."""
        last, self.current = self.current, None
        closing = [*self._retiring.values(), *([asyncio.create_task(last.close())] if last else [])]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_DEADLINE_S)

    def _flip(self, green: Generation) -> None:
        blue, self.current = self.current, green
        if blue:
            task = asyncio.create_task(blue.close())
            self._retiring[blue] = task
            task.add_done_callback(lambda _: self._retiring.pop(blue))

    async def _start(self, raw: bytes, config_hash: str) -> Generation:
        copy = self._config.with_name(f".loading-{os.getpid()}.toml")
        try:
            copy.write_bytes(raw)
            gateway = await _bounded(lambda: self._load(copy))
        finally:
            copy.unlink(missing_ok=True)
        number = self.current.number + 1 if self.current else 1
        port = urlsplit(gateway.base_url).port or 0
        upstream = Upstream(port, "the gateway's TensorZero", "the gateway")
        green = Generation(number, config_hash, _now(), gateway, upstream)
        await _smoke(green)
        return green


async def _bounded(load: Callable[[], Native]) -> Native:
    try:
        return await asyncio.wait_for(in_daemon_thread(load), LOAD_DEADLINE_S)
    except TimeoutError:
        raise RuntimeError(f"TensorZero did not load the config within {LOAD_DEADLINE_S:g} s") from None


async def _smoke(green: Generation) -> None:
    """Ask the new gateway anything; any HTTP answer says that it is up."""
    path = urlsplit(green.native.base_url).path
    request = h11.Request(method="GET", target=f"{path}/embeddings", headers=[(b"host", green.upstream.host)])
    try:
        async with asyncio.timeout(SMOKE_TIMEOUT_S):
            wire = await green.upstream.new_wire()
            try:
                await wire.send(request)
                await wire.send(h11.EndOfMessage())
                await wire.head()
            finally:
                wire.abort("it answered")
    except (WireError, TimeoutError) as error:
        await green.close()
        raise RuntimeError(f"TensorZero loads the config but does not answer ({error!r})") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
