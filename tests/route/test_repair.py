"""What becomes of a rollout that fails, or is killed, at any of its steps."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import ProvisionError, RouteError
from tasks.route import compose
from tasks.route.config.render import render
from tasks.route.context import Order, RouteContext
from tasks.route.generations import Store, current
from tasks.route.journal import Journal, read
from tasks.route.merge.managed import merge
from tasks.route.probe import Ask
from tasks.route.proxy.contract import Target
from tasks.route.repair import Repair, Seen, decide, repair
from tasks.route.rollout import roll_out
from tests.lab.routing import B, CrashError, LabOld, World, configs, leftovers, order, settled

OLD = order("a")
NEW = order("a", "b", functions=("chat", "archon"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a host without a gateway."""
    return World(tmp_path)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is rendered, and let no disk sync: that is most of what a rollout in memory takes."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(compose, "_rendered", lambda wanted, _hand, _before, _ctx: _text(wanted))
    monkeypatch.setattr(compose, "_lint", lambda _text, _keys, _ctx: None)


@functools.cache
def _text(wanted: Order) -> str:
    return merge("", render(wanted.routes, wanted.verified, wanted.routing))


@pytest.fixture
def context(world: World) -> RouteContext:
    """Return what routing needs."""
    return world.context()


def answering(world: World, old: str) -> Callable[[], None]:
    """Return what asserts that the old config answers, or the new one where its own smoke was right."""

    def look() -> None:
        assert world.serves == old or "archon" in world.serves

    return look


FIRST_CHANGE = 3
"""Before that effect, a rollout only tells the proxy once more what it does already."""


def every(tmp_path: Path, *, least: int = 40) -> Iterator[tuple[int, World, RouteContext]]:
    """Yield a fresh host for each effect of a rollout, until there is none; `least` must come."""
    for at in range(100):
        world = World(tmp_path / str(at))
        world.root.mkdir()
        yield at, world, world.context()
        if not world.came:
            assert at > least
            return
    raise AssertionError("a rollout without an end")


def number_of(tmp_path: Path, effect: str) -> int:
    """Return the number of the last effect of a rollout that is called so."""
    world = World(tmp_path / "counted")
    world.root.mkdir()
    roll_out(OLD, world.context())
    with world.fail(-1, CrashError) as effects:
        roll_out(NEW, world.context())
    return max(place for place, one in enumerate(effects.log) if effect in one)


def crash(world: World, context: RouteContext, at: int, wanted: Order) -> None:
    """Roll out until effect number `at`, and be killed there."""
    with world.fail(at, CrashError, forever=True), contextlib.suppress(CrashError):
        roll_out(wanted, context)


def noting(seen: list[str], world: World) -> Callable[[Path], None]:
    """Return a check that finds all configs valid, and notes what answers meanwhile."""
    return lambda _path: seen.append(world.serves)


def services(world: World) -> str:
    """Return what the services read."""
    return (world.root / "pmoves.env").read_text()


def test_crash(tmp_path: Path) -> None:
    """Whatever a crash comes before, a right config answers throughout, and the next run ends well."""
    for at, world, context in every(tmp_path):
        first = roll_out(OLD, context)
        world.effects.each = answering(world, first.config)
        crash(world, context, at, NEW)
        second = roll_out(NEW, context)

        assert settled(world, second.config)
        assert "archon" in second.config
        assert roll_out(NEW, context).change.kind == "keep"


def test_crash_and_back(tmp_path: Path) -> None:
    """After a crash, the old order can be given again."""
    for at, world, context in every(tmp_path):
        first = roll_out(OLD, context)
        before = services(world)
        world.effects.each = answering(world, first.config)
        crash(world, context, at, NEW)

        assert settled(world, roll_out(OLD, context).config)
        assert world.serves == first.config
        assert services(world) == before


def test_crash_of_a_bad_config(tmp_path: Path) -> None:
    """After a crash, a new config that turns out to be wrong does not stay, unless it was proven before."""
    for at, world, context in every(tmp_path):
        first = roll_out(OLD, context)
        before = services(world)
        crash(world, context, at, NEW)
        in_use = current(context.folder)
        proven = in_use is not None and "archon" in in_use[1]
        world.unreached = {B}
        with pytest.raises(RouteError):
            roll_out(NEW, context)

        assert proven == ("archon" in world.serves)
        assert proven or settled(world, first.config)
        assert proven or services(world) == before


def test_repair_alone(tmp_path: Path) -> None:
    """Repair alone leaves a gateway that is settled, with the config that answers."""
    for at, world, context in every(tmp_path):
        first = roll_out(OLD, context)
        world.effects.each = answering(world, first.config)
        crash(world, context, at, NEW)
        journal = read(context.folder)
        done = repair(context)

        assert settled(world, world.serves)
        assert bool(done.did) == (journal is not None)
        assert repair(context).did == ()


