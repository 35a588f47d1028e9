"""The whole line with a bundle in containers: served, kept, replaced, undone, removed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import owner_of
from tests.lab import stack
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import shell_spec
from tests.lab.engine_registry import RegistryLab
from tests.lab.environment import free_port
from tests.lab.host import LabHost, interrupt, until
from tests.lab.play.starting import Playing

pytestmark = pytest.mark.real
CHAT = "pmoves-model-lab-chat"


@dataclasses.dataclass
class Bundle:
    """A host with an engine, its catalogue, and a look at its containers."""

    host: LabHost
    made: stack.Stack
    docker: Docker

    def port(self, role: str) -> int:
        """Return the stable port of a role's server, as the last good run left it."""
        plan = self.host.json("plan", "lab")
        return next(one["port"] for one in plan["models"] if one["role"] == role)

    def containers(self) -> dict[str, str]:
        """Return the ids of its containers, by name."""
        return {one.name: one.id for one in self.docker.containers()}

    @contextmanager
    def image(self, runtime: str, **changes: object) -> Iterator[None]:
        """Change the image of a runtime for a block."""
        path = self.made.profiles / "images.yaml"
        before = path.read_text()
        data = yaml.safe_load(before)
        for one in data["images"]:
            if one["runtime"] == runtime:
                one.update(changes)
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        try:
            yield
        finally:
            path.write_text(before)


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory,
    engine_lab: EngineLab,
    registry_lab: RegistryLab,
    host: LabHost,
    minilm_cache: Path,
) -> Iterator[Bundle]:
    """Return a host that serves the lab's bundle; tests leave it healthy."""
    folder = tmp_path_factory.mktemp("bundle")
    stack.push_play(registry_lab)
    stack.push_embedded(registry_lab)
    made = stack.make(folder, registry_lab)
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    one = LabHost.make(folder / "host", folder / "hub", prefect_port=port)
    told = {**one.environment, **made.environment(engine_lab.address), "PMOVES_HOST": "bundle-host"}
    one = dataclasses.replace(one, environment=told)
    docker = Docker(engine_lab.address, owner_of("bundle-host", one.state))
    assert minilm_cache.is_dir()
    try:
        done = one.pmoves("provision", "lab")
        assert done.returncode == 0, done.stderr
        yield Bundle(one, made, docker)
    finally:
        one.pmoves("down")
        one.close()
        left = [docker.remove(found.id) or found.name for found in docker.containers()]
        docker.close()
    assert [] == left
    assert set() == one.marked()


def asked(port: int, path: str, body: Mapping[str, object]) -> httpx.Response:
    """Ask a server."""
    return httpx.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=30, trust_env=False)


QUESTION = {
    "model": "lab-chat",
    "messages": [{"role": "user", "content": "What is 17 + 25? Answer with the number only."}],
    "max_tokens": 16,
}


def answers(port: int) -> bool:
    """Tell whether the chat server gives the right answer."""
    with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
        reply = asked(port, "/v1/chat/completions", QUESTION)
        return bool(reply.json()["choices"][0]["message"]["content"] == "42")
    return False


def test_every_role_is_served_and_verified(bundle: Bundle) -> None:
    """A second run keeps everything, restarts nothing, and still asks every server."""
    before = bundle.containers()

    record = bundle.host.json("provision", "lab")

    assert "nothing to do" == record["outcome"], record["changes"]
    assert {"keep"} == {one["kind"] for one in record["changes"]}
    assert before == bundle.containers()
    assert {"llm", "embeddings", "reranker", "whisper"} == {
        one["server"]["planned"]["role"] for one in record["verified"]
    }
    for one in record["verified"]:
        assert len(one["answers"]) > 1
        assert all(answer["right"] for answer in one["answers"])
        assert "@sha256:" in one["server"]["image"]
    assert answers(bundle.port("llm"))
    documents = {"query": "bread", "documents": ["yeast makes bread rise", "stars"], "model": "lab-reranker"}
    assert asked(bundle.port("reranker"), "/v1/rerank", documents).json()["results"]


