"""The whole line with containers when something goes wrong: one sentence, and everything as it was before."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess, Popen

import docker
import httpx
import pytest

from tests.lab.contained import CHAT, Contained, EngineDoor, Hammer, answer, answers, named
from tests.lab.environment import free_port
from tests.lab.host import interrupt, until

pytestmark = pytest.mark.real

SLOW = {"PLAY_FAULT": "slow-load:60"}


def sentence(done: CompletedProcess[str]) -> str:
    """Return how a command ended: one line that has what, what stays and what to do, and no traceback."""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pmoves: ")
    assert 2 == last.count("; "), last
    return last


def begin(contained: Contained, *arguments: str) -> Popen[str]:
    """Start a run, and return once it has begun to replace the chat server."""
    contained.settled = False
    run = contained.host.start("provision", "lab", *arguments)

    def begun() -> bool:
        assert run.poll() is None, run.communicate()[1]
        found = contained.containers().get(f"{named(CHAT)}-next")
        return found is not None and found.running

    until(begun, "no replacement was started")
    return run


def one_for_each(contained: Contained) -> None:
    """Check that each server has one container, which runs, and that gateway and servers answer."""
    found = contained.containers()
    assert {named(server) for server in contained.ports()} == set(found)
    assert 4 == len(found)
    assert all(one.running for one in found.values())
    assert answers(contained.port(CHAT))
    assert "42" == contained.chat()
    assert 384 == len(contained.host.embed("it works"))


def test_a_replacement_that_crashes_leaves_the_old_one(contained: Contained) -> None:
    """The cause in one sentence; its log is kept, with its end in the record; no request was lost."""
    before = contained.lives()

    with (
        contained.image("llama.cpp", environment={"PLAY_FAULT": "exit-loading:3"}),
        Hammer(contained.port(CHAT)) as hammer,
    ):
        done = contained.host.pmoves("provision", "lab")

    assert 5 == done.returncode, done.stderr
    # The engine may have started it again before anybody looked.
    ended = ("exit code 3", "it keeps ending")
    assert any(one in sentence(done) for one in ended)
    last = contained.last()
    assert "failed" == last["outcome"]
    assert {"model-lab-chat", "model-lab-reranker"} >= {one["server"] for one in last["logs"]} != set()
    for one in last["logs"]:
        assert any(each in one["cause"] for each in ended)
        log = contained.host.state / "logs" / last["run"] / f"{one['server']}.log"
        assert 0o600 == log.stat().st_mode & 0o777
        assert one["tail"].strip() in log.read_text()
        assert "loading" in one["tail"] or one["tail"] == ""
    assert before == contained.lives()
    assert hammer.sent > 5
    assert [] == hammer.lost
    one_for_each(contained)


def test_a_replacement_that_answers_wrongly_never_serves(contained: Contained) -> None:
    """Nobody but the questions of the run reaches it, and all is as before."""
    before, ports = contained.lives(), contained.ports()

    with (
        contained.image("llama.cpp", environment={"PLAY_FAULT": "gibberish"}),
        Hammer(contained.port(CHAT)) as hammer,
    ):
        done = contained.host.pmoves("provision", "lab")

    assert 5 == done.returncode, done.stderr
    assert "answer" in sentence(done)
    assert [] == hammer.lost
    # The other server of that image answered rightly, and was swapped and swapped back without a stop.
    assert before == contained.lives()
    assert ports == contained.ports()
    one_for_each(contained)


@contextmanager
def stranger(contained: Contained, name: str, **labels: str) -> Iterator[str]:
    """Let somebody else have a container of a name; it must be as it was at the end."""
    client = contained.lab.client()
    image = contained.registry.repository("lab/play")
    pinned = next(one.image for one in contained.containers().values() if one.image.startswith(image))
    made = client.create_container(pinned, ["python3", "-c", "input()"], name=name, labels=labels)["Id"]
    before = client.inspect_container(made)
    try:
        yield made
        assert before == client.inspect_container(made)
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            client.remove_container(made, force=True)
        client.close()


def test_a_container_without_our_label_is_not_touched(contained: Contained) -> None:
    """It has the name that ours is to have: the run says so and ends."""
    contained.settled = False
    contained.docker.remove(contained.containers()[named(CHAT)].id)
    before = contained.lives()

    with stranger(contained, named(CHAT)):
        done = contained.host.pmoves("provision", "lab")

    assert 5 == done.returncode, done.stderr
    assert f"the container {named(CHAT)} was not made by this program" in sentence(done)
    assert before == contained.lives()


def test_a_container_of_another_host_is_not_touched(contained: Contained) -> None:
    """It is refused before the old container of ours is stopped for it."""
    before = contained.lives()

    with (
        stranger(contained, f"{named(CHAT)}-before", **{"ai.pmoves.owner": "another-host"}),
        contained.image("llama.cpp", environment={"LAB": "changed"}),
    ):
        done = contained.host.pmoves("provision", "lab")

    assert 5 == done.returncode, done.stderr
    assert f"the container {named(CHAT)}-before belongs to another-host" in sentence(done)
    assert before == contained.lives()
    one_for_each(contained)


def test_a_port_that_a_stranger_has_is_refused_early(contained: Contained) -> None:
    """Before anything is fetched or started; the servers of before go on."""
    import socket  # noqa: PLC0415  # this one alone needs it

    before, port = contained.lives(), free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = contained.host.but(PMOVES_MODEL_PORT=str(port)).pmoves("provision", "lab")

    assert 3 == done.returncode, done.stderr
    assert f"port {port} on 127.0.0.1" in sentence(done)
    assert before == contained.lives()
    one_for_each(contained)


def test_a_run_that_was_killed_while_it_waited_is_mended(contained: Contained) -> None:
    """The next run takes away what was half made, and keeps what served."""
    before = contained.lives()
    with contained.image("llama.cpp", environment=SLOW):
        run = begin(contained)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
    assert answers(contained.port(CHAT))

    record = contained.provision()

    assert "nothing to do" == record["outcome"]
    assert before == contained.lives()
    one_for_each(contained)


def test_a_run_that_was_killed_after_the_swap_is_mended(contained: Contained) -> None:
    """The old one still ends its last request under its other name: the next run takes it away."""
    port, over = contained.port(CHAT), f"{named(CHAT)}-before"
    with contained.image("llama.cpp", environment={"LAB": "swapped"}):
        contained.settled = False
        with slow_answer(port, seconds=45):
            run = contained.host.start("provision", "lab")
            until(lambda: over in contained.containers(), "the old one was not put aside")
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate(timeout=60)
            aside = contained.containers()[over]
            assert answers(port)
            contained.provision()
        assert contained.docker.inspect(aside.id) is None
        assert contained.docker.inspect(contained.containers()[named(CHAT)].id) is not None
        one_for_each(contained)
    contained.settled = False


@contextmanager
def slow_answer(port: int, *, seconds: int) -> Iterator[None]:
    """Have a question under way that a chat server answers late, if at all."""

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):
            answer(port)

    told = {"fault": f"slow:{seconds}", "times": 1}
    httpx.post(f"http://127.0.0.1:{port}/_ctl", json=told, trust_env=False).raise_for_status()
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        asking.join()


def test_a_second_run_is_refused_and_the_first_can_be_stopped(contained: Contained) -> None:
    """Exit code 4 names who holds the host; Ctrl-C on that one is 130, and nothing new runs afterwards."""
    before, ports = contained.lives(), contained.ports()
    with contained.image("llama.cpp", environment=SLOW):
        run = begin(contained)
        other = contained.host.pmoves("provision", "lab")
        down = contained.host.pmoves("down")
        code, errors = interrupt(run)

    assert 4 == other.returncode, other.stderr
    assert f"pid {run.pid}" in sentence(other)
    assert 4 == down.returncode
    assert 130 == code, errors
    assert "Traceback" not in errors
    assert before == contained.lives()
    assert ports == contained.ports()
    assert "interrupted" == contained.last()["outcome"]
    one_for_each(contained)


def test_an_engine_that_dies_in_the_middle_is_one_sentence(contained: Contained) -> None:
    """And once it is back, a run repairs everything."""
    with contained.image("llama.cpp", environment=SLOW):
        run = begin(contained)
        contained.lab.kill()
        try:
            _, errors = run.communicate(timeout=100)
        finally:
            contained.lab.start()

    assert "engine" in sentence(CompletedProcess((), run.returncode, "", errors))
    assert 5 == run.returncode, errors

    contained.provision()

    one_for_each(contained)


def test_an_engine_that_goes_after_the_plan_is_one_sentence(contained: Contained, tmp_path: Path) -> None:
    """The plan needs it, and at its first listing nobody answers any more."""
    before = contained.lives()
    engine = Path(contained.lab.address.removeprefix("unix://"))
    with EngineDoor(engine, tmp_path / "e.sock") as door:
        door.shut_at(b"/containers/json")
        done = contained.host.but(DOCKER_HOST=door.address).pmoves("provision", "lab")
        assert door.shut.is_set()

    assert "engine" in sentence(done)
    assert 5 == done.returncode, done.stderr
    assert before == contained.lives()
    one_for_each(contained)


def test_without_an_engine_a_bundle_of_containers_is_refused(contained: Contained) -> None:
    """Nothing is touched, and the sentence says why; `status` says that containers may run."""
    before = contained.lives()
    without = contained.host.but(DOCKER_HOST="unix:///nowhere/docker.sock")

    done = without.pmoves("provision", "lab")

    assert 3 == done.returncode, done.stderr
    assert "no container engine answers (there is no socket /nowhere/docker.sock)" in done.stderr
    assert "Traceback" not in done.stderr
    assert before == contained.lives()
    one_for_each(contained)
