"""What a run did to containers: undone as a whole, made final as a whole, and mended when it was killed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.contracts import ContainerSpec, ContainerState
from tasks.effects.containers import EngineError
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.front.control import Backend
from tasks.effects.front.memory import MemoryFront
from tasks.errors import PortTakenError, ServeError, StoppedError
from tasks.serve import apply
from tasks.serve.context import ServeContext
from tasks.serve.ledger import Entry, Ledger
from tasks.serve.sweep import sweep
from tests.serve.serving import OWNER, KilledError, Lab, containers, loading, pulled, server_of, verified

NAME = "pmoves-llm"
OTHER_SPEC = (("--ctx-size", "9"),)


class Host:
    """An engine with one image, and a front."""

    def __init__(self) -> None:
        self.engine = MemoryEngine(OWNER)
        self.image = self.engine.offer("lab/image:1", here=True)
        self.front = MemoryFront()

    def made(self, name: str = NAME, server: str = "llm", *, port: int = 18101) -> ContainerState:
        """Return a new container that runs."""
        spec = ContainerSpec(name, server, self.image, (), (), 8080)
        found = self.engine.create(spec, host_port=port)
        self.engine.start(found.id)
        there = self.engine.inspect(found.id)
        assert there is not None
        return there

    def swapped(self, ledger: Ledger, *, first: bool = False) -> Entry:
        """Replace the server's container: beside the old one, or in its place."""
        old = self.engine.find(NAME)
        entry = ledger.open("llm", old)
        if first:
            ledger.stop(entry, first=True)
        entry.new = self.made(f"{NAME}-next", port=18201)
        return entry

    def shown(self) -> dict[str, str]:
        """Return what is there, by name."""
        return {one.name: one.state for one in self.engine.containers()}


class Renaming:
    """An engine whose next rename is another's."""

    def __init__(self, rename: Callable[[str, str], None]) -> None:
        self.rename = rename


@pytest.fixture
def host() -> Host:
    """Return a host on which a server runs and is pointed to."""
    made = Host()
    made.made()
    made.front.point("llm", 8101, 18101)
    return made


@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_a_swap_is_undone(host: Host, *, first: bool, promoted: bool) -> None:
    """However far it came: the old one runs under its name, and the front leads to it."""
    before, ledger = host.engine.find(NAME), Ledger(host.engine, host.front)
    entry = host.swapped(ledger, first=first)
    if promoted:
        ledger.promote(entry, 8101)
        ledger.stop(entry)

    assert () == ledger.rollback()

    after = host.engine.find(NAME)
    assert before is not None
    assert after is not None
    assert (before.id, {NAME: "running"}) == (after.id, host.shown())
    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_the_old_one_serves_before_the_front_goes_back_to_it(host: Host) -> None:
    """And the new one goes last, so that somebody answers all the time."""
    did: list[str] = []
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger)
    ledger.promote(entry, 8101)
    ledger.stop(entry)
    host.engine.on_start = lambda _spec, port: did.append(f"start {port}, front {len(host.front.did)}")
    host.engine.on_stop = lambda _spec, port: did.append(f"stop {port}, front {len(host.front.did)}")
    steps = len(host.front.did)

    ledger.rollback()

    assert [f"start 18101, front {steps}", f"stop 18201, front {steps + 1}"] == did


def test_without_room_for_both_the_new_one_goes_before_the_old_one_starts(host: Host) -> None:
    """Also where the old one had to stop for another server's."""
    did: list[str] = []
    ledger = Ledger(host.engine, host.front)
    other = ledger.open("code", None)
    other.new = host.made("pmoves-code-next", "code", port=18202)
    ledger.promote(other, 8102)
    ledger.stop(ledger.open("llm", host.engine.find(NAME)), first=True)
    host.engine.on_start = lambda made, _port: did.append(f"start {made.server}")
    host.engine.on_stop = lambda made, _port: did.append(f"stop {made.server}")

    assert () == ledger.rollback()

    assert ["stop code", "start llm"] == did
    assert {NAME: "running"} == host.shown()
    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_what_cannot_be_undone_keeps_nothing_else_from_it(host: Host) -> None:
    """Each failure is named."""
    ledger = Ledger(host.engine, host.front)
    host.made("pmoves-code", "code", port=18102)
    host.front.point("code", 8102, 18102)
    for server, old in (("llm", NAME), ("code", "pmoves-code")):
        entry = ledger.open(server, host.engine.find(old))
        ledger.stop(entry)
    host.engine.fail("start", EngineError("no"))

    failed = ledger.rollback()

    assert ("code could not be brought back (no)",) == failed
    assert {NAME: "running", "pmoves-code": "exited"} == host.shown()


