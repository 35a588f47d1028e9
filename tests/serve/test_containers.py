"""Servers in containers: kept, created, replaced beside or in turns, and undone when they fail."""

from __future__ import annotations

import json
import re
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tasks.contracts import ContainerSpec, ModelServer
from tasks.effects.containers.engine import EngineGoneError, NoGpuError, RegistryAwayError
from tasks.effects.containers.memory import Behaviour
from tasks.effects.front.control import Backend
from tasks.effects.http import HttpError, Reply, Request
from tasks.errors import (
    ImageRefusedError,
    ImageUnavailableError,
    PortTakenError,
    ProvisionError,
    ServeError,
    ServerDiedError,
    StoppedError,
)
from tasks.serve import apply
from tasks.serve.context import ServeContext
from tests.serve.serving import GIB, Lab, containers, image, loading, pulled, server_of, verified

NAME, NEXT = "pmoves-model-qwen", "pmoves-model-qwen-next"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x9b]")


def changed(lab: Lab) -> ServeContext:
    """Begin a run that wants another spec of the same server."""
    qwen = lab.model()
    return lab.run(qwen, servers={"model-qwen": server_of(qwen, settings=(("--ctx-size", "9"),))})


def serve(ctx: ServeContext) -> ModelServer:
    """Serve the one model of a run."""
    return apply.serve(pulled(containers(ctx).models[0]), ctx)


# --- what goes well ------------------------------------------------------------------------------


def test_what_is_missing_is_created_and_pointed_to_once_verified(lab: Lab) -> None:
    """The front learns of a container when its answers were right, not before."""
    qwen = lab.model()
    ctx = lab.run(qwen)

    served = apply.serve(pulled(qwen), ctx)

    assert ("create", "there is no container of that name") == (served.change.kind, served.change.reason)
    assert NEXT == served.container
    assert "http://127.0.0.1:18101/v1" == served.base_url
    assert {} == lab.front.table

    (at,) = apply.promote((verified(served),), ctx)

    assert ("http://127.0.0.1:8101/v1", NAME) == (at.server.base_url, at.server.container)
    assert NAME == lab.points_to("model-qwen")
    assert {NAME: "running"} == lab.shown()


def test_what_runs_as_wanted_is_kept(lab: Lab) -> None:
    """One listing and one question what the engine is; nothing is looked at, pulled, started or written."""
    qwen = lab.model()
    lab.bring_up(qwen)
    before = lab.named(NAME).id
    lab.asked()
    did = list(lab.front.did)

    ctx = lab.run(qwen)
    (served,) = lab.finish(ctx, qwen)

    assert "keep" == served.change.kind
    assert ["containers", "info"] == lab.asked()
    assert before == lab.named(NAME).id
    assert did == lab.front.did


def test_a_front_that_does_not_know_a_kept_one_is_told(lab: Lab) -> None:
    """Somebody removed its table, or it leads elsewhere."""
    qwen = lab.model()
    lab.bring_up(qwen)
    lab.front.table.clear()

    (served,) = lab.finish(lab.run(qwen), qwen)

    assert ("keep", NAME) == (served.change.kind, lab.points_to("model-qwen"))


def test_a_kept_one_is_kept_without_a_network(lab: Lab) -> None:
    """What is pinned on the host is not looked up, also when the tag moves."""
    qwen = lab.model()
    lab.bring_up(qwen)
    lab.engine.tags.clear()
    lab.engine.registry.clear()

    (served,) = lab.finish(lab.run(qwen), qwen)

    assert "keep" == served.change.kind


def test_a_changed_spec_is_started_beside_where_there_is_room(lab: Lab) -> None:
    """The old one serves until the new one was right, and runs until the run has ended well.

    Only then it is stopped, after the last request that it answers.
    """
    lab.bring_up(lab.model())
    old = lab.named(NAME)
    ctx = changed(lab)

    served = serve(ctx)

    assert "started beside it" in served.change.reason
    assert {NAME: "running", NEXT: "running"} == lab.shown()
    assert NAME == lab.points_to("model-qwen")
    lab.front.did.clear()
    stopped_after: list[str] = []
    lab.engine.on_stop = lambda _spec, _port: stopped_after.extend(lab.front.did)

    apply.promote((verified(served),), ctx)

    assert ["point model-qwen 8101 -> 18201"] == lab.front.did
    assert [] == stopped_after
    assert {NAME: "running", f"{NAME}-before": "running"} == lab.shown()
    assert () == containers(ctx).ledger.commit()
    assert ["point model-qwen 8101 -> 18201", "drained model-qwen"] == lab.front.did == stopped_after
    assert {NAME: "running"} == lab.shown()
    assert old.id != lab.named(NAME).id


