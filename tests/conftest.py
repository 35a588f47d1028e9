"""What every test gets: no network and no home of its own unless it is marked `real`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import disable_socket, enable_socket

from tasks import catalogue
from tasks.contracts import PlannedModel, Reach
from tests.lab.environment import leaking

ROOT = Path(__file__).resolve().parent.parent
MINILM = "all-minilm-l6-v2"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden files be written again; the difference is then read before it is committed."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files of the tests again")


def pytest_configure() -> None:
    """Let programs that tests start hear Ctrl-C: a shell's background jobs inherit that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fenced(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Give each test its own home, and keep fast tests off the network."""
    for name in leaking():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PMOVES_STATE", str(tmp_path / "state"))
    if request.node.get_closest_marker("real") is None:
        disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


def planned(port: int = 7990) -> PlannedModel:
    """Return all-MiniLM-L6-v2 as the planner places it."""
    model = catalogue.load(catalogue.DEFAULT).models[MINILM]
    variant = next(one for one in model.variants if "embedded" in one.runtimes)
    if variant.weights is None or variant.memory is None:
        raise AssertionError("the catalogue has no weights for the embedded model")
    return PlannedModel(
        role="embeddings",
        model=model.name,
        runtime="embedded",
        residency="cpu",
        device="cpu",
        port=port,
        memory_bytes=variant.memory.value_bytes,
        memory_measured=True,
        download_bytes=0,
        weights=variant.weights,
        dimensions=model.dimensions,
        max_tokens=model.max_tokens,
        quantisation=variant.name,
    )


def fetched_minilm() -> Path:
    """Return a Hugging Face cache that holds the real model, fetched once and kept in `.cache/`."""
    from tasks.pull.download import pull  # noqa: PLC0415  # fast tests need none of it
    from tasks.pull.sources import PullContext  # noqa: PLC0415  # the same

    cache = ROOT / ".cache" / "hub"
    cache.mkdir(parents=True, exist_ok=True)
    hub = Reach("Hugging Face Hub", "http://127.0.0.1:9", answers=False, detail="tests do not ask it")
    pull(planned(), cache, PullContext(endpoint=hub.address, hub=hub))
    return cache


@pytest.fixture(scope="session")
def minilm_cache() -> Path:
    """Return a Hugging Face cache that holds the real model."""
    return fetched_minilm()