def test_crash_the_first_time(tmp_path: Path) -> None:
    """Where nothing was there before, the next run ends well too."""
    for at, world, context in every(tmp_path):
        crash(world, context, at, NEW)

        assert settled(world, roll_out(NEW, context).config)
        assert roll_out(NEW, context).change.kind == "keep"


@pytest.mark.parametrize("effect", ["written", "pointed", "rename /gateway/.proven.json", "stop "])
def test_crash_during_repair(effect: str, tmp_path: Path) -> None:
    """A repair that is killed at any of its steps is repaired by the next."""
    first_at = number_of(tmp_path, effect)
    for at, world, context in every(tmp_path, least=10):
        first = roll_out(OLD, context)
        world.effects.each = answering(world, first.config)
        crash(world, context, first_at, NEW)
        assert world.came
        crash(world, context, at, OLD)
        came, route = world.came, roll_out(OLD, context)

        assert settled(world, first.config)
        assert route.config == first.config
        world.came = came


@pytest.mark.parametrize(
    "error", [RouteError("it broke", "", "look"), OSError(28, "No space left on device")]
)
def test_failure(error: Exception, tmp_path: Path) -> None:
    """Whatever fails, either the new config is in use in the end or the old one, and the sentence is true."""
    for at, world, context in every(tmp_path):
        first = roll_out(OLD, context)
        before, said = services(world), None
        world.effects.each = answering(world, first.config)
        with world.fail(at, lambda: error):
            try:
                roll_out(NEW, context)
            except ProvisionError as caught:
                said = caught

        if said is None:
            assert "archon" in world.serves
        else:
            serves = f"the config in use (sha256 {first.config_hash[:8]}) serves as before"
            early = {"the config in use is unchanged", error.args[1]} if at < FIRST_CHANGE else {serves}
            assert settled(world, first.config)
            assert services(world) == before
            assert said.intact in early
        assert settled(world, roll_out(NEW, context).config)


def test_disk_full(tmp_path: Path) -> None:
    """A disk that is full from some step on takes nothing away, and once there is room the next run ends."""
    for at, world, context in every(tmp_path):
        first, said = roll_out(OLD, context), None
        world.effects.each = answering(world, first.config)
        full = functools.partial(OSError, 28, "No space left on device")
        with world.fail(at, full, forever=True, files=True):
            try:
                roll_out(NEW, context)
            except ProvisionError as caught:
                said = caught

        if said is not None:
            assert said.intact == f"the config in use (sha256 {first.config_hash[:8]}) serves as before"
            assert world.serves == first.config
        assert settled(world, roll_out(NEW, context).config)


def test_crash_of_a_migration(tmp_path: Path) -> None:
    """A crash while the gateway of an earlier version is taken over: the next run ends well, and before it
    tries its own config, that of the earlier version answers.
    """
    for at, world, made in every(tmp_path):
        seen: list[str] = []
        old = LabOld(world.effects)
        context = replace(made, old=old, check=noting(seen, world))
        context.folder.mkdir()
        (context.folder / "tensorzero.toml").write_text("# old\n")
        crash(world, context, at, NEW)
        in_use = current(context.folder)
        seen.clear()

        assert settled(world, roll_out(NEW, context).config)
        assert in_use is not None
        assert seen in ([], ["# old\n"])
        assert not old.up


# --- what is decided -------------------------------------------------------------------------------

BLUE, GREEN = "1-blue", "2-green"
ASKS = (Ask("tensorzero::embedding_model_name::a", "embeddings", "http://127.0.0.1:1/v1/", "a"),)


def seen(
    *,
    journal: bool = True,
    proven: tuple[str, ...] = (BLUE,),
    active: str = BLUE,
    proxy_runs: bool = True,
    run: tuple[str, ...] = (BLUE, GREEN),
    smoked: bool | None = None,
    broken: tuple[str, ...] = (),
) -> Seen:
    """Return what there may be."""
    ports = {BLUE: 1, GREEN: 2}
    return Seen(
        Journal(GREEN, BLUE, "switch", asks=ASKS) if journal else None,
        proven,
        Target(active, ports[active]) if active else None,
        proxy_runs,
        tuple((name, ports[name]) for name in run),
        run,
        smoked,
        frozenset(broken),
    )


POINTED = "the proxy points to it"
LAST = "it is the last that was in use"