def test_without_room_the_old_one_stops_first(lab: Lab) -> None:
    """And both numbers are said."""
    qwen = lab.model(size_bytes=8 * GIB)
    lab.bring_up(qwen)
    lab.main_bytes = 2 * GIB
    other = server_of(qwen, settings=(("--ctx-size", "9"),))

    ctx = lab.run(qwen, servers={"model-qwen": other})
    served = apply.serve(pulled(qwen), replace(ctx, deadline_s=1.0))

    assert served.change.reason.endswith(
        "stopped first: it needs 8.0 GiB of main memory and 2.0 GiB are free"
    )
    assert {NAME: "exited", NEXT: "running"} == lab.shown()


def test_what_was_replaced_makes_room_before_what_still_serves(lab: Lab) -> None:
    """An old container that only waits for the end of the run goes; the next server is swapped beside."""
    one, two = lab.model("one", size_bytes=GIB), lab.model("two", size_bytes=8 * GIB, port=8102)
    lab.finish(lab.run(one, two), one, two)
    servers = {
        "model-one": server_of(one, settings=(("--ctx-size", "9"),)),
        "model-two": server_of(two, settings=(("--ctx-size", "9"),)),
    }
    ctx = lab.run(one, two, servers=servers)
    apply.promote((verified(apply.serve(pulled(one), ctx)),), ctx)
    lab.front.did.clear()
    lab.main_bytes = 2 * GIB

    def freed(_spec: object, _port: int) -> None:
        lab.main_bytes = 9 * GIB

    lab.engine.on_stop = freed
    served = apply.serve(pulled(two), ctx)

    assert "started beside it" in served.change.reason
    assert "drained model-one" in lab.front.did
    assert {
        "pmoves-model-one": "running",
        "pmoves-model-one-before": "exited",
        "pmoves-model-two": "running",
        "pmoves-model-two-next": "running",
    } == lab.shown()


def test_a_second_change_goes_back_to_the_first_port(lab: Lab) -> None:
    """Two ports are used in turns."""
    qwen = lab.model()
    ports = []
    for place in range(3):
        wanted = server_of(qwen, settings=(("--ctx-size", str(place)),))
        lab.finish(lab.run(qwen, servers={"model-qwen": wanted}), qwen)
        ports.append(lab.named(NAME).published)

    assert [18101, 18201, 18101] == ports


def test_an_image_that_moves_on_replaces(lab: Lab) -> None:
    """Another digest in the catalogue is another container."""
    qwen = lab.model()
    lab.bring_up(qwen)
    digest = lab.engine.offer("lab/llama.cpp:2").partition("@")[2]
    wanted = server_of(qwen, image=image("llama.cpp", tag="2", digest=digest))

    (served,) = lab.finish(lab.run(qwen, servers={"model-qwen": wanted}), qwen)

    assert served.change.reason.startswith("its image changes from llama.cpp@")


def test_what_runs_and_does_not_answer_is_replaced(lab: Lab) -> None:
    """A hung server gets its patience, and no more."""
    qwen = lab.model()
    lab.bring_up(qwen)
    old = lab.named(NAME)

    def hung(request: Request) -> Reply:
        return loading(request) if f":{old.published}/" in request.url else Reply(200, b"", 0.0)

    lab.answers["model-qwen"] = hung

    (served,) = lab.finish(lab.run(qwen), qwen)

    assert ("replace", True) == (
        served.change.kind,
        served.change.reason.startswith("it runs but its health"),
    )
    assert old.id != lab.named(NAME).id


def test_what_came_up_just_now_is_given_the_time_to_load(lab: Lab) -> None:
    """A host that came up a moment ago loads for minutes; that is no reason to load everything twice."""
    qwen = lab.model()
    lab.bring_up(qwen)
    old = lab.named(NAME)
    lab.engine._made[old.id].state = replace(old, started_at=time.time())
    asked: list[Request] = []

    def slow(request: Request) -> Reply:
        asked.append(request)
        return loading(request) if len(asked) < 40 else Reply(200, b"", 0.0)

    lab.answers["model-qwen"] = slow

    (served,) = lab.finish(lab.run(qwen, patience_s=0.02, deadline_s=10.0), qwen)

    assert ("keep", old.id) == (served.change.kind, lab.named(NAME).id)


