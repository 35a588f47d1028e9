"""The whole line with its servers in containers: served, kept, replaced, given up, listed, taken down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab import stack
from tests.lab.contained import CHAT, EMBEDDINGS, RERANKER, WHISPER, Contained, Hammer, answer, named
from tests.lab.host import until
from tests.lab.play.starting import Playing

pytestmark = pytest.mark.real

SERVERS = {CHAT, EMBEDDINGS, RERANKER, WHISPER}
SPEECH = Path(__file__).parents[2] / "profiles/probes/assets/speech-en.wav"


def ask(port: int, path: str, **given: Any) -> Any:  # noqa: ANN401  # JSON has many shapes
    """Ask a server at its stable port."""
    reply = httpx.post(f"http://127.0.0.1:{port}{path}", timeout=30, trust_env=False, **given)
    return reply.raise_for_status().json()


def changes(record: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the changes of a run, by what was changed."""
    return {one["resource"]: one for one in record["changes"]}


def test_every_role_is_verified_and_in_the_history(contained: Contained) -> None:
    """Each server gave several right answers, from an image that its digest names."""
    verified = {one["server"]["planned"]["role"]: one for one in contained.last()["verified"]}

    assert {"llm", "embeddings", "reranker", "whisper"} == set(verified)
    for one in verified.values():
        assert len(one["answers"]) > 1
        assert all(each["right"] for each in one["answers"])
        assert one["server"]["container"] in contained.containers()
        assert contained.containers()[one["server"]["container"]].image == one["server"]["image"]
        assert "@sha256:" in one["server"]["image"]


def test_each_server_answers_at_its_stable_port(contained: Contained) -> None:
    """Chat, embeddings, ranking and transcription, and the first two through the gateway as well."""
    ports = contained.ports()
    query = {"model": "lab-reranker", "query": "How is bread made?"}
    documents = ["Stars are far away.", "Yeast makes the dough of bread rise."]
    ranked = ask(ports[RERANKER], "/v1/rerank", json={**query, "documents": documents})["results"]
    heard = ask(
        ports[WHISPER],
        "/v1/audio/transcriptions",
        files={"file": ("speech.wav", SPEECH.read_bytes(), "audio/wav")},
        data={"model": "lab/lab-whisper"},
    )
    vectors = ask(
        ports[EMBEDDINGS], "/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": ["a", "b"]}
    )

    assert SERVERS == set(ports)
    assert "42" == answer(ports[CHAT])
    assert "42" == answer(ports[CHAT], stream=True)
    assert 1 == max(ranked, key=lambda one: float(one["relevance_score"]))["index"]
    assert "three green apples" in heard["text"]
    assert [384, 384] == [len(one["embedding"]) for one in vectors["data"]]
    assert "42" == contained.chat()
    assert 384 == len(contained.host.embed("through the gateway"))


def test_the_evidence_has_pictures_images_and_places(contained: Contained) -> None:
    """The artifact in Prefect shows the timeline, each image with its digest, and where each model lies."""
    wanted = {"artifacts": {"key": {"any_": ["host-contained-host"]}}, "sort": "CREATED_DESC"}
    text = contained.host.post("/artifacts/filter", wanted)[0]["data"]

    for part in ("## Where they lie", "## Images", "## Timeline", "data:image/svg+xml"):
        assert part in text
    for one in contained.containers().values():
        assert one.image.partition("@sha256:")[2][:12] in text


def test_a_second_run_changes_nothing(contained: Contained) -> None:
    """All is kept, and no container was made, started or restarted."""
    before = contained.lives()

    record = contained.provision()

    assert "nothing to do" == record["outcome"], json.dumps(record["changes"], indent=1)
    assert {"keep"} == {one["kind"] for one in record["changes"]}
    assert {named(one) for one in SERVERS} == set(before)
    assert before == contained.lives()


