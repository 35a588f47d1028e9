"""Loading a config, with a TensorZero that does as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.wheel import loaded
from tasks.route.wheel.loaded import Loaded, load
from tests.lab.openai_server import FakeOpenAI

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


@pytest.fixture
def native() -> Iterator[FakeNative]:
    """Return a TensorZero that answers."""
    with FakeOpenAI() as server:
        yield FakeNative(server.base_url)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a config."""
    path = tmp_path / "c.toml"
    path.write_text("a = 1\n")
    return path


def loading(config: Path, start: Callable[[Path], FakeNative]) -> Loaded:
    """Load a config."""
    return asyncio.run(load(config, start))


def test_the_hash_is_of_the_file(config: Path, native: FakeNative) -> None:
    """Of its bytes; the upstream is TensorZero's own port."""
    made = loading(config, lambda _: native)

    assert made.config_hash == hashlib.sha256(b"a = 1\n").hexdigest()
    assert f"http://127.0.0.1:{made.upstream.port}/v1" == native.base_url
    assert not native.closed.is_set()


def test_a_file_that_changes_meanwhile(config: Path, native: FakeNative) -> None:
    """It is not known which text TensorZero read, so none of it serves."""

    def start(path: Path) -> FakeNative:
        path.write_text("a = 2\n")
        return native

    with pytest.raises(RouteError, match="the config changed while TensorZero loaded it"):
        loading(config, start)

    assert native.closed.is_set()


def test_too_slow_to_load(config: Path, native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that hangs is given up."""
    monkeypatch.setattr(loaded, "LOAD_DEADLINE_S", 0.2)
    slow = threading.Event()

    with pytest.raises(RouteError, match=r"TensorZero did not load it within 0\.2 s"):
        loading(config, lambda _: (slow.wait(60), native)[1])

    slow.set()


def test_loads_but_does_not_answer(config: Path) -> None:
    """A TensorZero that loads and is not there never serves, and is closed."""
    absent = FakeNative("http://127.0.0.1:9/openai/v1")

    with pytest.raises(RouteError, match="TensorZero loads the config but does not answer"):
        loading(config, lambda _: absent)

    assert absent.closed.is_set()


def test_closing_is_bounded(config: Path, native: FakeNative, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TensorZero that never finishes does not keep the process from ending; one that does, is closed."""
    monkeypatch.setattr(loaded, "CLOSE_DEADLINE_S", 0.1)
    made = loading(config, lambda _: native)
    native.may_close.clear()

    asyncio.run(asyncio.wait_for(made.close(), 20))

    assert not native.closed.is_set()
    native.may_close.set()
    asyncio.run(made.close())
    assert native.closed.is_set()