def test_one_that_fell_long_ago_and_serves_since_is_kept(lab: Lab) -> None:
    """Engines count restarts over a container's whole life."""
    qwen = lab.model()
    lab.bring_up(qwen)
    old = lab.named(NAME)
    lab.engine._made[old.id].state = replace(old, restarts=3)
    asked: list[Request] = []

    def second(request: Request) -> Reply:
        asked.append(request)
        return loading(request) if len(asked) < 4 else Reply(200, b"", 0.0)

    lab.answers["model-qwen"] = second

    (served,) = lab.finish(lab.run(qwen, patience_s=5.0), qwen)

    assert ("keep", []) == (served.change.kind, containers(lab.run(qwen)).died)


def test_weights_that_were_replaced_are_loaded_again(lab: Lab) -> None:
    """llama.cpp maps them into memory once."""
    qwen = lab.model()
    lab.bring_up(qwen)

    (served,) = lab.finish(lab.run(qwen), qwen, kind="replace")

    assert "the weights it loaded were damaged and have been replaced" in served.change.reason


def test_ollama_reads_replaced_weights_without_a_restart(lab: Lab) -> None:
    """Its container stays."""
    llama = lab.model("llama", runtime="ollama", server="ollama-cpu")
    lab.bring_up(llama)
    before = lab.named("pmoves-ollama-cpu").id

    (served,) = lab.finish(lab.run(llama), llama, kind="replace")

    assert ("keep", before) == (served.change.kind, lab.named("pmoves-ollama-cpu").id)


def test_a_kept_server_restarts_for_the_second_model_whose_weights_were_replaced(lab: Lab) -> None:
    """The first model of a server does not decide for all."""
    one, two = (lab.model(name, runtime="speaches", server="speaches-cpu") for name in ("one", "two"))
    lab.bring_up(one, two)
    before = lab.named("pmoves-speaches-cpu").id
    ctx = lab.run(one, two)

    kinds = [
        apply.serve(pulled(one), ctx).change.kind,
        apply.serve(pulled(two, "replace"), ctx).change.kind,
    ]

    assert ["keep", "replace"] == kinds
    assert before != containers(ctx).running["speaches-cpu"].container.id  # type: ignore[union-attr]


def test_load_time_is_the_time_to_come_up(lab: Lab) -> None:
    """Of a server that loads at its start; one that was kept has loaded before."""
    qwen = lab.model()
    asked: list[Request] = []

    def slow(request: Request) -> Reply:
        asked.append(request)
        return loading(request) if len(asked) < 20 else Reply(200, b"", 0.0)

    lab.answers["model-qwen"] = slow
    (first,) = lab.finish(lab.run(qwen, deadline_s=10.0), qwen)
    (second,) = lab.finish(lab.run(qwen), qwen)

    assert first.load_s > 19 * 0.002
    assert second.load_s < first.load_s / 2


# --- images --------------------------------------------------------------------------------------


def test_an_image_is_pulled_once_and_pinned(lab: Lab) -> None:
    """The host stays with the digest that it had first."""
    qwen = lab.model()
    ctx = lab.run(qwen)

    pinned = apply.fetch_image("model-qwen", ctx)
    apply.serve(pulled(qwen), ctx)

    assert ["pull"] == [name for name in lab.asked() if name == "pull"]
    assert {"lab/llama.cpp:1": pinned.partition("@")[2]} == json.loads(lab.pins.read_text())


def test_an_image_that_is_here_needs_no_network(lab: Lab) -> None:
    """The container went, the image stayed."""
    qwen = lab.model()
    lab.bring_up(qwen)
    lab.engine.remove(lab.named(NAME).id)
    lab.engine.registry.clear()
    lab.engine.tags.clear()
    lab.asked()

    lab.finish(lab.run(qwen), qwen)

    assert {"pull", "digest_of"}.isdisjoint(lab.asked())


def test_a_kept_container_is_pinned_again(lab: Lab) -> None:
    """Who removes the lock file lets the digests be looked up once more, and not on every run."""
    qwen = lab.model()
    lab.bring_up(qwen)
    lab.pins.unlink()

    lab.bring_up(qwen)

    assert ["lab/llama.cpp:1"] == list(json.loads(lab.pins.read_text()))


