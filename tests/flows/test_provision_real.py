"""The whole line on one simulated host, with everything real: server, weights, model, gateway."""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tasks.record import history
from tests.lab.environment import free_port
from tests.lab.host import LabHost, until

pytestmark = pytest.mark.real


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Hold a port as a stranger would."""
    import socket  # noqa: PLC0415  # this one alone needs it

    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        yield


def plain(name: str) -> str:
    """Return a program's name without the generation that a gateway has in it."""
    return "gateway" if name.startswith("gateway-2") else name


def running(host: LabHost) -> dict[str, int]:
    """Return the pids of what runs on a host, by plain name."""
    return {plain(name): pid for name, pid in host.running().items()}


def cosine(one: list[float], other: list[float]) -> float:
    """Return how alike two unit vectors are."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_gateway_gives_right_answers(host: LabHost) -> None:
    """A real request through the gateway: 384 numbers of length 1, and the order of similarity."""
    cat, kitten, crash = (host.embed(text) for text in ("a cat sits", "a kitten rests", "stock market crash"))

    assert 384 == len(cat)
    assert math.isclose(1, math.hypot(*cat), abs_tol=1e-3)
    assert cosine(cat, kitten) > cosine(cat, crash) + 0.3


def test_the_run_and_its_evidence_are_in_prefect(host: LabHost) -> None:
    """The run completed, and the host's artifact holds what was seen, decided, done and measured."""
    runs = host.post("/flow_runs/filter", {"flows": {"name": {"any_": ["provision"]}}})
    artifacts = host.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["host-lab-host"]}}})

    assert "COMPLETED" in {run["state_type"] for run in runs}
    assert artifacts
    for part in ("## Seen", "## Decided", "## Done", "## Measured", "## Answers", "## Timeline"):
        assert part in artifacts[0]["data"]


def test_a_second_run_changes_nothing_and_says_why(host: LabHost) -> None:
    """No download, no restart, no swap; each resource has its reason."""
    before = host.running()

    record = host.json("provision")

    assert "nothing to do" == record["outcome"]
    assert before == host.running()
    assert {"keep"} == {change["kind"] for change in record["changes"]}
    assert ["weights", "process", "gateway"] == [
        change["resource"].split()[0] for change in record["changes"]
    ]
    assert all(change["reason"] for change in record["changes"])
    assert 0 == sum(one["fetched_bytes"] for one in record["pulled"])


def test_the_curl_line_works_when_pasted(host: LabHost) -> None:
    """The last lines of the table are a command that answers."""
    printed = host.pmoves("provision").stdout
    line = next(line for line in printed.splitlines() if line.strip().startswith("curl"))

    answer = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout

    assert '"embedding":[' in answer.replace(" ", "")


def test_a_dry_run_writes_no_history(host: LabHost) -> None:
    """It shows the plan and leaves the journal as it was."""
    path = history.journal(host.state, "lab-host")
    before = path.read_bytes()

    plan = host.json("provision", "--dry-run")

    assert "embedded" == plan["profile"]
    assert before == path.read_bytes()


def test_what_is_killed_comes_back_and_answers(host: LabHost) -> None:
    """The model server and the gateway are kept up without a run."""
    for name in ("model-all-minilm-l6-v2", "gateway", "gateway-proxy"):
        pid = running(host)[name]
        os.kill(pid, signal.SIGKILL)
        until(lambda name=name, pid=pid: running(host).get(name, pid) != pid, f"{name} stayed down")  # type: ignore[misc]

    def answers() -> bool:
        try:
            return len(host.embed("back again")) == 384
        except httpx.HTTPError:
            return False

    until(answers, "the gateway does not answer after the restart")


def test_a_server_that_was_stopped_by_hand_is_created_again(host: LabHost) -> None:
    """A run brings back what is missing and keeps the rest."""
    host.supervisor.stop("model-all-minilm-l6-v2")
    gateway = running(host)["gateway"]

    record = host.json("provision")

    kinds = {change["resource"]: change["kind"] for change in record["changes"]}
    assert "create" == kinds["process model-all-minilm-l6-v2"]
    assert gateway == running(host)["gateway"]
    assert 384 == len(host.embed("hello"))