def test_a_new_image_takes_over_without_a_lost_request(contained: Contained) -> None:
    """The new one starts beside the old one, which ends with its last answer; both tags keep their digest."""
    old = contained.containers()[named(CHAT)]
    stack.push_play(contained.registry, tag="2")
    port = contained.port(CHAT)
    contained.settled = False
    contained.set_image("llama.cpp", tag="2")

    with Hammer(port) as hammer:
        run = contained.host.start("provision", "lab", "--json")
        until(lambda: f"{named(CHAT)}-next" in contained.containers(), "no replacement was started")
        # Answers that take as long as the replacement needs: the old one has to end them.
        ask(port, "/_ctl", json={"fault": "slow:5", "times": 4})
        out, errors = run.communicate(timeout=240)

    assert 0 == run.returncode, errors
    contained.settled = True
    change = changes(json.loads(out))[f"container {named(CHAT)}"]
    assert "replace" == change["kind"]
    assert change["reason"].startswith("its image changes from play@")
    assert "started beside it" in change["reason"]
    assert hammer.sent > 10
    assert [] == hammer.lost
    assert contained.docker.inspect(old.id) is None
    assert {named(one) for one in SERVERS} == set(contained.containers())
    pins = json.loads((contained.host.state / "images.lock.json").read_text())
    play = contained.registry.repository("lab/play")
    assert 2 == len({pins[f"{play}:1"], pins[f"{play}:2"]})
    assert contained.containers()[named(CHAT)].image == f"{play}@{pins[f'{play}:2']}"


def test_a_model_that_is_not_planned_any_more_goes(contained: Contained) -> None:
    """Its container is removed and its port given up; the others are left as they are."""
    before, port = contained.lives(), contained.port(WHISPER)
    contained.settled = False

    def without(data: dict[str, Any]) -> None:
        data["bundle"] = [one for one in data["bundle"] if one["role"] != "whisper"]

    with contained.changed("hardware/lab.yaml", without):
        done = changes(contained.provision())

    assert "remove" == done[f"container {named(WHISPER)}"]["kind"]
    assert {name: one for name, one in before.items() if name != named(WHISPER)} == contained.lives()
    assert WHISPER not in contained.ports()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    contained.settled = False


def test_a_server_of_somebody_else_is_used_and_left_alone(contained: Contained) -> None:
    """It is verified and routed to, and ours goes. `status` lists what runs; `down` leaves that one alone."""
    path = contained.made.weights / "models--lab--lab-chat/snapshots" / stack.REVISION / "chat-q4_0.gguf"
    arguments = ("--model", str(path), "--alias", "lab-chat", "--ctx-size", "4096")
    with Playing("llama_cpp", arguments) as outside:
        told = f"llm={outside.url}/v1#lab-chat code={outside.url}/v1#lab-chat"
        record = contained.provision(PMOVES_EXTERNAL=told)
        chat, status = contained.chat("lab-chat-llm"), contained.host.pmoves("status").stdout
        ports = contained.ports()
        down = contained.host.json("down")
        alive = answer(outside.port)
    roles = {one["server"]["planned"]["role"]: one for one in record["verified"]}

    assert f"{outside.url}/v1" == roles["llm"]["server"]["base_url"]
    assert len(roles["llm"]["answers"]) > 1
    assert "remove" == changes(record)[f"container {named(CHAT)}"]["kind"]
    assert "42" == chat
    assert SERVERS - {CHAT} == set(ports)
    for server in ports:
        row = next(line for line in status.splitlines() if line.startswith(named(server)))
        assert "running" in row
        assert f"http://127.0.0.1:{ports[server]}/v1" in row
    assert {"front", "gateway-proxy", *map(named, ports)} == {
        one for one in down if not one.startswith("gateway-2")
    }
    assert 1 == sum(one.startswith("gateway-2") for one in down)
    assert "42" == alive
    assert_nothing_left(contained, ports)


def assert_nothing_left(contained: Contained, ports: dict[str, int]) -> None:
    """Check that no container is there, whatever its state, and that nobody has the ports."""
    assert {} == contained.containers()
    assert {} == contained.host.running()
    for port in ports.values():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    assert "nothing ran" in contained.host.pmoves("down").stdout