@pytest.mark.parametrize(
    ("error", "kind"), [(RegistryAwayError("it is away"), ImageUnavailableError), (None, ImageRefusedError)]
)
def test_an_image_that_cannot_be_had(
    lab: Lab, error: RegistryAwayError | None, kind: type[ServeError]
) -> None:
    """Another try may help or not; the server that serves is not touched."""
    lab.bring_up(lab.model())
    ctx = changed(lab)
    lab.engine.images.clear()
    lab.engine.registry.clear()
    if error is not None:
        lab.engine.fail("pull", error)

    with pytest.raises(kind, match=r"the image lab/llama.cpp:1 cannot be had") as raised:
        serve(ctx)

    assert (error is not None) == raised.value.retryable
    assert {NAME: "running"} == lab.shown()


def test_a_damaged_lock_file_is_named(lab: Lab) -> None:
    """Nothing is guessed."""
    lab.pins.parent.mkdir()
    lab.pins.write_text("no json")

    with pytest.raises(ServeError, match=r"images\.lock\.json, which pins the images of this host"):
        serve(lab.run(lab.model()))


# --- what fails ----------------------------------------------------------------------------------


def busy(lab: Lab) -> None:
    """Let a program listen where the container is to be published, after the port was chosen."""
    lab.engine.busy_ports |= {18201}


def no_gpu(lab: Lab) -> None:
    """Let the engine not hand out what was asked for."""
    lab.engine.fail("create", NoGpuError("the engine cannot hand out GPUs"))


def crash(lab: Lab) -> None:
    """Let it end at once."""
    lab.engine.behave("model-qwen", Behaviour(exit_code=1, log="\x1b[31merror: no such file\x1b[0m\n"))


def loop(lab: Lab) -> None:
    """Let it end again and again."""
    lab.engine.behave("model-qwen", Behaviour(exit_code=1, restarts=4, log="error: no such file\n"))


def oom(lab: Lab) -> None:
    """Let the kernel end it."""
    lab.engine.behave("model-qwen", Behaviour(exit_code=137, oom_killed=True, log="loading\n"))


def never(lab: Lab) -> None:
    """Let it load for ever."""
    lab.engine.behave("model-qwen", Behaviour(log="still loading\n"))
    old = {one.published for one in lab.everything()}

    def answer(request: Request) -> Reply:
        mine = any(f":{port}/" in request.url for port in old)
        return Reply(200, b"", 0.0) if mine else loading(request)

    lab.answers["model-qwen"] = answer


def away(lab: Lab) -> None:
    """Let the engine go away while it is looked at."""
    never(lab)
    lab.engine.fail("inspect", *[EngineGoneError("the container engine stopped answering")] * 2)


FAILURES: list[tuple[Callable[[Lab], None], type[ProvisionError], str, str]] = [
    (busy, PortTakenError, "the port on 127.0.0.1 is taken", ""),
    (no_gpu, ServeError, "the engine cannot hand out GPUs", ""),
    (crash, ServerDiedError, "it ended with exit code 1, saying: error: no such file", "no such file"),
    (loop, ServerDiedError, "it ended with exit code 1, 4 times", "no such file"),
    (oom, ServerDiedError, "the kernel killed it, because main memory ran out", "loading"),
    (never, ServeError, "did not answer http", "still loading"),
    (away, ServeError, "the container engine stopped answering", ""),
]


@pytest.mark.parametrize("first", [True, False], ids=["in-its-place", "beside"])
@pytest.mark.parametrize(
    ("fails", "kind", "said", "log"), FAILURES, ids=lambda one: getattr(one, "__name__", "")
)
def test_what_fails_leaves_what_served(
    lab: Lab, *, first: bool, fails: Callable[[Lab], None], kind: type[ProvisionError], said: str, log: str
) -> None:
    """No container of the new kind is left, the old one serves, one sentence says why, the log is kept."""
    lab.bring_up(lab.model())
    old = lab.named(NAME).id
    lab.main_bytes = 0 if first else lab.main_bytes
    ctx = replace(changed(lab), deadline_s=0.1)
    fails(lab)

    with pytest.raises(kind) as raised:
        serve(ctx)
    containers(ctx).ledger.rollback()

    assert said in str(raised.value)
    assert not CONTROL.search(str(raised.value))
    assert {NAME: "running"} == lab.shown()
    assert old == lab.named(NAME).id
    assert NAME == lab.points_to("model-qwen")
    assert not containers(ctx).claimed.get("model-qwen")
    kept = lab.tmp / "logs" / "model-qwen.log"
    assert bool(log) == kept.exists()
    if log:
        assert log in kept.read_text()
        assert 0o600 == stat.S_IMODE(kept.stat().st_mode)
        assert str(kept) in str(raised.value)
        (told,) = containers(ctx).died
        assert ("model-qwen", True) == (told.server, log in told.tail)