def test_a_front_that_does_not_go_back_keeps_no_container_from_it(host: Host) -> None:
    """It is named, and the old ones run."""

    class Stuck(MemoryFront):
        def restore(self, snapshot: object) -> None:
            del snapshot
            raise PortTakenError("port 8101 is taken", "it stays", "free it")

    front = Stuck(table={"llm": Backend(8101, 18101)})
    ledger = Ledger(host.engine, front)
    entry = host.swapped(ledger, first=True)
    ledger.promote(entry, 8101)

    (failed,) = ledger.rollback()

    assert failed.startswith("the front could not be brought back (port 8101 is taken")
    assert {NAME: "running"} == host.shown()


def test_commit_removes_what_was_replaced_and_what_was_retired(host: Host) -> None:
    """And nothing else."""
    other = host.made("pmoves-old", "old", port=18103)
    host.made("pmoves-stays", "stays", port=18104)
    ledger = Ledger(host.engine, host.front)
    ledger.retire("old", other)
    entry = host.swapped(ledger)
    ledger.promote(entry, 8101)
    ledger.stop(entry)

    assert () == ledger.commit()
    assert {NAME: "running", "pmoves-stays": "running"} == host.shown()


def test_commit_names_what_it_cannot_remove(host: Host) -> None:
    """The next run sweeps it."""
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger)
    ledger.promote(entry, 8101)
    ledger.stop(entry)
    host.engine.fail("remove", EngineError("no"))

    assert ("llm could not be removed (no)",) == ledger.commit()


def test_a_new_one_that_cannot_be_removed_does_not_keep_the_old_one_down(host: Host) -> None:
    """Both are tried; the rollback tries again."""
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger, first=True)
    host.engine.fail("remove", EngineError("no"))

    with pytest.raises(EngineError):
        ledger.discard(entry)

    assert {NAME: "running", f"{NAME}-next": "running"} == host.shown()
    assert () == ledger.rollback()
    assert {NAME: "running"} == host.shown()


def test_one_that_fell_again_and_again_does_not_run_beside_the_new_one(host: Host) -> None:
    """The engine would start it whenever it likes."""
    old = host.engine.find(NAME)
    assert old is not None
    host.engine._made[old.id].state = looping = ContainerState(
        **{field: getattr(old, field) for field in old.__slots__} | {"state": "restarting"}
    )
    ledger = Ledger(host.engine, host.front)

    ledger.retire("llm", looping)

    assert {NAME: "exited"} == host.shown()


def test_a_port_that_moves_to_another_server_is_given_up(host: Host) -> None:
    """In one step, so that no table has it twice."""
    ledger = Ledger(host.engine, host.front)

    ledger.point("code", 8101, 18105)

    assert {"code": Backend(8101, 18105)} == host.front.table
    ledger.rollback()
    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_two_servers_can_change_ports_with_each_other(host: Host) -> None:
    """Whoever comes first takes it, and the other one has its own when it comes."""
    host.front.point("code", 8102, 18102)
    ledger = Ledger(host.engine, host.front)

    ledger.point("llm", 8102, 18101)
    ledger.point("code", 8101, 18102)

    assert {"llm": Backend(8102, 18101), "code": Backend(8101, 18102)} == host.front.table


def test_a_strangers_port_is_refused_and_all_is_undone(host: Host) -> None:
    """The new container has its name by then."""
    host.front.taken.add(8109)
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger)

    with pytest.raises(PortTakenError):
        ledger.promote(entry, 8109)

    assert () == ledger.rollback()
    assert {NAME: "running"} == host.shown()
    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_a_front_that_led_nowhere_is_not_brought_back(host: Host) -> None:
    """It was mended for the container that stays, and stays mended when the run fails."""
    host.front.table["llm"] = Backend(8101, 9)
    ledger = Ledger(host.engine, host.front)

    ledger.keep("llm", 8101, 18101)
    ledger.rollback()

    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_a_kept_container_on_a_new_port_goes_back_to_its_old_one(host: Host) -> None:
    """What it is reached at is a part of the run."""
    ledger = Ledger(host.engine, host.front)

    ledger.keep("llm", 8109, 18101)
    ledger.rollback()

    assert {"llm": Backend(8101, 18101)} == host.front.table


