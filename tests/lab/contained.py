"""A host that serves the lab's bundle in containers, who asks it all the time, and a way to its engine.

with Hammer(contained.port(CHAT_SERVER)) as hammer:     plain and streamed questions, until the block ends
    ...
assert not hammer.lost

with EngineDoor(lab.folder / "docker.sock", path) as door:    a socket that leads to the engine
    door.shut_at(b"GET /v1.43/containers/json")               ... and to nobody from that request on
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tasks.contracts import ContainerState
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import owner_of
from tasks.effects.front.table import parse, table_path
from tests.lab.engine import EngineLab
from tests.lab.engine_registry import RegistryLab
from tests.lab.host import LabHost
from tests.lab.stack import Stack

CHAT, RERANKER, EMBEDDINGS, WHISPER = (
    "model-lab-chat",
    "model-lab-reranker",
    "model-all-minilm-l6-v2",
    "speaches-cpu",
)
QUESTION = {
    "model": "lab-chat",
    "messages": [{"role": "user", "content": "What is 17 + 25? Answer with the number only."}],
    "max_tokens": 16,
}
PATIENCE_S = 60


def named(server: str) -> str:
    """Return the name of a server's container."""
    return f"pmoves-{server}"


@dataclass
class Contained:
    """The host, its catalogue, and a look at its containers. `settled` is false once it needs a run."""

    host: LabHost
    made: Stack
    docker: Docker
    lab: EngineLab
    registry: RegistryLab
    settled: bool = True

    @classmethod
    def make(
        cls, folder: Path, made: Stack, lab: EngineLab, registry: RegistryLab, *, name: str, prefect_port: int
    ) -> Contained:
        """Make such a host below `folder`; nothing is served yet."""
        one = LabHost.make(folder / "host", folder / "hub", prefect_port=prefect_port)
        own = {"PMOVES_HOST": name, "PYTHONFAULTHANDLER": "1"}
        told = {**one.environment, **made.environment(lab.address), **own}
        host = dataclasses.replace(one, environment=told)
        return cls(host, made, Docker(lab.address, owner_of(name, host.state)), lab, registry, settled=False)

    def provision(self, **environment: str) -> dict[str, Any]:
        """Run the whole line, and return its record."""
        record: dict[str, Any] = self.host.but(**environment).json("provision", "lab")
        self.settled = not environment
        return record

    def settle(self) -> None:
        """Bring it back to what its catalogue says, where an earlier test left it otherwise."""
        if not self.settled:
            self.provision()

    def containers(self) -> dict[str, ContainerState]:
        """Return its containers by name."""
        return {one.name: one for one in self.docker.containers()}

    def lives(self) -> dict[str, tuple[str, float, int]]:
        """Return what tells whether a container is the one of before, and was never started again."""
        states = [self.docker.inspect(one.id) or one for one in self.docker.containers()]
        return {one.name: (one.id, one.started_at, one.pid) for one in states}

    def ports(self) -> dict[str, int]:
        """Return the stable ports of its servers, as the front has them."""
        path = table_path(self.host.state / "front")
        return {row.server: row.port for row in parse(path.read_bytes())} if path.exists() else {}

    def port(self, server: str) -> int:
        """Return the stable port of a server."""
        return self.ports()[server]

    def last(self) -> dict[str, Any]:
        """Return the record of its last run."""
        record: dict[str, Any] = self.host.json("history", "--limit", "1")[0]
        return record

    def chat(self, model: str = "lab-chat") -> str:
        """Ask its gateway."""
        body = {**QUESTION, "model": f"tensorzero::model_name::{model}"}
        reply = httpx.post(f"{self.host.gateway}/chat/completions", json=body, timeout=30, trust_env=False)
        return said(reply.raise_for_status().json())

    @contextmanager
    def changed(self, file: str, change: Any) -> Iterator[None]:  # noqa: ANN401  # a function of any YAML
        """Change a file of its catalogue for a block; `change` is given what is in it."""
        path = self.made.profiles / file
        before = path.read_text()
        data = yaml.safe_load(before)
        change(data)
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def image(self, runtime: str, **changes: object) -> Iterator[None]:
        """Change the image of a runtime for a block."""
        with self.changed("images.yaml", lambda data: _update(data, runtime, changes)):
            yield

    def set_image(self, runtime: str, **changes: object) -> None:
        """Change the image of a runtime for good."""
        path = self.made.profiles / "images.yaml"
        data = yaml.safe_load(path.read_text())
        _update(data, runtime, changes)
        path.write_text(yaml.safe_dump(data, sort_keys=False))


def _update(data: dict[str, Any], runtime: str, changes: Mapping[str, object]) -> None:
    for one in data["images"]:
        if one["runtime"] == runtime:
            one.update(changes)


def said(answer: Mapping[str, Any]) -> str:
    """Return the text of a chat answer."""
    return str(answer["choices"][0]["message"]["content"])


def answer(port: int, *, stream: bool = False) -> str:
    """Ask a chat server, and return what it says; a stream that does not end with [DONE] is an error."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    if not stream:
        reply = httpx.post(url, json=QUESTION, timeout=PATIENCE_S, trust_env=False)
        return said(reply.raise_for_status().json())
    with httpx.stream(
        "POST", url, json={**QUESTION, "stream": True}, timeout=PATIENCE_S, trust_env=False
    ) as reply:
        reply.raise_for_status()
        rows = [row.removeprefix("data: ") for row in reply.iter_lines() if row.startswith("data: ")]
    if rows[-1:] != ["[DONE]"]:
        raise ValueError(f"the stream ended with {rows[-1:]}")
    deltas = [choice["delta"] for row in rows[:-1] for choice in json.loads(row)["choices"]]
    return "".join(one.get("content") or "" for one in deltas)


def answers(port: int) -> bool:
    """Tell whether a chat server gives the right answer."""
    with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
        return answer(port) == "42"
    return False


@dataclass
class Hammer:
    """Asks a chat server on end, half of it as a stream; `lost` has what was not answered rightly."""

    port: int
    sent: int = 0
    lost: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(stream,)) for stream in (False, True)]
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for one in self._threads:
            one.join()

    def _ask(self, stream: bool) -> None:  # noqa: FBT001  # a thread's argument
        while not self._over.wait(0.05):
            self.sent += 1
            try:
                found = answer(self.port, stream=stream)
            except (httpx.HTTPError, KeyError, ValueError) as error:
                found = f"{type(error).__name__}: {error}"
            if found != "42":
                self.lost.append(f"{'streamed' if stream else 'plain'}: {found}")


@dataclass
class EngineDoor:
    """A socket that leads to an engine, until a request comes that it is told to shut at.

    `shut` says that it did; from then on it hangs up on everybody, as an engine that died.
    """

    engine: Path
    path: Path

    def __enter__(self) -> Self:
        self.shut = threading.Event()
        self._mark = b""
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self.path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shut.set()
        for one in (self._server, *self._open):
            _end(one)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"unix://{self.path}"

    def shut_at(self, request: bytes) -> None:
        """Shut at the first request that has these bytes."""
        self._mark = request

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _peer = self._server.accept()
                if self.shut.is_set():
                    _end(client)
                    continue
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(str(self.engine))
                self._open += [client, engine]
                for one, other in ((client, engine), (engine, client)):
                    threading.Thread(target=self._copy, args=(one, other, one is client), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, asks: bool) -> None:  # noqa: FBT001  # the same
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if asks and self._mark and self._mark in data:
                    self.shut.set()
                    for one in tuple(self._open):
                        _end(one)
                    return
                target.sendall(data)
        _end(source)
        _end(target)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