def test_the_limit_that_was_reached_is_the_containers(lab: Lab) -> None:
    """Not what was planned: it may take a quarter and 1 GiB more."""
    qwen = lab.model()
    oom(lab)
    ctx = lab.run(qwen, servers={"model-qwen": server_of(qwen, memory_bytes=4 * GIB)})

    with pytest.raises(ServerDiedError, match=r"it took more main memory than its limit of 6\.0 GiB"):
        serve(ctx)


@pytest.mark.parametrize("fails", [crash, never])
def test_what_was_stopped_first_serves_again_before_the_run_ends(
    lab: Lab, fails: Callable[[Lab], None]
) -> None:
    """Nobody waits for the rollback, which comes when all chains have ended."""
    lab.bring_up(lab.model(size_bytes=8))
    lab.main_bytes = 0
    ctx = changed(lab)
    fails(lab)

    with pytest.raises(ServeError):
        serve(replace(ctx, deadline_s=0.1))

    assert {NAME: "running"} == lab.shown()


def test_one_that_stands_still_fails_long_before_its_deadline(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes use no time, read nothing and take no memory."""
    monkeypatch.setattr("tasks.serve.hosts.container.activity", lambda _pids: 7)
    never(lab)

    with pytest.raises(ServeError, match=r"does nothing for 0\.05 s while it loads \(last answer: HTTP 503"):
        serve(lab.run(lab.model(), quiet_s=0.05, deadline_s=600.0))

    assert {} == lab.shown()


def test_one_whose_processes_cannot_be_read_has_its_whole_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine in a machine of its own has pids that mean nothing here."""
    monkeypatch.setattr("tasks.serve.hosts.container.activity", lambda _pids: 0)
    never(lab)

    with pytest.raises(ServeError, match="did not answer"):
        serve(lab.run(lab.model(), quiet_s=0.02, deadline_s=0.2))


def test_one_that_works_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes, within its deadline."""
    ticks = iter(range(1, 10_000))
    monkeypatch.setattr("tasks.serve.hosts.container.activity", lambda _pids: next(ticks))
    asked: list[Request] = []

    def slow(request: Request) -> Reply:
        asked.append(request)
        return loading(request) if len(asked) < 40 else Reply(200, b"", 0.0)

    lab.answers["model-qwen"] = slow

    assert "create" == serve(lab.run(lab.model(), quiet_s=0.03, deadline_s=60.0)).change.kind


def test_a_stop_ends_the_wait_and_takes_the_new_one_away(lab: Lab) -> None:
    """The one that serves goes on."""
    lab.bring_up(lab.model())
    stop = threading.Event()
    ctx = replace(changed(lab), stop=stop, deadline_s=60.0)

    def stopping(request: Request) -> Reply:
        stop.set()
        return loading(request)

    lab.answers["model-qwen"] = stopping

    with pytest.raises(StoppedError):
        serve(ctx)

    assert {NAME: "running"} == lab.shown()


def test_a_run_that_was_stopped_begins_nothing(lab: Lab) -> None:
    """A chain that comes late finds the signal."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        serve(replace(lab.run(lab.model()), stop=stop))

    assert "create" not in lab.asked()


def test_nothing_is_begun_after_the_run_was_undone(lab: Lab) -> None:
    """Nobody would undo it any more."""
    ctx = lab.run(lab.model())
    containers(ctx).ledger.rollback()

    with pytest.raises(StoppedError, match="the run is over"):
        serve(ctx)

    assert {} == lab.shown()


@pytest.mark.parametrize("name", [NAME, NEXT, f"{NAME}-before"])
def test_a_strangers_container_is_refused_before_anything_stops(lab: Lab, name: str) -> None:
    """It keeps its name, and what serves goes on."""
    if name != NAME:
        lab.bring_up(lab.model())
    lab.engine.stranger(name)
    lab.main_bytes = 0
    ctx = changed(lab)
    lab.asked()

    with pytest.raises(ServeError, match=f"the container {name} was not made by this program") as raised:
        serve(ctx)

    assert "rename or remove that container" in raised.value.then
    assert {"stop", "create", "remove"}.isdisjoint(lab.asked())
    assert {"running"} == set(lab.shown().values())


def test_an_engine_that_is_gone_does_not_hide_why(lab: Lab) -> None:
    """What cannot be undone now is undone by the rollback, and the first error is the one that is shown."""
    lab.bring_up(lab.model())
    ctx = changed(lab)
    crash(lab)
    lab.engine.fail("remove", EngineGoneError("it went away"))

    with pytest.raises(ServerDiedError):
        serve(ctx)

    assert any("could not be undone yet (it went away)" in one for one in lab.events)
    assert () == containers(ctx).ledger.rollback()
    assert {NAME: "running"} == lab.shown()


def test_a_load_that_fails_keeps_the_log(lab: Lab) -> None:
    """Its container goes with the rollback, and `docker logs` with it."""
    llama = lab.model("llama", runtime="ollama", server="ollama-cpu")
    lab.engine.behave("ollama-cpu", Behaviour(log="level=ERROR\n"))
    lab.answers["ollama-cpu"] = lambda one: Reply(
        200 if one.method == "GET" else 500, b'{"error":"no room"}', 0
    )

    with pytest.raises(ServeError, match=r'does not load llama .HTTP 500: {"error":"no room"}') as raised:
        apply.serve(pulled(llama), lab.run(llama))

    assert str(lab.tmp / "logs" / "ollama-cpu.log") in raised.value.then
    assert "level=ERROR\n" == (lab.tmp / "logs" / "ollama-cpu.log").read_text()


def test_a_load_that_ends_the_server_says_why(lab: Lab) -> None:
    """The broken connection is not the cause."""
    llama = lab.model("llama", runtime="ollama", server="ollama-cpu")

    def dies(request: Request) -> Reply:
        if request.method == "GET":
            return Reply(200, b"", 0.0)
        lab.engine.end("pmoves-ollama-cpu-next", exit_code=137, oom_killed=True)
        raise HttpError("the connection broke")

    lab.answers["ollama-cpu"] = dies

    with pytest.raises(ServerDiedError, match="the server of llama died: the kernel killed it"):
        apply.serve(pulled(llama), lab.run(llama))


def test_a_load_that_fails_where_the_engine_is_gone_accuses_nobody(lab: Lab) -> None:
    """That its container was removed is not known."""
    llama = lab.model("llama", runtime="ollama", server="ollama-cpu")

    def gone(request: Request) -> Reply:
        if request.method == "GET":
            return Reply(200, b"", 0.0)
        lab.engine.fail("inspect", EngineGoneError("it went away"))
        raise HttpError("the connection broke")

    lab.answers["ollama-cpu"] = gone

    with pytest.raises(ServeError, match=r"does not load llama \(the connection broke\)"):
        apply.serve(pulled(llama), lab.run(llama))


def test_a_kept_server_that_was_restarted_once_is_not_called_dead(lab: Lab) -> None:
    """A load that it refuses is its own answer."""
    llama = lab.model("llama", runtime="ollama", server="ollama-cpu")
    lab.bring_up(llama)
    old = lab.named("pmoves-ollama-cpu")
    lab.engine._made[old.id].state = replace(old, restarts=1)
    lab.answers["ollama-cpu"] = lambda one: Reply(200 if one.method == "GET" else 404, b"", 0)

    with pytest.raises(ServeError, match="does not load llama"):
        apply.serve(pulled(llama), lab.run(llama))


def test_a_host_without_an_engine_is_told(lab: Lab) -> None:
    """And nothing is looked for."""
    qwen = lab.model()

    with pytest.raises(ServeError, match=r"runs in a container of llama\.cpp, and there is no engine"):
        apply.serve(pulled(qwen), replace(lab.run(qwen), containers=None))


# --- several at once -----------------------------------------------------------------------------


def test_models_of_one_server_share_one_container(lab: Lab) -> None:
    """However their chains meet."""
    names = ("one", "two", "three")
    models = [lab.model(name, runtime="ollama", server="ollama-cpu") for name in names]
    ctx = lab.run(*models)

    with ThreadPoolExecutor(3) as pool:
        served = list(pool.map(lambda one: apply.serve(pulled(one), ctx), models))

    assert {"pmoves-ollama-cpu-next": "running"} == lab.shown()
    assert 1 == len({one.base_url for one in served})
    assert 1 == lab.asked().count("create")


def test_a_server_that_failed_is_not_tried_again_for_its_other_models(lab: Lab) -> None:
    """They say the same, at once."""
    models = [lab.model(name, runtime="speaches", server="speaches-cpu") for name in ("one", "two")]
    lab.engine.behave("speaches-cpu", Behaviour(exit_code=1, log="error: no\n"))
    ctx = lab.run(*models)
    said = []
    for one in models:
        with pytest.raises(ServerDiedError) as raised:
            apply.serve(pulled(one), ctx)
        said.append(str(raised.value))

    assert said[0] == said[1]
    assert 1 == lab.asked().count("create")


def test_servers_that_start_at_once_get_ports_of_their_own(lab: Lab) -> None:
    """Though one's second choice is the other's first."""
    one, two = lab.model("one", port=8101), lab.model("two", port=8001)
    lab.listening |= {18001}
    ctx = lab.run(one, two)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: apply.serve(pulled(each), ctx), (one, two)))

    assert 2 == len({each.published for each in lab.everything()})


