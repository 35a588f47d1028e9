"""An Ollama server, a library and a client that break off, stand still and die in the middle of a pull."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread, Timer
from time import monotonic

import httpx
import pytest

from tasks import contracts
from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    SourceRefusedError,
    SourceUnavailableError,
    StoppedError,
)
from tasks.pull.ollama.blobs import missing_bytes
from tasks.pull.ollama.names import blob_path, parse_name
from tasks.pull.ollama.pull import PulledTag, Server, pull_tag
from tasks.pull.ollama.registry import parse_manifest
from tasks.pull.ollama.transfer import Retry
from tasks.pull.sources import PullContext
from tests.lab import ollama_once
from tests.lab.environment import free_port
from tests.lab.ollama import OllamaLab
from tests.lab.ollama import start as start_ollama
from tests.lab.ollama_registry import BIG_BYTES, OllamaRegistry, What, Where, digest_of, lab_tag
from tests.lab.weights import Watcher, wait_for

pytestmark = pytest.mark.real

TAG = lab_tag()
PIN = contracts.OllamaTag(tag="lab:1", size_bytes=TAG.size_bytes, digest=TAG.digest)
BIG = digest_of(TAG.blobs[0])
PART_BYTES = 1_000_000
QUICK = Retry(lost=4, waited=2, first_s=0.01, most_s=0.05)
PATIENT = Retry(lost=1000, waited=1000, first_s=0.05, most_s=0.05)


@pytest.fixture
def registry() -> Iterator[OllamaRegistry]:
    """Return a registry that holds the lab's model."""
    with OllamaRegistry({"library/lab:1": TAG}) as lab:
        yield lab


@pytest.fixture
def ollama(tmp_path: Path, registry: OllamaRegistry) -> Iterator[OllamaLab]:
    """Return an Ollama server without a model."""
    with OllamaLab(tmp_path / "models", registry.base, part_bytes=PART_BYTES) as lab:
        yield lab


def bring(ollama: OllamaLab, registry: OllamaRegistry, ctx: PullContext | None = None) -> PulledTag:
    """Pull with the folder of the server at hand."""
    server = Server(ollama.url, ollama.models, QUICK)
    return pull_tag(PIN, "lab", server, registry.base, ctx or PullContext(quiet_s=30.0))


def names(ollama: OllamaLab) -> list[str]:
    """Return what the server lists."""
    return [str(row["name"]) for row in ollama.store.listed()]


# --- what Ollama reports ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ("pull model manifest: file does not exist", SourceRefusedError, "the Ollama library has no lab:1"),
        ("http: server gave HTTP response to HTTPS client", SourceRefusedError, "speaks http"),
        ("write x-partial: no space left on device", NoRoomError, "the disk of Ollama's models is full"),
        ("digest mismatch, file must be downloaded again: want a, got b", DigestMismatchError, "other bytes"),
    ],
)
def test_errors_that_stay(
    ollama: OllamaLab, registry: OllamaRegistry, said: str, error: type[ProvisionError], text: str
) -> None:
    """An error that another try does not help is raised at once, and nothing is listed."""
    ollama.fail(f"line:{said}")

    with pytest.raises(error, match=text):
        bring(ollama, registry)

    assert (len(ollama.pulls), names(ollama)) == (1, [])


@pytest.mark.parametrize("said", ["context deadline exceeded", "max retries exceeded: EOF"])
def test_errors_that_pass(ollama: OllamaLab, registry: OllamaRegistry, said: str) -> None:
    """An error that may pass is tried again, a few times, and the pauses are told."""
    watcher = Watcher()
    ollama.fail(f"line:{said}", times=1)
    assert bring(ollama, registry, PullContext(sink=watcher)).change.kind == "create"
    assert any("so it is asked again in 0." in message for message in watcher.messages)

    ollama.store.delete(next(iter(ollama.store.names())))
    ollama.pulls.clear()
    ollama.fail(f"line:{said}")
    with pytest.raises(SourceUnavailableError, match=said):
        bring(ollama, registry)

    assert len(ollama.pulls) == QUICK.waited


@pytest.mark.parametrize(
    ("where", "what", "error", "text"),
    [
        ("blob", 503, SourceUnavailableError, "context deadline exceeded"),
        ("cdn", 429, SourceUnavailableError, "max retries exceeded: EOF"),
        ("cdn", "corrupt", DigestMismatchError, "digest mismatch, file must be downloaded again: want"),
    ],
)
def test_library_fails_ollama(
    ollama: OllamaLab,
    registry: OllamaRegistry,
    where: Where,
    what: What,
    error: type[ProvisionError],
    text: str,
) -> None:
    """What the library does to Ollama is said, and nothing is listed."""
    registry.fail(where, what)

    with pytest.raises(error, match=text):
        bring(ollama, registry)

    assert names(ollama) == []