@pytest.mark.parametrize("renames", [0, 1])
def test_a_name_that_is_not_given_is_undone(host: Host, renames: int) -> None:
    """Whether the old one had lost its name already or not."""
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger)
    rename = host.engine.rename
    host.engine.fail("rename", *[EngineError("no")] * (1 - renames))
    if renames:

        def once(container_id: str, name: str) -> None:
            rename(container_id, name)
            host.engine.fail("rename", EngineError("no"))

        ledger._engine = Renaming(once)  # type: ignore[assignment]  # the one method that is used

    with pytest.raises(EngineError):
        ledger.promote(entry, 8101)

    ledger._engine = host.engine
    assert () == ledger.rollback()
    assert {NAME: "running"} == host.shown()
    assert {"llm": Backend(8101, 18101)} == host.front.table


def test_the_rollback_of_a_swap_has_no_gap(lab: Lab) -> None:
    """The old one never stopped: the front leads back to it, and the new one goes after its last request."""
    qwen = lab.model()
    lab.bring_up(qwen)
    old = lab.named("pmoves-model-qwen")
    ctx = lab.run(qwen, servers={"model-qwen": server_of(qwen, settings=OTHER_SPEC)})
    apply.promote((verified(apply.serve(pulled(qwen), ctx)),), ctx)
    lab.front.did.clear()
    meanwhile: list[dict[str, str]] = []
    lab.front.while_draining = lambda: meanwhile.append(lab.shown())
    lab.engine.calls.clear()

    assert () == containers(ctx).ledger.rollback()

    assert [f"point model-qwen 8101 -> {old.published}", "drained model-qwen"] == lab.front.did
    assert [{"pmoves-model-qwen": "running", "pmoves-model-qwen-before": "running"}] == meanwhile
    assert [] == [call for call in lab.engine.calls if call[0] in {"start", "stop"}]
    assert {"pmoves-model-qwen": "running"} == lab.shown()
    assert (old.id, old.started_at) == (
        lab.named("pmoves-model-qwen").id,
        lab.named("pmoves-model-qwen").started_at,
    )


def test_all_old_ones_together_are_waited_for_a_minute(host: Host) -> None:
    """A server whose requests never end is stopped all the same."""
    ledger = Ledger(host.engine, host.front)
    ledger.promote(host.swapped(ledger), 8101)
    host.front.busy.add("llm")

    assert () == ledger.commit()

    assert {NAME: "running"} == host.shown()


def test_nothing_is_promoted_after_the_end(host: Host) -> None:
    """Nor pointed to."""
    ledger = Ledger(host.engine, host.front)
    entry = host.swapped(ledger)
    ledger.rollback()

    with pytest.raises(StoppedError):
        ledger.promote(entry, 8101)
    with pytest.raises(StoppedError):
        ledger.keep("llm", 8102, 1)
    with pytest.raises(StoppedError):
        ledger.stop(entry)

    assert {NAME: "running"} == host.shown()


def test_a_rollback_waits_for_what_is_just_being_done(host: Host) -> None:
    """A container that is being stopped is started again when it has stopped, not before."""
    ledger = Ledger(host.engine, host.front)
    entry = ledger.open("llm", host.engine.find(NAME))
    entered, go_on = threading.Event(), threading.Event()

    def stopping(_spec: ContainerSpec, _port: int) -> None:
        entered.set()
        go_on.wait(5)

    host.engine.on_stop = stopping
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(ledger.stop, entry)
        assert entered.wait(5)
        undone = pool.submit(ledger.rollback)
        early = [one for one, _ in host.engine.calls].count("start")
        go_on.set()
        stopped.result()
        assert () == undone.result()

    assert 1 == early
    assert ["stop", "start"] == [one for one, _ in host.engine.calls if one in {"stop", "start"}][1:]
    assert {NAME: "running"} == host.shown()


# --- runs that were killed -----------------------------------------------------------------------


def test_a_sweep_leaves_names_alone_that_are_not_of_a_swap(host: Host) -> None:
    """A server may be called so, and a person may have renamed one."""
    host.made("pmoves-qwen3-next", "qwen3-next", port=18102)
    host.made("mine-before", "llm", port=18103)

    assert () == sweep(host.engine, host.engine.containers())
    assert {NAME, "pmoves-qwen3-next", "mine-before"} == set(host.shown())


def test_of_two_the_one_that_runs_stays(host: Host) -> None:
    """A new one that fell after it was promoted is no replacement."""
    ledger = Ledger(host.engine, host.front)
    ledger.promote(host.swapped(ledger), 8101)
    host.engine.end(NAME)

    sweep(host.engine, host.engine.containers())

    there = host.engine.find(NAME)
    assert there is not None
    assert (18101, {NAME: "running"}) == (there.published, host.shown())