def test_a_server_in_the_way_makes_room(lab: Lab) -> None:
    """One that the plan changes stops for another, and comes back in its own turn."""
    lab.card()
    one = lab.model("one", device_name="gpu0", size_bytes=8 * GIB, port=8101)
    two = lab.model("two", device_name="gpu0", size_bytes=8 * GIB, port=8102)
    lab.bring_up(one)
    lab.cards = (replace(lab.cards[0], memory_free_bytes=GIB),)
    ctx = lab.run(one, two, servers={"model-one": server_of(one, settings=(("--ctx-size", "9"),))})

    apply.serve(pulled(two), ctx)

    assert {"pmoves-model-one": "exited", "pmoves-model-two-next": "running"} == lab.shown()

    assert () == containers(ctx).ledger.rollback()
    assert {"pmoves-model-one": "running"} == lab.shown()


def test_a_server_that_stays_makes_no_room(lab: Lab) -> None:
    """It is as the plan wants it, also where the digests of its images were forgotten."""
    lab.card()
    one = lab.model("one", device_name="gpu0", size_bytes=8 * GIB, port=8101)
    two = lab.model("two", device_name="gpu0", size_bytes=8 * GIB, port=8102)
    lab.engine.offer("lab/llama.cpp:9")
    its = {"model-one": server_of(one, image=image("llama.cpp", tag="9"))}
    lab.bring_up(one, servers=its)
    lab.pins.unlink()
    lab.cards = (replace(lab.cards[0], memory_free_bytes=GIB),)
    before = lab.named("pmoves-model-one").id
    ctx = lab.run(one, two, servers=its)

    served = [apply.serve(pulled(each), ctx) for each in (two, one)]
    apply.promote(tuple(map(verified, served)), ctx)
    containers(ctx).ledger.commit()

    assert {"pmoves-model-one": "running", "pmoves-model-two": "running"} == lab.shown()
    assert before == lab.named("pmoves-model-one").id