def test_the_evidence_shows_it(bundle: Bundle) -> None:
    """The artifact has the timeline picture, the images, and where models lie."""
    found = bundle.host.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["host-bundle-host"]}}})

    for part in ("## Where they lie", "## Images", "## Timeline", "data:image/svg+xml"):
        assert part in found[0]["data"]


def test_a_new_image_takes_over_without_a_lost_request(bundle: Bundle, registry_lab: RegistryLab) -> None:
    """The new container starts beside the old one and gets its place once it answered right."""
    stack.push_play(registry_lab, tag="2")
    port, stop = bundle.port("llm"), threading.Event()
    sent: list[bool] = []

    def hammer() -> None:
        while not stop.is_set():
            sent.append(answers(port))

    clients = [threading.Thread(target=hammer) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        with bundle.image("llama.cpp", tag="2"):
            record = bundle.host.json("provision", "lab")
    finally:
        stop.set()
        for client in clients:
            client.join()
    change = next(one for one in record["changes"] if one["resource"] == f"container {CHAT}")

    assert "replace" == change["kind"]
    assert "started beside it" in change["reason"]
    assert len(sent) > 20
    assert all(sent), f"{sent.count(False)} of {len(sent)} were lost"
    assert {CHAT} == {name for name in bundle.containers() if name.startswith(CHAT)}
    assert "changed" == bundle.host.json("provision", "lab")["outcome"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("exit-loading:3", "exit code 3"),
        ("gibberish", "answers wrongly"),
    ],
)
def test_a_replacement_that_fails_changes_nothing(bundle: Bundle, fault: str, says: str) -> None:
    """One sentence with the cause; the containers of before answer, and nothing half-made is left."""
    before, port = bundle.containers(), bundle.port("llm")

    with bundle.image("llama.cpp", environment={"PLAY_FAULT": fault}):
        done = bundle.host.pmoves("provision", "lab")

    sentence = done.stderr.strip().splitlines()[-1]
    assert 5 == done.returncode, done.stderr
    assert says in sentence
    assert "Traceback" not in done.stderr
    assert before == bundle.containers()
    assert answers(port)


def test_a_server_that_died_leaves_its_last_words(bundle: Bundle) -> None:
    """The log is kept for its owner alone, and its end is in the record."""
    with bundle.image("llama.cpp", environment={"PLAY_FAULT": "cuda-oom"}):
        done = bundle.host.pmoves("provision", "lab")
    logs = sorted((bundle.host.state / "logs").glob("*/model-lab-*.log"), key=lambda one: one.stat().st_mtime)
    last = bundle.host.json("history")[0]

    assert "the card's memory ran out" in done.stderr
    assert 0o600 == logs[-1].stat().st_mode & 0o777
    assert "out of memory" in logs[-1].read_text()
    assert "the card's memory ran out" in last["logs"][0]["cause"]


def test_a_model_that_is_not_planned_any_more_goes(bundle: Bundle) -> None:
    """Its container is removed and its port given up; the others stay; and it comes back."""
    path, port = bundle.made.profiles / "hardware/lab.yaml", bundle.port("whisper")
    text = path.read_text()
    data = yaml.safe_load(text)
    data["bundle"] = [one for one in data["bundle"] if one["role"] != "whisper"]
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    try:
        record = bundle.host.json("provision", "lab")
    finally:
        path.write_text(text)
    gone = [one["resource"] for one in record["changes"] if one["kind"] == "remove"]

    assert "container pmoves-speaches-cpu" in gone
    assert "pmoves-speaches-cpu" not in bundle.containers()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    assert "changed" == bundle.host.json("provision", "lab")["outcome"]


def test_a_strangers_container_is_never_touched(bundle: Bundle, engine_lab: EngineLab) -> None:
    """With our name and another's label: one sentence, and nothing was stopped for it."""
    stranger = Docker(engine_lab.address, "somebody-else")
    bundle.docker.remove(bundle.containers()[CHAT])
    image = next(one.image for one in bundle.docker.containers())
    spec = dataclasses.replace(shell_spec(image, "", command=("python3", "-c", "input()")), name=CHAT)
    made = stranger.create(spec, host_port=free_port())
    try:
        done = bundle.host.pmoves("provision", "lab")
        there = stranger.inspect(made.id)
    finally:
        stranger.remove(made.id)
        stranger.close()

    assert 5 == done.returncode
    assert f"the container {CHAT} belongs to somebody-else" in done.stderr
    assert there is not None
    assert made.id == there.id
    assert "changed" == bundle.host.json("provision", "lab")["outcome"]