def test_a_server_that_hangs_is_replaced(host: LabHost) -> None:
    """It runs, but its health path does not answer."""
    pid = host.running()["model-all-minilm-l6-v2"]
    os.kill(pid, signal.SIGSTOP)

    record = host.json("provision")

    change = next(one for one in record["changes"] if one["resource"] == "process model-all-minilm-l6-v2")
    assert ("replace", "it runs but its health path does not answer 200") == (
        change["kind"],
        change["reason"],
    )
    assert pid != host.running()["model-all-minilm-l6-v2"]


def test_history_and_status_show_it(host: LabHost) -> None:
    """The journal survives the server; status names every process."""
    host.json("provision")
    runs = host.json("history")
    names = {one["name"] for one in host.json("status")}

    assert ("nothing to do", "changed") == (runs[0]["outcome"], runs[-1]["outcome"])
    assert {"prefect-server", "gateway", "gateway-proxy", "model-all-minilm-l6-v2"} == set(map(plain, names))


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("provision", "jetsn"), 2, "there is no profile 'jetsn' (did you mean jetson?)"),
        (("plan", "rtx-4090"), 3, "it needs 1 nvidia card with 23.5 GiB each and this host has 0"),
        (("provision", "rtx-4090"), 3, "it needs 1 nvidia card with 23.5 GiB each and this host has 0"),
        (("profile", "show", "embeded"), 2, "did you mean embedded?"),
        (("profile", "apply", "nothing"), 2, "there is no profile 'nothing'"),
        (("provision", "--wait", "x"), 2, "--wait"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    host: LabHost, arguments: tuple[str, ...], code: int, part: str
) -> None:
    """An exit code, a sentence, no traceback, and everything as it was."""
    before = host.running()

    done = host.pmoves(*arguments)

    last = done.stderr.strip().splitlines()[-1]
    assert code == done.returncode
    assert last.startswith("pmoves: ")
    assert part in last
    assert "Traceback" not in done.stderr
    assert before == host.running()


def test_a_refused_run_is_in_the_history(host: LabHost) -> None:
    """With its sentence."""
    host.pmoves("provision", "rtx-5090")

    newest = host.json("history")[0]

    assert "refused" == newest["outcome"]
    assert "rtx-5090 does not fit this host" in newest["error"]


def test_a_refusal_on_a_fresh_host_starts_nothing(tmp_path: Path, minilm_cache: Path) -> None:
    """Not even the Prefect server that the run would have needed."""
    fresh = LabHost.make(tmp_path, minilm_cache)

    done = fresh.pmoves("provision", "rtx-4090")

    assert 3 == done.returncode
    assert "nothing was changed" in done.stderr
    assert set() == fresh.marked()
    assert 0 == fresh.supervisor.pid()


def test_a_killed_supervisor_is_no_obstacle(neighbour: LabHost) -> None:
    """The next run ends what it left, and everything is up again."""
    assert neighbour.pmoves("provision").returncode == 0
    os.kill(neighbour.supervisor.pid(), signal.SIGKILL)
    until(lambda: not neighbour.supervisor.pid(), "supervisord did not die")

    done = neighbour.pmoves("provision")

    assert 0 == done.returncode, done.stderr
    assert 384 == len(neighbour.embed("after all"))
    assert {"gateway", "gateway-proxy", "model-all-minilm-l6-v2"} == set(running(neighbour))


def test_what_is_not_served_is_said_after_a_run(host: LabHost) -> None:
    """Each role that is dropped, with its reason, and what installing something would add."""
    printed = host.pmoves("provision").stdout

    assert "dropped: llm, reranker, vision, whisper and code (needs a container engine)" in printed
    assert "A container engine is not here" in printed