def test_what_loads_is_counted_until_it_is_loaded(lab: Lab) -> None:
    """A card shows only what is there; of two models of a server, the second still counts."""
    models = [
        lab.model(name, runtime="ollama", server="ollama-gpu0", device_name="gpu0", size_bytes=GIB * size)
        for name, size in (("one", 3), ("two", 5))
    ]
    lab.card()
    ctx = lab.run(*models)
    left = []
    for one in models:
        apply.serve(pulled(one), ctx)
        left.append(dict(containers(ctx).claimed["ollama-gpu0"]))

    assert [{"gpu0": 5 * GIB}, {"gpu0": 0}] == left


def test_others_are_not_kept_waiting_while_one_makes_room(lab: Lab) -> None:
    """An engine may take half a minute to stop a container; locks of other servers are to be had."""
    lab.bring_up(lab.model())
    lab.main_bytes = 0
    ctx, entered, go_on = changed(lab), threading.Event(), threading.Event()

    def stopping(_spec: object, _port: int) -> None:
        entered.set()
        go_on.wait(5)

    lab.engine.on_stop = stopping
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(serve, ctx)
        assert entered.wait(5)
        free = containers(ctx).lock.acquire(timeout=1)
        if free:
            containers(ctx).lock.release()
        go_on.set()
        future.result()

    assert free