def test_a_run_that_is_killed_is_mended_by_the_next(bundle: Bundle) -> None:
    """Killed while a replacement starts: the next run ends well, with one container for each server."""
    with bundle.image("llama.cpp", environment={"PLAY_FAULT": "slow-load:30"}):
        run = bundle.host.start("provision", "lab")
        until(lambda: f"{CHAT}-next" in bundle.containers(), "no replacement was started")
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()

    record = bundle.host.json("provision", "lab")

    assert record["outcome"] in {"changed", "nothing to do"}
    assert {CHAT} == {name for name in bundle.containers() if name.startswith(CHAT)}
    assert answers(bundle.port("llm"))


def test_ctrl_c_leaves_nothing_half_made(bundle: Bundle) -> None:
    """Exit code 130; what served serves on."""
    before, port = bundle.containers(), bundle.port("llm")
    with bundle.image("llama.cpp", environment={"PLAY_FAULT": "slow-load:60"}):
        run = bundle.host.start("provision", "lab")
        until(lambda: f"{CHAT}-next" in bundle.containers(), "no replacement was started")
        code, errors = interrupt(run)

    assert 130 == code, errors
    until(lambda: before == bundle.containers(), f"left behind: {bundle.containers()}")
    assert answers(port)


def test_a_server_that_already_runs_is_used_and_never_owned(bundle: Bundle) -> None:
    """It is verified and routed to like our own, and it is still there afterwards."""
    path = bundle.made.weights / "models--lab--lab-chat/snapshots" / stack.REVISION / "chat-q4_0.gguf"
    arguments = ["--model", str(path), "--alias", "lab-chat", "--ctx-size", "4096"]
    with Playing("llama_cpp", arguments) as outside:
        told = {**bundle.host.environment, "PMOVES_EXTERNAL": f"llm={outside.url}/v1#lab-chat"}
        other = dataclasses.replace(bundle.host, environment=told)
        record = other.json("provision", "lab")
        verified = next(one for one in record["verified"] if one["server"]["planned"]["role"] == "llm")

        assert "" == verified["server"]["container"]
        assert f"{outside.url}/v1" == verified["server"]["base_url"]
        assert CHAT not in bundle.containers() or "code" in str(record["plan"]["models"])
        assert httpx.get(f"{outside.url}/health", trust_env=False).status_code == 200
    assert bundle.host.json("provision", "lab")["outcome"] == "changed"


def test_status_and_down_know_containers(bundle: Bundle) -> None:
    """They are listed with their address; `down` removes them and stops the front."""
    status = bundle.host.pmoves("status").stdout
    down = bundle.host.json("down")

    assert f"{CHAT} " in status
    assert f"http://127.0.0.1:{bundle.port('llm')}/v1" in status
    assert CHAT in down
    assert "front" in down
    assert {} == bundle.containers()


def wait_for(process: subprocess.Popen[str], *, patience_s: float) -> Any:  # noqa: ANN401  # an exit code or None
    """Wait for a process, but not for ever."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return process.poll()


def test_an_engine_that_dies_in_the_middle_is_one_sentence(bundle: Bundle, engine_lab: EngineLab) -> None:
    """And when it is back, a run repairs all."""
    with bundle.image("llama.cpp", environment={"PLAY_FAULT": "slow-load:60"}):
        run = bundle.host.start("provision", "lab")
        until(lambda: f"{CHAT}-next" in bundle.containers(), "no container was started")
        engine_lab.kill()
        try:
            code = wait_for(run, patience_s=100)
            _, errors = run.communicate(timeout=5)
        finally:
            engine_lab.start()

    assert 5 == code, errors
    assert "Traceback" not in errors
    assert "engine" in errors.strip().splitlines()[-1]
    record = bundle.host.json("provision", "lab")
    assert "changed" == record["outcome"]
    assert answers(bundle.port("llm"))
