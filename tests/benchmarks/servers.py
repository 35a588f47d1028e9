"""What serving and verifying in containers costs. Prints a table, asserts nothing.

python -m tests.benchmarks.servers

    keep       eight servers that run as wanted: how long the stage takes to say so, and how often it asks
    start      from "weights whole" to "verified", beside `docker run` and a loop of curl
    chains     a run whose servers load for unequal times, beside its longest chain

The engine, the registry and the servers are this machine's own; the servers play llama.cpp.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flows.report import columns
from flows.timeline import timeline
from tasks.contracts import ContainerState, PlannedModel, PulledModel
from tasks.effects.containers.docker import Docker
from tasks.effects.front.memory import MemoryFront
from tasks.effects.http import Httpx
from tasks.record import history
from tasks.serve import apply
from tasks.serve.context import Containers, ServeContext
from tasks.serve.ledger import Ledger
from tasks.serve.wanted import Places
from tasks.verify.check import VerifyContext, verify
from tests.lab import stack
from tests.lab.engine import EngineLab
from tests.lab.engine_registry import RegistryLab
from tests.lab.environment import free_port
from tests.lab.host import LabHost
from tests.serve.serving import image, model, pulled, server_of

EIGHT, ROUNDS, LOAD_S = 8, 5, 2.0
CHAINS_S = (2, 6, 14)


class Counting(Docker):
    """An engine that counts what it is asked."""

    asked = 0

    def containers(self) -> tuple[ContainerState, ...]:
        """Count a listing."""
        self.asked += 1
        return super().containers()

    def inspect(self, container_id: str) -> ContainerState | None:
        """Count a look."""
        self.asked += 1
        return super().inspect(container_id)


class NoSupervisor:
    """A supervisor without processes."""

    def states(self) -> dict[str, object]:
        """Return nothing."""
        return {}


@contextmanager
def engine(folder: Path) -> Iterator[tuple[EngineLab, RegistryLab, str]]:
    """Run an engine and a registry that has the image; return them, and the image."""
    (folder / "registry").mkdir()
    with EngineLab() as lab, RegistryLab(folder / "registry") as registry:
        pinned = stack.push_play(registry)
        lab.client().pull(pinned)
        yield lab, registry, pinned


def context(
    folder: Path, docker: Docker, pinned: str, models: list[PlannedModel], load_s: float
) -> ServeContext:
    """Return a run with these models, each on a server of its own."""
    repository, _, digest = pinned.partition("@")
    command = (*stack.PLAY, "/opt/play/llama_cpp.py", "--load-s", f"{load_s:g}")
    entry = image(repository=repository, digest=digest, command=command, environment={})
    servers = {one.server: server_of(one, image=entry, settings=(("--ctx-size", "2048"),)) for one in models}
    front = MemoryFront()
    containers = Containers(
        engine=docker,
        front=front,
        ledger=Ledger(docker, front),
        facts=stack_facts(),
        servers=servers,
        models=tuple(models),
        places=Places(folder / "hub", folder / "ollama", folder / "state"),
        pins=folder / "images.lock.json",
        logs=folder / "logs",
    )
    return ServeContext(NoSupervisor(), Httpx(), "python3", containers=containers)  # type: ignore[arg-type]


def stack_facts():  # noqa: ANN201  # HostFacts
    """Return a host without accelerators."""
    from tests.lab.hosts import make_host  # noqa: PLC0415  # here alone

    return make_host()


def models(folder: Path, count: int) -> list[PlannedModel]:
    """Return models whose files are in the store."""
    made = []
    for number in range(count):
        one = model(f"bench-{number}", port=free_port(), context=2048)
        assert one.weights is not None
        path = (
            folder
            / "hub"
            / f"models--{one.weights.repo.replace('/', '--')}"
            / "snapshots"
            / one.weights.revision
        )
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.gguf").write_bytes(stack.gguf(100_000, number))
        made.append(one)
    return made


def served(ctx: ServeContext, these: list[PulledModel]) -> None:
    """Bring up, verify and promote."""
    for one in these:
        server = apply.serve(one, ctx)
        asked = VerifyContext(ctx.http, light=server.change.kind == "keep")
        apply.promote((verify(server, asked),), ctx)
    assert ctx.containers is not None
    ctx.containers.ledger.commit()


def bench_keep(folder: Path, lab: EngineLab, pinned: str) -> list[tuple[str, ...]]:
    """Let eight servers be kept."""
    docker = Counting(lab.address, "bench-keep")
    found = models(folder, EIGHT)
    these = [pulled(one) for one in found]
    served(context(folder, docker, pinned, found, 0.0), these)
    times, calls = [], 0
    for _ in range(ROUNDS):
        ctx, docker.asked = context(folder, docker, pinned, found, 0.0), 0
        begun = time.perf_counter()
        changes = [apply.serve(one, ctx).change.kind for one in these]
        times.append(time.perf_counter() - begun)
        calls = docker.asked
        assert set(changes) == {"keep"}, changes
    for one in docker.containers():
        docker.remove(one.id)
    return [(f"keep {EIGHT} servers", f"{statistics.median(times):.3f} s", "0.3 s", f"{calls} listing")]


def bench_start(folder: Path, lab: EngineLab, pinned: str) -> list[tuple[str, ...]]:
    """Start one server, and the same by hand."""
    docker = Docker(lab.address, "bench-start")
    ours = [_timed(lambda: _ours(folder, docker, pinned)) for _ in range(ROUNDS)]
    bare = [_timed(lambda: _bare(folder, lab, pinned)) for _ in range(ROUNDS)]
    mine, theirs = statistics.median(ours), statistics.median(bare)
    return [
        ("docker run + curl loop", f"{theirs:.2f} s", "", f"a server that loads for {LOAD_S:g} s"),
        ("weights whole to verified", f"{mine:.2f} s", f"{1.1 * theirs:.2f} s", f"{mine / theirs:.2f} of it"),
    ]


def _timed(act: Callable[[], Callable[[], None]]) -> float:
    begun = time.perf_counter()
    clean = act()
    took = time.perf_counter() - begun
    clean()
    return took


def _ours(folder: Path, docker: Docker, pinned: str) -> Callable[[], None]:
    found = models(folder, 1)
    served(context(folder, docker, pinned, found, LOAD_S), [pulled(found[0])])

    def clean() -> None:
        for one in docker.containers():
            docker.remove(one.id)

    return clean


def _bare(folder: Path, lab: EngineLab, pinned: str) -> Callable[[], None]:
    port = free_port()
    weights = folder / "hub/models--maker--bench-0"
    path = next(weights.glob("snapshots/*"))
    docker = ["docker", "-H", lab.address]
    run = [
        *docker,
        "run",
        "-d",
        "--name",
        "bare",
        "-p",
        f"127.0.0.1:{port}:8080",
        "-v",
        f"{weights}:/weights:ro",
        pinned,
    ]
    command = [*stack.PLAY, "/opt/play/llama_cpp.py", "--load-s", f"{LOAD_S:g}"]
    command += [
        "--model",
        f"/weights/snapshots/{path.name}/model.gguf",
        "--host",
        "0.0.0.0",
        "--port",
        "8080",
    ]
    subprocess.run([*run, *command, "--ctx-size", "2048"], check=True, capture_output=True)
    url = f"http://127.0.0.1:{port}"
    while subprocess.run(["curl", "-fsS", f"{url}/health"], capture_output=True, check=False).returncode:
        time.sleep(0.05)
    body = '{"messages": [{"role": "user", "content": "What is 17 plus 25?"}], "max_tokens": 16}'
    asked = ["curl", "-fsS", f"{url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body]
    subprocess.run(asked, check=True, capture_output=True)

    def clean() -> None:
        subprocess.run([*docker, "rm", "-f", "bare"], check=True, capture_output=True)

    return clean


def bench_chains(folder: Path, lab: EngineLab, registry: RegistryLab) -> list[tuple[str, ...]]:
    """Run the whole line with servers that load for unequal times."""
    from tests.conftest import fetched_minilm  # noqa: PLC0415  # pytest's own module

    fetched_minilm()
    stack.push_embedded(registry)
    made = stack.make(folder / "stack", registry)
    host = LabHost.make(folder / "host", folder / "host-hub")
    host = replace(host, environment={**host.environment, **made.environment(lab.address)})
    slow = {"llama_cpp.py": CHAINS_S[2], "speaches.py": CHAINS_S[1]}
    for name, load_s in slow.items():
        made.change(
            "images.yaml", f"  - /opt/play/{name}\n", f"  - /opt/play/{name}\n  - --load-s\n  - '{load_s}'\n"
        )
    try:
        done = host.pmoves("provision", "lab")
        if done.returncode:
            raise RuntimeError(done.stderr)
        record = history.read(history.journal(host.state, "lab-host")).records[-1]
    finally:
        host.close()
    drawn = timeline(record)
    return [("a run of unequal chains", f"{record.seconds:.1f} s", "", drawn.said)]


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with engine(folder) as (lab, registry, pinned):
            rows = [*bench_keep(folder, lab, pinned), *bench_start(folder, lab, pinned)]
            rows += bench_chains(folder, lab, registry)
    print(columns(("WHAT", "TOOK", "AIM", "NOTE"), rows))


if __name__ == "__main__":
    main()
