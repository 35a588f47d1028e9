"""What a rollout may ask of gateways. One file for each kind, and one in memory for tests.

A gateway reads its config once, when it starts. So each config is a generation: a folder that is never
changed, and a gateway that serves it on a port of its own until the last request there has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.contracts import ProcessState

CONFIG = "tensorzero.toml"


@dataclass(frozen=True, slots=True)
class Generation:
    """A config that was rolled out. `folder` holds it, and the files that it names.

    `config_hash` is the sha256 of the config's text. `environment` is the file with the providers' keys.
    """

    name: str
    folder: Path
    config_hash: str
    environment: Path

    @property
    def config(self) -> Path:
        """The config itself."""
        return self.folder / CONFIG


@dataclass(frozen=True, slots=True)
class Instance:
    """A gateway of one generation. `process` is its own, or stands for its container (`container`).

    `port` is where `/openai/v1` is, on 127.0.0.1; 0 where it is not known.
    """

    generation: str
    port: int
    process: ProcessState
    container: str = ""

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process.running

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"http://127.0.0.1:{self.port}/openai/v1"


class Gateways(Protocol):
    """What starts and ends gateways."""

    @property
    def kind(self) -> str:
        """The name of their kind: "wheel", "container"."""

    def prepare(self) -> None:
        """Get what is missing to start one, such as its image. This may take long.

        Raises:
            ServeError: it cannot be had.
        """

    def instances(self) -> tuple[Instance, ...]:
        """Return every gateway of this host, also those that ended and were not removed."""

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:
        """Start a gateway beside those that run; return once it serves that very config.

        Raises:
            RouteError: it does not start, rejects the config, serves another one or is not up in time.
                Nothing of it is left.
        """

    def stop(self, generation: str) -> None:
        """End a gateway after its last request, within a bound; nothing happens where there is none."""

    def log_tail(self, generation: str) -> str:
        """Return the last lines that it printed, joined with " | "."""