@pytest.mark.parametrize(("variable", "code"), [("PMOVES_MODEL_PORT", 3), ("PMOVES_GATEWAY_PORT", 3)])
def test_a_port_in_use_is_refused_before_byte_one(neighbour: LabHost, variable: str, code: int) -> None:
    """Nothing is started; the sentence names the port and the variable."""
    port = free_port()
    with listening(port):
        done = neighbour.but(**{variable: str(port)}).pmoves("provision")

    assert code == done.returncode
    assert f"port {port} on 127.0.0.1" in done.stderr
    assert variable in done.stderr
    assert {} == neighbour.running()


def test_a_stranger_on_the_prefect_port_is_named(neighbour: LabHost) -> None:
    """Something listens there that is no Prefect server."""
    port = free_port()
    with listening(port):
        done = neighbour.but(PREFECT_API_URL=f"http://127.0.0.1:{port}/api").pmoves("provision")

    assert 3 == done.returncode
    assert f"port {port} on 127.0.0.1 is taken by a program that is no Prefect server" in done.stderr


def test_a_remote_prefect_server_is_not_started_here(neighbour: LabHost) -> None:
    """A server that is not on this host is somebody else's to start."""
    done = neighbour.but(PREFECT_API_URL="http://prefect.invalid:4200/api").pmoves("provision")

    assert 5 == done.returncode
    assert "it is not on this host" in done.stderr
    assert set() == neighbour.marked()


def test_a_state_folder_that_cannot_be_written_is_refused(neighbour: LabHost) -> None:
    """Its parent is a file."""
    (neighbour.folder / "file").write_text("")
    done = neighbour.but(PMOVES_STATE=str(neighbour.folder / "file/state")).pmoves("provision")

    assert 3 == done.returncode
    assert "cannot be written" in done.stderr
    assert "nothing was changed" in done.stderr


def test_a_second_run_while_one_goes_on_is_refused(host: LabHost) -> None:
    """It says which run holds the host."""
    from flows.host_run import host_lock  # noqa: PLC0415  # the lock of the program itself

    with host_lock(host.state, "the-first-run", wait_s=0):
        done = host.pmoves("provision")

    assert 4 == done.returncode
    assert "another run holds this host (run the-first-run, pid " in done.stderr


def test_down_does_not_cut_into_a_run(host: LabHost) -> None:
    """It is refused, and everything goes on."""
    from flows.host_run import host_lock  # noqa: PLC0415  # the lock of the program itself

    before = host.running()
    with host_lock(host.state, "the-first-run", wait_s=0):
        done = host.pmoves("down")

    assert 4 == done.returncode
    assert before == host.running()


def test_down_stops_everything_and_provision_brings_it_back(neighbour: LabHost) -> None:
    """By pid, and without a download."""
    assert neighbour.pmoves("provision").returncode == 0
    assert neighbour.marked()

    stopped = neighbour.json("down")

    assert ["gateway", "gateway-proxy", "model-all-minilm-l6-v2"] == sorted(map(plain, stopped))
    assert set() == neighbour.marked()
    assert [] == neighbour.json("down")
    assert 0 == sum(one["fetched_bytes"] for one in neighbour.json("provision")["pulled"])


def test_status_says_where_each_process_answers(host: LabHost) -> None:
    """The addresses are those of the last good run."""
    shown = host.pmoves("status").stdout

    assert host.gateway in shown
    assert f"http://127.0.0.1:{host.environment['PMOVES_MODEL_PORT']}/v1" in shown


def test_a_model_that_leaves_the_plan_is_removed(host: LabHost) -> None:
    """A model server that an earlier plan wanted goes, with its reason."""
    import sys  # noqa: PLC0415  # this one alone needs it

    from tasks.contracts import ProcessSpec  # noqa: PLC0415  # the same

    waits = (sys.executable, "-c", "import signal; signal.pause()")
    host.supervisor.start(ProcessSpec("model-of-yesterday", waits))

    record = host.json("provision")

    assert {
        "resource": "process model-of-yesterday",
        "kind": "remove",
        "reason": "the plan no longer has this model",
    } in record["changes"]
    assert "model-of-yesterday" not in host.running()