def began(lab: Lab, scenario: str) -> ServeContext:
    """Bring a host to where a scenario begins, and begin its run."""
    qwen = lab.model()
    if scenario == "create":
        return lab.run(qwen)
    lab.bring_up(qwen)
    if scenario == "retire":
        return lab.run()
    if scenario == "in its place":
        lab.main_bytes = 0
    return lab.run(qwen, servers={"model-qwen": server_of(qwen, settings=OTHER_SPEC)})


def again(lab: Lab, scenario: str) -> ServeContext:
    """Begin the same run once more."""
    lab.engine.life = None
    if scenario == "retire":
        return lab.run()
    qwen = lab.model()
    settings = () if scenario == "create" else OTHER_SPEC
    return lab.run(qwen, servers={"model-qwen": server_of(qwen, settings=settings)})


def killed_after(lab: Lab, scenario: str, steps: int) -> bool:
    """Run a scenario and kill it after so many changes; return whether it was killed."""
    ctx = began(lab, scenario)
    lab.engine.life = steps
    try:
        lab.finish(ctx, *containers(ctx).models)
    except KilledError:
        return True
    finally:
        lab.engine.life = None
    return False


SCENARIOS = ("create", "beside", "in its place", "retire")
FEWEST_STEPS = {"create": 4, "beside": 7, "in its place": 7, "retire": 3}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_that_is_killed_anywhere_is_mended_by_the_next(lab: Lab, scenario: str) -> None:
    """One container of the wanted kind runs under the server's name and is pointed to; or none, where none is
    wanted. Between the two, whatever ran is still pointed to, unless it had to stop first.
    """
    steps = 0
    while True:
        host = Lab(lab.tmp / str(steps))
        killed = killed_after(host, scenario, steps)
        ctx = again(host, scenario)
        if scenario == "beside":
            assert "pmoves-model-qwen" == host.points_to("model-qwen"), steps

        host.finish(ctx, *containers(ctx).models)

        wanted = {} if scenario == "retire" else {"pmoves-model-qwen": "running"}
        assert wanted == host.shown(), steps
        assert ("pmoves-model-qwen" if wanted else "") == host.points_to("model-qwen"), steps
        assert bool(wanted) == ("model-qwen" in host.front.table), steps
        if not killed:
            break
        steps += 1

    assert FEWEST_STEPS[scenario] <= steps


def test_a_killed_run_whose_next_one_fails_still_serves(lab: Lab) -> None:
    """What ran beside a new container is pointed to, wherever the first run was killed."""
    for steps in range(FEWEST_STEPS["beside"]):
        host = Lab(lab.tmp / str(steps))
        killed_after(host, "beside", steps)
        served = host.everything()
        host.answers["model-qwen"] = loading
        qwen = host.model()
        host.engine.life = None
        wanted = server_of(qwen, settings=(("--ctx-size", "10"),))
        ctx = host.run(qwen, servers={"model-qwen": wanted}, deadline_s=0.02)
        with pytest.raises(ServeError):
            apply.serve(pulled(qwen), ctx)

        assert () == containers(ctx).ledger.rollback()
        assert served
        assert {"pmoves-model-qwen": "running"} == host.shown(), steps
        assert "pmoves-model-qwen" == host.points_to("model-qwen"), steps


@pytest.mark.parametrize("scenario", ["create", "beside", "in its place", "retire"])
def test_a_rollback_that_is_killed_anywhere_is_mended_by_the_next_run(lab: Lab, scenario: str) -> None:
    """One container of the wanted kind runs under the server's name and is pointed to."""
    steps, killed = 0, True
    while killed:
        host = Lab(lab.tmp / str(steps))
        ctx = began(host, scenario)
        served = [apply.serve(pulled(one), ctx) for one in containers(ctx).models]
        apply.promote(tuple(map(verified, served)), ctx)
        apply.remove_unplanned(ctx)
        host.engine.life = steps
        try:
            containers(ctx).ledger.rollback()
            killed = False
        except KilledError:
            steps += 1
        host.engine.life = None

        wanted = host.model()
        host.finish(host.run(wanted), wanted)

        assert {"pmoves-model-qwen": "running"} == host.shown(), steps
        assert "pmoves-model-qwen" == host.points_to("model-qwen"), steps

    assert steps >= 2