@pytest.mark.parametrize(
    ("there", "todo"),
    [
        (seen(journal=False, run=(BLUE,)), Repair(BLUE, reason=POINTED)),
        (seen(), Repair(BLUE, stop=(GREEN,), reason=POINTED)),
        (seen(proxy_runs=False), Repair(BLUE, point=True, stop=(GREEN,), reason=POINTED)),
        (seen(run=(GREEN,)), Repair(BLUE, start=True, point=True, stop=(GREEN,), reason=POINTED)),
        (seen(active=GREEN), Repair(GREEN, smoke=True)),
        (seen(active=GREEN, smoked=True), Repair(GREEN, stop=(BLUE,), reason="it answers rightly")),
        (seen(active=GREEN, smoked=False), Repair(BLUE, point=True, stop=(GREEN,), reason=LAST)),
        (
            seen(active=GREEN, smoked=False, run=(GREEN,)),
            Repair(BLUE, start=True, point=True, stop=(GREEN,), reason=LAST),
        ),
        (seen(active=GREEN, proven=(GREEN, BLUE)), Repair(GREEN, stop=(BLUE,), reason=POINTED)),
        (seen(active=GREEN, run=(BLUE,)), Repair(BLUE, point=True, reason=LAST)),
        (seen(active=GREEN, proven=()), Repair(GREEN, smoke=True)),
        (
            seen(active=GREEN, proven=(), smoked=False),
            Repair("", stop=(BLUE, GREEN), reason="no config was in use before"),
        ),
        (
            seen(active="", proven=(), run=(GREEN,)),
            Repair("", stop=(GREEN,), reason="no config was in use before"),
        ),
        (seen(journal=False, proven=(), run=(BLUE,)), Repair(BLUE, reason=POINTED)),
        (
            seen(proven=(BLUE, GREEN), run=(), broken=(BLUE,)),
            Repair(GREEN, start=True, point=True, reason=LAST),
        ),
    ],
)
def test_decide(there: Seen, todo: Repair) -> None:
    """What the proxy points to and is proven stays; what got the switch unproven is asked first."""
    assert decide(there) == todo


def test_another_port(context: RouteContext, world: World) -> None:
    """A gateway that came back on another port is found again."""
    first = roll_out(OLD, context)
    world.proxy.target = Target(first.generation, 39999)
    repair(context)

    assert world.serves == first.config


def test_lists_that_cannot_be_read(context: RouteContext, world: World) -> None:
    """Where the list of what was in use, and the journal, are damaged, what serves goes on serving."""
    first = roll_out(OLD, context)
    (context.folder / "proven.json").write_text("{")
    (context.folder / "rollout.json").write_text("{")
    world.effects.each = answering(world, first.config)
    done = repair(context)

    assert done.did == ("the rollout of an unknown time ended while nobody knows what was done",)
    assert not (context.folder / "rollout.json").exists()
    assert settled(world, roll_out(NEW, context).config)


def test_first_and_wrong(context: RouteContext, world: World, tmp_path: Path) -> None:
    """Where nothing served before, a wrong config that got the switch is ended, and nobody waits for it."""
    at = number_of(tmp_path, "pointed")
    crash(world, context, at, NEW)
    active = world.proxy.active()
    world.unreached = {B}
    world.effects.log.clear()
    done = repair(context)

    assert active is not None
    assert done.serving is None
    assert world.gateways.there == {}
    assert not [one for one in world.effects.log if one.startswith("drained")]


def test_nothing_there(context: RouteContext, world: World) -> None:
    """On a fresh host a repair does nothing."""
    done = repair(context)

    assert (done.serving, done.did) == (None, ())
    assert not context.folder.exists()
    assert leftovers(world.root) == set()


def test_older_generation(context: RouteContext, world: World) -> None:
    """Where the last config does not start again, the one before it serves."""
    first, second = roll_out(OLD, context), roll_out(NEW, context)
    world.gateways.kill(second.generation)
    world.gateways.unloadable = {second.config}
    done = repair(context, OLD)

    assert done.serving is not None
    assert done.serving.generation == first.generation
    assert world.serves == first.config


def test_rejected_after_a_crash(context: RouteContext, world: World, tmp_path: Path) -> None:
    """A config that had the switch and is wrong is kept for reading."""
    at = number_of(tmp_path, "pointed")
    first = roll_out(OLD, context)
    crash(world, context, at + 1, NEW)
    world.unreached = {B}
    done = repair(context)

    assert "archon" in configs(world.root, "rejected")[0]
    assert done.did[1].endswith("does not answer rightly")
    assert Store(context.folder).names() == (first.generation,)
    assert world.serves == first.config


@pytest.mark.parametrize(
    ("effect", "says"),
    [
        ("mkdir /gateway/generations", "while the config was written"),
        ("prepare", "while the new gateway started"),
        ("written", "while the proxy was switched"),
        ("pmoves.env", "while the services' addresses were written"),
        ("drained", "while the gateway of before answered its last requests"),
        ("stop ", "while the gateway of before was ended"),
    ],
)
def test_it_tells_where_a_rollout_ended(
    effect: str, says: str, context: RouteContext, world: World, tmp_path: Path
) -> None:
    """Who watches is told what a crash came between."""
    at = number_of(tmp_path, effect)
    roll_out(OLD, context)
    crash(world, context, at, NEW)
    said: list[str] = []
    repair(replace(context, sink=lambda event: said.append(event.message)))

    assert says in said[0]