@pytest.mark.parametrize(("what", "times"), [("drop", 2), (429, 3), (503, 3)])
def test_library_stumbles(ollama: OllamaLab, registry: OllamaRegistry, what: What, times: int) -> None:
    """Ollama gets over a few bad answers by itself, and is asked once."""
    registry.fail("cdn", what, times=times)

    bring(ollama, registry)

    assert (len(ollama.pulls), names(ollama)) == (1, ["lab:1"])


def test_not_found_at_the_api(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A web server's own 404 is not taken for an answer of Ollama."""
    ollama.fail("404")

    with pytest.raises(
        SourceRefusedError, match=r"does not speak Ollama's API \(HTTP 404: 404 page not found\)"
    ):
        bring(ollama, registry)


# --- breaking off ----------------------------------------------------------------------------


def test_connection_drops(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A connection that ends in the middle is made again, and Ollama goes on where it was."""
    registry.fail("cdn", "slow")
    ollama.fail("drop", times=2)

    pulled = bring(ollama, registry)

    assert len(ollama.pulls) == 3
    assert pulled.change.kind == "create"
    assert registry.sent_bytes < 2 * TAG.size_bytes
    assert names(ollama) == ["lab:1"]


def test_connection_drops_without_progress(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Tries without progress are counted, and end."""
    ollama.fail("line:EOF")
    server = Server(ollama.url, ollama.models, replace(QUICK, waited=3))

    with pytest.raises(SourceUnavailableError, match="could not pull lab:1"):
        pull_tag(PIN, "lab", server, registry.base, PullContext())

    assert len(ollama.pulls) == 3


@pytest.mark.parametrize("fault", ["stall", "hang"])
def test_stall_is_named(ollama: OllamaLab, registry: OllamaRegistry, fault: str) -> None:
    """Lines that go on without a byte more, and no answer at all, are both a stall; each is tried again."""
    registry.fail("cdn", "slow")
    ollama.fail(fault)
    watcher = Watcher()

    with pytest.raises(
        SourceUnavailableError, match=r"lab:1 stalled: no byte for 1 s; .* then run it again to go on"
    ):
        bring(ollama, registry, PullContext(sink=watcher, quiet_s=1.0))

    assert len(ollama.pulls) == QUICK.waited
    assert any(event.message == "stalled: no byte for 1 s" for event in watcher.events)
    assert names(ollama) == []


def test_stall_that_passes(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """After a stall Ollama is asked again, and succeeds."""
    ollama.fail("stall", times=1)

    server = Server(ollama.url, ollama.models, PATIENT)

    pulled = pull_tag(PIN, "lab", server, registry.base, PullContext(quiet_s=1.0))

    assert pulled.change.kind == "create"
    assert len(ollama.pulls) >= 2


def sent(registry: OllamaRegistry, part: float) -> Callable[[], bool]:
    """Return the condition that this part of the model was sent."""
    return lambda: registry.sent_bytes > part * TAG.size_bytes


@pytest.mark.parametrize("fault", ["", "stall", "hang"])
def test_stop(ollama: OllamaLab, registry: OllamaRegistry, fault: str) -> None:
    """A stop ends a pull within a second, whatever Ollama does; Ollama stops too, but keeps what it has."""
    registry.fail("cdn", "slow")
    if fault:
        ollama.fail(fault)
    stop, stopped_at = Event(), []

    def press() -> None:
        wait_for(lambda: ollama.pulls and (fault or registry.sent_bytes), what="the middle of the pull")
        stopped_at.append(monotonic())
        stop.set()

    Thread(target=press).start()
    with pytest.raises(StoppedError, match="stopped while pulling lab:1"):
        bring(ollama, registry, PullContext(stop=stop))

    assert monotonic() - stopped_at[0] < 1.0
    assert names(ollama) == []
    wait_for(lambda: not ollama.fetches, what="the end of Ollama's own fetching")
    registry.faults.clear()
    ollama.faults.clear()
    assert bring(ollama, registry).change.kind == "create"


def test_stop_before_and_between(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A stop is heard before anything is asked, and in the pause between two tries."""
    stop = Event()
    Timer(0.2, stop.set).start()
    ollama.fail("line:EOF")
    server = Server(ollama.url, ollama.models, Retry(first_s=30.0))
    begun = monotonic()

    with pytest.raises(StoppedError):
        pull_tag(PIN, "lab", server, registry.base, PullContext(stop=stop))
    assert monotonic() - begun < 15.0
    with pytest.raises(StoppedError):
        pull_tag(PIN, "lab", server, registry.base, PullContext(stop=stop))


def test_stop_while_the_library_is_silent(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A library that never answers does not keep a pull from stopping."""
    registry.fail("manifest", "stall")
    stop = Event()
    Timer(0.3, stop.set).start()

    with pytest.raises(StoppedError):
        bring(ollama, registry, PullContext(stop=stop))


# --- dying -----------------------------------------------------------------------------------


def test_client_is_killed(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """After kill -9 of this program Ollama stops by itself, and the next pull fetches only the rest."""
    registry.fail("cdn", "slow")
    order = ollama_once.Order(PIN, ollama.url, str(ollama.models), registry.base)
    with ollama_once.start(order) as victim:
        wait_for(sent(registry, 0.4), what="the middle of the pull")
        victim.kill()
    wait_for(lambda: not ollama.fetches, what="the end of Ollama's own fetching")
    before_bytes = registry.sent_bytes
    registry.faults.clear()

    pulled = bring(ollama, registry)

    assert names(ollama) == ["lab:1"]
    assert registry.sent_bytes - before_bytes <= TAG.size_bytes * 0.7
    # The registry also counts what it sent and nobody read any more.
    assert abs(pulled.fetched_bytes - (registry.sent_bytes - before_bytes)) <= TAG.size_bytes * 0.2


@pytest.fixture
def served(tmp_path: Path, registry: OllamaRegistry) -> Iterator[Callable[[], Popen[bytes]]]:
    """Return what starts an Ollama server as a process of its own, always on one port."""
    processes: list[Popen[bytes]] = []
    port = free_port()

    def serve() -> Popen[bytes]:
        processes.append(start_ollama(port, tmp_path / "models", registry.base))
        return processes[-1]

    serve.url = f"http://127.0.0.1:{port}"  # type: ignore[attr-defined]  # the tests' own mark
    yield serve
    for process in processes:
        process.kill()
        process.wait()


def test_server_is_killed(
    tmp_path: Path, registry: OllamaRegistry, served: Callable[[], Popen[bytes]]
) -> None:
    """After kill -9 of Ollama in the middle, the pull waits for it to come back, and goes on."""
    registry.fail("cdn", "slow")
    url = str(getattr(served, "url", ""))
    found: list[PulledTag | ProvisionError] = []
    watcher = Watcher()
    victim = served()

    def work() -> None:
        try:
            server = Server(url, tmp_path / "models", PATIENT)
            found.append(pull_tag(PIN, "lab", server, registry.base, PullContext(sink=watcher)))
        except ProvisionError as error:
            found.append(error)

    worker = Thread(target=work)
    worker.start()
    wait_for(sent(registry, 0.4), what="the middle of the pull")
    victim.kill()
    victim.wait()
    wait_for(
        lambda: any("is refused" in message for message in watcher.messages), what="a try without a server"
    )
    served()
    worker.join(60)

    assert [type(one) for one in found] == [PulledTag]
    assert blob_path(tmp_path / "models", BIG).read_bytes() == TAG.blobs[0]
    # Parts that were not finished are lost; everything before them is not.
    assert registry.sent_bytes <= 2 * TAG.size_bytes
    tags = httpx.get(f"{url}/api/tags", trust_env=False).json()["models"]
    assert [(row["name"], row["digest"]) for row in tags] == [("lab:1", TAG.digest)]


def test_server_does_not_come_back(
    tmp_path: Path, registry: OllamaRegistry, served: Callable[[], Popen[bytes]]
) -> None:
    """An Ollama that stays away is given up, by name."""
    registry.fail("cdn", "slow")
    url = str(getattr(served, "url", ""))
    victim = served()

    def kill() -> None:
        wait_for(sent(registry, 0.2), what="the middle of the pull")
        victim.kill()

    Thread(target=kill).start()
    with pytest.raises(SourceUnavailableError, match=f"Ollama at {url} does not answer"):
        pull_tag(PIN, "lab", Server(url, tmp_path / "models", QUICK), registry.base, PullContext())


@pytest.fixture
def mute() -> Iterator[str]:
    """Return the address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    held.append(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_mute_server(mute: str, registry: OllamaRegistry) -> None:
    """A server that takes connections and says nothing does not hold a pull, and leaves no thread."""
    stop = Event()
    Timer(0.3, stop.set).start()
    begun = monotonic()

    with pytest.raises(StoppedError):
        pull_tag(PIN, "lab", Server(mute), registry.base, PullContext(stop=stop))

    assert monotonic() - begun < 15.0
    assert [one.name for one in threading.enumerate() if one.name.startswith("ask")] == []


def test_room_of_a_resumed_pull(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """What an earlier pull left needs no room again, although the partial blob shows its full size."""
    registry.fail("cdn", "slow")
    order = ollama_once.Order(PIN, ollama.url, str(ollama.models), registry.base)
    with ollama_once.start(order) as victim:
        wait_for(sent(registry, 0.4), what="the middle of the pull")
        victim.kill()
    wait_for(lambda: not ollama.fetches, what="the end of Ollama's own fetching")
    partial = blob_path(ollama.models, BIG).with_name(f"sha256-{BIG}-partial")

    missing = missing_bytes(ollama.models, parse_manifest(parse_name("lab:1"), TAG.manifest))
    assert partial.stat().st_size == BIG_BYTES
    assert 0 < missing < TAG.size_bytes * 0.7
