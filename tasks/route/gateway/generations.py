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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tasks.route.gateway import native
from tasks.route.gateway.native import Native, in_daemon_thread
from tasks.route.validate import message_of

LOAD_DEADLINE_S = 30.0
SMOKE_TIMEOUT_S = 5.0
DRAIN_S = 60.0
CLOSE_DEADLINE_S = 3.0


@dataclass(slots=True, eq=False)
class Generation:
    """One loaded config. `idle` is set while none of its requests is in flight."""

    number: int
    config_hash: str
    loaded_at: str
    native: Native
    transport: httpx.AsyncHTTPTransport
    in_flight: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self) -> None:
        """Wait a while for the last request, then let TensorZero finish what is left, and free it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.idle.wait(), DRAIN_S)
        try:
            await in_daemon_thread(self.native.close)
        finally:
            await self.transport.aclose()


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

    @contextlib.contextmanager
    def lease(self) -> Iterator[Generation]:
        """Hold the current generation for one request: it is not closed before the block ends."""
        generation = self.current
        if generation is None:
            raise RuntimeError("no generation serves")
        generation.in_flight += 1
        generation.idle.clear()
        try:
            yield generation
        finally:
            generation.in_flight -= 1
            if generation.in_flight == 0:
                generation.idle.set()

    @property
    def in_flight(self) -> int:
        """Requests that run, on the current generation and on those that retire."""
        return sum(one.in_flight for one in self._retiring) + (self.current.in_flight if self.current else 0)

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
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        transport = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
        green = Generation(number, config_hash, _now(), gateway, transport)
        green.idle.set()
        await _smoke(green)
        return green


async def _bounded(load: Callable[[], Native]) -> Native:
    try:
        return await asyncio.wait_for(in_daemon_thread(load), LOAD_DEADLINE_S)
    except TimeoutError:
        raise RuntimeError(f"TensorZero did not load the config within {LOAD_DEADLINE_S:g} s") from None


async def _smoke(green: Generation) -> None:
    """Ask the new gateway anything; any HTTP answer says that it is up."""
    timeout = httpx.Timeout(SMOKE_TIMEOUT_S).as_dict()
    request = httpx.Request("GET", f"{green.native.base_url}/embeddings", extensions={"timeout": timeout})
    try:
        response = await green.transport.handle_async_request(request)
        await response.aclose()
    except httpx.TransportError as error:
        await green.close()
        raise RuntimeError(f"TensorZero loads the config but does not answer ({error!r})") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
