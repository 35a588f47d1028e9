"""A supervisor, a gateway process and the model servers behind it, all in memory."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path

from tasks.contracts import ProcessSpec, ProcessState
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.effects.processes import spec_hash
from tasks.errors import ServeError
from tests.lab.openai_server import vector

GATEWAY = "http://127.0.0.1:3030"
PREFIX = "tensorzero::embedding_model_name::"


class World:
    """Plays the gateway as the real one behaves; `did` lists what it was told.

    Attributes:
        unloadable: Texts that TensorZero does not load.
        deaf: How many hang-ups get lost.
        failing: Addresses of model servers that answer 500.
        swapped: Addresses of model servers that answer as another one, but only to the gateway.
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.unloadable: set[str] = set()
        self.deaf = 0
        self.failing: set[str] = set()
        self.swapped: set[str] = set()
        self.state: ProcessState | None = None
        self.loaded = ""
        self.attempt = 0
        self.error: tuple[str, str] | None = None
        self.config = Path()
        self.http = MemoryHttp(self._answer)

    # --- the supervisor ------------------------------------------------------------------------

    def states(self) -> dict[str, ProcessState]:
        """Return the gateway, once it was started."""
        return {self.state.name: self.state} if self.state else {}

    def start(self, spec: ProcessSpec) -> ProcessState:
        """Start the gateway: it reads its config, and ends when that does not load."""
        self.did.append("start")
        self.config = Path(spec.command[spec.command.index("--config") + 1])
        text = self.config.read_text()
        if text in self.unloadable:
            raise ServeError("it ended at once", "nothing else changed", "read the log")
        pid = self.state.pid + 1 if self.state else 100
        self.state = ProcessState(spec.name, True, "running", pid, 0.0, spec_hash(spec), "/log")  # noqa: FBT003
        self.loaded, self.attempt, self.error = text, 1, None
        return self.state

    def stop(self, name: str) -> None:
        """Stop and forget the gateway."""
        self.did.append(f"stop {name}")
        self.state = None

    def signal(self, name: str, signal: str) -> None:
        """Take a hang-up: read the config again."""
        self.did.append(f"{signal} {name}")
        if self.deaf:
            self.deaf -= 1
            return
        text = self.config.read_text()
        self.attempt += 1
        self.error = (digest(text), "no such field") if text in self.unloadable else None
        self.loaded = self.loaded if self.error else text

    def log_tail(self, name: str, lines: int = 5) -> str:  # noqa: ARG002  # as the Protocol has it
        """Return what it printed last."""
        return "its last words"

    def kill(self) -> None:
        """End the gateway without a warning."""
        if self.state:
            self.state = replace(self.state, running=False, state="exited", pid=0)

    # --- the wire ------------------------------------------------------------------------------

    @property
    def serves(self) -> str:
        """The digest of the config that is served, "" when none is."""
        return digest(self.loaded) if self.state and self.state.running else ""

    def _answer(self, request: Request) -> Reply:
        if request.url.startswith(GATEWAY) and not self.serves:
            raise HttpError("the connection is refused")
        if request.url == f"{GATEWAY}/status":
            return reply(200, self._status())
        asked = request.json
        if not isinstance(asked, dict):
            raise HttpError("nothing was asked")
        address, model = request.url.removesuffix("/embeddings"), asked["model"]
        routed = address == f"{GATEWAY}/openai/v1"
        if routed:
            models = tomllib.loads(self.loaded).get("embedding_models", {})
            entry = models[model.removeprefix(PREFIX)]
            provider = entry["providers"][entry["routing"][0]]
            address, model = provider["api_base"].rstrip("/"), provider["model_name"]
        if address in self.failing:
            return reply(500, {"error": {"message": "out of memory"}})
        flavour = "another" if routed and address in self.swapped else address
        rows = [vector(f"{flavour} {model}", text, 4) for text in asked["input"]]
        return reply(200, {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})

    def _status(self) -> dict[str, object]:
        failed, message = self.error or ("", "")
        last = {"attempt": self.attempt, "ok": not failed, "config_hash": failed, "error": message}
        return {"pid": self.state.pid if self.state else 0, "config_hash": self.serves, "last_reload": last}


def reply(status: int, body: object) -> Reply:
    """Return an answer of JSON."""
    return Reply(status, json.dumps(body).encode(), 0.001)


def digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