# --- ports ---------------------------------------------------------------------------------------


def test_a_port_that_listens_or_is_used_is_never_chosen(lab: Lab) -> None:
    """Programs, other containers, stable ports and the front's table are all stepped over."""
    lab.listening |= {18101}
    lab.front.table["else"] = Backend(18201, 18301)
    qwen, other = lab.model(), lab.model("other", port=18401)

    served = apply.serve(pulled(qwen), lab.run(qwen, other))

    assert "http://127.0.0.1:18501/v1" == served.base_url


def test_where_all_ports_are_taken_it_is_said(lab: Lab) -> None:
    """No port is tried that somebody has."""
    lab.listening |= set(range(10_000, 65_536))

    with pytest.raises(PortTakenError, match=r"every port of 100 on 127.0.0.1 that model-qwen could have"):
        serve(lab.run(lab.model()))

    assert "create" not in lab.asked()


def test_high_ports_have_theirs_below(lab: Lab) -> None:
    """There is no port beyond the last."""
    served = apply.serve(pulled(lab.model(port=60_000)), lab.run(lab.model(port=60_000)))

    assert "http://127.0.0.1:50000/v1" == served.base_url


# --- what is not planned any more, and what was left behind -----------------------------------------


def test_what_is_not_planned_any_more_goes(lab: Lab) -> None:
    """Out of the front, stopped, and removed when the run has ended well."""
    one, two = lab.model("one", port=8101), lab.model("two", port=8102)
    lab.bring_up(one, two)
    ctx = lab.run(one)
    apply.promote((verified(apply.serve(pulled(one), ctx)),), ctx)

    made = apply.remove_unplanned(ctx)

    assert ["container pmoves-model-two"] == [change.resource for change in made]
    assert {"pmoves-model-one": "running", "pmoves-model-two": "exited"} == lab.shown()
    assert ["model-one"] == list(lab.front.table)

    containers(ctx).ledger.commit()
    assert {"pmoves-model-one": "running"} == lab.shown()


def test_what_is_not_planned_any_more_comes_back_when_the_run_fails(lab: Lab) -> None:
    """With its port."""
    two = lab.model("two")
    lab.bring_up(two)
    ctx = lab.run()
    apply.remove_unplanned(ctx)

    assert () == containers(ctx).ledger.rollback()
    assert "pmoves-model-two" == lab.points_to("model-two")


def test_the_gateways_containers_are_left_alone(lab: Lab) -> None:
    """They belong to the route stage, which knows which of them still has requests."""
    made_of = lab.engine.offer("registry/gateway:1", here=True)
    spec = ContainerSpec("pmoves-gateway-g1", "gateway-g1", made_of, (), (), port=3000)
    lab.engine.start(lab.engine.create(spec, host_port=19000).id)

    assert () == apply.remove_unplanned(lab.run())
    assert {"pmoves-gateway-g1": "running"} == lab.shown()


def test_a_port_without_a_container_or_a_plan_goes(lab: Lab) -> None:
    """Somebody removed the container by hand."""
    lab.front.table["model-old"] = Backend(8109, 18109)

    made = apply.remove_unplanned(lab.run())

    assert ["port of model-old"] == [change.resource for change in made]
    assert {} == lab.front.table


def test_a_server_whose_name_ends_like_a_new_one_is_no_leftover(lab: Lab) -> None:
    """Models are called "next", too."""
    qwen = lab.model("qwen3-next")
    lab.bring_up(qwen)

    (served,) = lab.finish(lab.run(qwen), qwen)

    assert ("keep", "pmoves-model-qwen3-next") == (served.change.kind, lab.points_to("model-qwen3-next"))


def test_recovery_says_what_it_removes(lab: Lab) -> None:
    """What a killed run left is gone before the next one begins."""
    serve(lab.run(lab.model()))

    lab.run(lab.model())

    assert f"{NEXT}: removed: a run that was killed had left it behind" in lab.events
    assert {} == lab.shown()


def test_recovery_that_fails_says_what_it_was_doing(lab: Lab) -> None:
    """Nothing was to be started."""
    serve(lab.run(lab.model()))
    lab.engine.fail("remove", EngineGoneError("it went away"))

    with pytest.raises(
        ServeError, match=r"what an earlier run left behind cannot be removed \(it went away\)"
    ):
        lab.run(lab.model())
