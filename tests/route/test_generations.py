"""The switch between generations, with a TensorZero that does as it is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.route.gateway import generations
from tasks.route.gateway.generations import Switch
from tests.lab.openai_server import FakeOpenAI
from tests.lab.routing import digest

pytestmark = pytest.mark.real


class FakeNative:
    """A TensorZero that answers, and whose `close` may hang."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.may_close = threading.Event()
        self.may_close.set()
        self.closed = threading.Event()

    def close(self) -> None:
        """Wait until that is allowed."""
        self.may_close.wait(60)
        self.closed.set()


class RestlessPath(type(Path())):  # type: ignore[misc]
    """A file that somebody rewrites between any two readings."""

    readings = 0

    def read_bytes(self) -> bytes:
        """Return another content each time."""
        type(self).readings += 1
        return f"# reading {type(self).readings}".encode()


@pytest.fixture
def native() -> Iterator[FakeNative]:
    """Return a TensorZero that answers."""
    with FakeOpenAI() as server:
        yield FakeNative(server.base_url)


def test_hash_is_of_the_bytes_that_are_loaded(tmp_path: Path, native: FakeNative) -> None:
    """TensorZero gets the very bytes that the hash is of, whatever the file holds by then."""
    loaded: list[str] = []

    def load(path: Path) -> FakeNative:
        loaded.append(Path(str(path)).read_text())
        return native

    reload = asyncio.run(Switch(RestlessPath(tmp_path / "c.toml"), load).reload())

    assert reload.ok
    assert [reload.config_hash] == [digest(text) for text in loaded]
    assert list(tmp_path.iterdir()) == []


def test_too_slow_to_load(tmp_path: Path, native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that hangs is given up, and what served goes on."""
    monkeypatch.setattr(generations, "LOAD_DEADLINE_S", 0.2)
    config = tmp_path / "c.toml"
    config.write_text("")
    slow = threading.Event()

    async def scenario() -> tuple[bool, str, int]:
        switch = Switch(config, lambda _: (slow.wait(60), native)[1])
        slow.set()
        await switch.reload()
        slow.clear()
        second = await switch.reload()
        return second.ok, second.error, switch.current.number if switch.current else 0

    assert asyncio.run(scenario()) == (False, "TensorZero did not load the config within 0.2 s", 1)
    slow.set()


def test_loads_but_does_not_answer(tmp_path: Path) -> None:
    """A TensorZero that loads and is not there is never switched to, and is closed."""
    config = tmp_path / "c.toml"
    config.write_text("")
    absent = FakeNative("http://127.0.0.1:9/openai/v1")
    switch = Switch(config, lambda _: absent)
    reload = asyncio.run(switch.reload())

    assert "TensorZero loads the config but does not answer" in reload.error
    assert switch.current is None
    assert absent.closed.is_set()


def test_closes_what_it_loaded(tmp_path: Path, native: FakeNative) -> None:
    """At the end the TensorZero that served is closed."""
    config = tmp_path / "c.toml"
    config.write_text("")

    async def scenario() -> None:
        switch = Switch(config, lambda _: native)
        await switch.reload()
        await switch.close()

    asyncio.run(scenario())

    assert native.closed.is_set()


def test_closing_is_bounded(tmp_path: Path, native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TensorZero that never finishes does not keep the process from ending."""
    monkeypatch.setattr(generations, "CLOSE_DEADLINE_S", 0.1)
    config = tmp_path / "c.toml"
    config.write_text("")
    native.may_close.clear()

    async def scenario() -> bool:
        switch = Switch(config, lambda _: native)
        await switch.reload()
        await asyncio.wait_for(switch.close(), 20)
        return native.closed.is_set()

    assert not asyncio.run(scenario())
    native.may_close.set()
