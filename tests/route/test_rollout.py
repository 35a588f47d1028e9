"""How a config gets into use, and how it leaves again."""

from __future__ import annotations

import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import Event
from tasks.effects.files import write_atomic
from tasks.errors import PortTakenError, RouteError, StoppedError
from tasks.route import generations
from tasks.route.context import Order, RouteContext
from tasks.route.generations import Store
from tasks.route.proxy.contract import Target
from tasks.route.rollout import roll_out
from tests.lab.routing import A, B, LabOld, World, configs, digest, order, settled

OLD = order("a", functions=("chat",))
NEW = order("a", "b", functions=("chat", "archon"))


PROMPTED = """
[functions.mine]
type = "chat"
[functions.mine.experimentation]
type = "static"
candidate_variants = ["one"]
[functions.mine.variants.one]
type = "chat_completion"
model = "talker"
system_template = "system.minijinja"
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a host without a gateway."""
    return World(tmp_path)


@pytest.fixture
def context(world: World) -> RouteContext:
    """Return what routing needs."""
    return world.context()


def reject(path: Path) -> None:
    """Be a TensorZero that rejects every config."""
    raise RouteError(
        f"TensorZero rejects the config: {path.name}", "the config in use is unchanged", "correct it"
    )


def hand_written(world: World, text: str = "") -> Path:
    """Write the operator's own config."""
    path = world.root / "own" / "tensorzero.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        text or '# mine\n[metrics.good]\ntype = "boolean"\noptimize = "max"\nlevel = "inference"\n'
    )
    return path


def test_first_time(context: RouteContext, world: World) -> None:
    """On a fresh host the config is written, a gateway started and asked, and the proxy led to it."""
    route = roll_out(NEW, context)

    assert settled(world, route.config)
    assert (route.change.kind, route.change.reason.partition(";")[0]) == ("create", "there is no gateway")
    assert route.base_url == "http://127.0.0.1:3030/openai/v1"
    assert route.models[:2] == ("tensorzero::function_name::archon", "tensorzero::function_name::chat")
    assert route.config_hash == digest(route.config)
    assert world.proxy.target == Target(route.generation, 40001)
    assert [answer.right for answer in route.answers] == [True] * 4
    assert route.watched == "not watched, because no gateway served before"
    assert (route.proxy, route.process.running) == ("memory", True)
    assert route.diff.startswith("--- in use\n+++ new\n")
    assert [one.function for one in route.functions] == ["archon", "chat"]


def test_nothing_to_do(context: RouteContext, world: World) -> None:
    """A second run changes no file and no process; it still asks everything."""
    roll_out(OLD, context)
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*") if path.is_file()}
    asked = len(world.http.requests)
    route = roll_out(OLD, replace(context, check=reject))

    assert route.change.kind == "keep"
    assert route.change.reason == f"config sha256 {route.config_hash[:8]} is in use and unchanged"
    assert world.proxy.did == [f"point {route.generation}"] * 2
    assert len(world.gateways.did) == 1
    assert before == {path: path.stat().st_mtime_ns for path in world.root.rglob("*") if path.is_file()}
    assert len(world.http.requests) - asked == 4
    assert len(route.answers) == 2


def test_another_config(context: RouteContext, world: World) -> None:
    """Green starts beside blue; blue ends only after the switch, the watch and its last request."""
    first = roll_out(OLD, context)
    world.effects.log.clear()
    second = roll_out(NEW, context)

    assert settled(world, second.config)
    assert second.change.kind == "replace"
    blue, green = first.generation, second.generation
    told = [one for one in world.effects.log if one.startswith(("start ", "pointed ", "drained ", "stop "))]
    assert told == [
        f"pointed {blue}",
        f"start {green}",
        f"pointed {green}",
        f"drained {blue}",
        f"stop {blue}",
    ]
    assert second.watched == "no request came in the 10 s after the switch"
    assert world.now == 10.0
    assert [name for name, _ in generations.generations(context.folder)] == [green, blue]


def test_gateway_gone(context: RouteContext, world: World) -> None:
    """A gateway that died and was not brought back is started again, before all else."""
    first = roll_out(OLD, context)
    world.gateways.kill(first.generation)
    route = roll_out(OLD, context)

    assert settled(world, first.config)
    assert route.change.kind == "replace"
    assert route.change.reason.startswith(f"the gateway of {first.generation} did not run and was started")


def test_proxy_gone(context: RouteContext, world: World) -> None:
    """A proxy that is away is brought back, and leads where it led, before the new config is tried."""
    first = roll_out(OLD, context)
    world.proxy.up = False
    seen: list[str] = []

    def check(path: Path) -> None:
        seen.append(world.serves)
        reject(path)

    with pytest.raises(RouteError):
        roll_out(NEW, replace(context, check=check))
    route = roll_out(OLD, context)

    assert seen == [first.config]
    assert route.change.kind == "keep"


def test_not_valid(context: RouteContext, world: World) -> None:
    """A config that TensorZero rejects never starts; it is kept for reading."""
    first = roll_out(OLD, context)
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, replace(context, check=reject))

    kept = next((context.folder / "rejected").iterdir())
    short = first.config_hash[:8]
    assert str(caught.value) == (
        "TensorZero rejects the config: tensorzero.toml; "
        f"the config in use (sha256 {short}) serves as before; read {kept}, then correct it."
    )
    assert settled(world, first.config)
    assert len(world.gateways.did) == 1
    assert "archon" in configs(world.root, "rejected")[0]


def test_not_loaded(context: RouteContext, world: World) -> None:
    """A config that the gateway itself does not load changes nothing."""
    first = roll_out(OLD, context)
    text = _text_of(NEW, context, world)
    world.gateways.unloadable = {text}
    with pytest.raises(RouteError, match="the gateway rejects the config: no such field; the config in use"):
        roll_out(NEW, context)

    assert settled(world, first.config)
    assert configs(world.root, "rejected")[-1] == text


def _text_of(wanted: Order, context: RouteContext, world: World) -> str:
    """Return the config that an order becomes."""
    with pytest.raises(RouteError):
        roll_out(wanted, replace(context, check=reject))
    return configs(world.root, "rejected")[-1]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("unreached", "does not answer through the gateway (HTTP 502"),
        ("failing", "the server of talker at http://127.0.0.1:8102/v1/ does not answer (HTTP 500"),
        ("swapped", "is wrong: 'I cannot say' by local, not '4' by local"),
    ],
)
def test_wrong_green(fault: str, says: str, context: RouteContext, world: World) -> None:
    """A green gateway that does not answer rightly never gets a request."""
    first = roll_out(order("a"), context)
    getattr(world, fault).add(B)
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, context)

    assert says in caught.value.what
    assert caught.value.intact == f"the config in use (sha256 {first.config_hash[:8]}) serves as before"
    assert settled(world, first.config)
    assert {one for one in world.proxy.did if one.startswith("point")} == {f"point {first.generation}"}


def test_wrong_vector(context: RouteContext, world: World) -> None:
    """A vector that is not the server's own is a wrong route, however well it looks."""
    world.swapped = {A}
    with pytest.raises(
        RouteError, match=r"is wrong: 4 numbers of length 1\.000, likeness -?0\.\d+, not 4 num"
    ):
        roll_out(order("a"), context)


def test_first_time_without_answer(context: RouteContext, world: World) -> None:
    """Where nothing was served before, nothing is served after a failure, and nobody has the port."""
    world.unreached = {A}
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, context)

    assert caught.value.intact == "no gateway serves, as before"
    assert world.gateways.there == {}
    assert not world.proxy.up
    assert generations.current(context.folder) is None
    assert list((context.folder / "keys").iterdir()) == []


def test_kept_but_wrong(context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway in use that answers wrongly is replaced by another with the same config."""
    first = roll_out(OLD, context)
    real = World._routed
    sick = world.gateways.there[first.generation].port

    def routed(self: World, config: dict[str, object], asked: dict[str, object]) -> object:
        ill = str(sick) in self.http.requests[-1].url
        return real(
            self, config, {**asked, "input": ["something else"]} if ill and "input" in asked else asked
        )

    monkeypatch.setattr(World, "_routed", routed)
    second = roll_out(OLD, context)

    assert second.change.reason.endswith("answered wrongly and was replaced")
    assert second.generation != first.generation
    assert settled(world, first.config)


def test_kept_once_it_is_back(context: RouteContext, world: World) -> None:
    """A gateway that comes back from a crash just now is given a moment, and kept."""
    first = roll_out(OLD, context)
    world.unreached = {A}

    def sleep(_seconds: float) -> None:
        world.unreached = set()

    route = roll_out(OLD, replace(context, sleep=sleep))

    assert (route.change.kind, route.generation) == ("keep", first.generation)


def test_another_kind_of_gateway(
    context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where gateways are to be containers, one in a process is replaced though its config is the same."""
    first = roll_out(OLD, context)
    monkeypatch.setattr(world.gateways, "kind", "container")
    second = roll_out(OLD, context)

    assert second.change.reason.startswith("the gateway is to be of the kind container")
    assert second.generation != first.generation


def test_the_services_file_is_no_file(context: RouteContext, world: World) -> None:
    """What cannot be read there is a sentence."""
    roll_out(OLD, context)
    with pytest.raises(RouteError, match="cannot be read"):
        roll_out(OLD, replace(context, env_file=world.root / "gateway"))


def test_kept_and_written_again(context: RouteContext, world: World) -> None:
    """A file that was lost meanwhile is there again, though the gateway is kept."""
    first = roll_out(OLD, context)
    lost = [world.root / "pmoves.env", context.folder / "proven.json"]
    texts = [one.read_text() for one in lost]
    for one in lost:
        one.unlink()
    route = roll_out(OLD, context)

    assert (route.change.kind, route.generation) == ("keep", first.generation)
    assert [one.read_text() for one in lost] == texts


def test_kept_on_a_full_disk(context: RouteContext, world: World) -> None:
    """What the disk refuses is a sentence, also where the gateway is kept."""
    roll_out(OLD, context)
    (world.root / "pmoves.env").unlink()
    with (
        world.fail(0, lambda: OSError(28, "No space left on device"), forever=True, files=True),
        pytest.raises(RouteError, match=r"the rollout cannot go on: .*No space left"),
    ):
        roll_out(OLD, context)


def test_kept_without_server(context: RouteContext, world: World) -> None:
    """A model server that stopped answering fails the run; the gateway is not to blame."""
    first = roll_out(OLD, context)
    world.failing = {A}
    with pytest.raises(RouteError, match="the server of a at"):
        roll_out(OLD, context)

    assert len(world.gateways.did) == 1
    assert world.serves == first.config
    assert configs(world.root, "rejected") == []


def test_port_taken(context: RouteContext, world: World) -> None:
    """A stranger on the port is refused before anything is written."""
    with pytest.raises(PortTakenError, match="port 3030 on 127"):
        roll_out(OLD, replace(context, taken=lambda port: port == 3030))

    assert not context.folder.exists()
    assert world.gateways.did == []


def test_port_taken_at_the_switch(context: RouteContext, world: World) -> None:
    """The proxy's own refusal comes through as it is."""
    world.proxy.refuses = _Everything()
    with pytest.raises(RouteError, match="the proxy does not follow; no gateway serves, as before"):
        roll_out(OLD, context)

    assert world.gateways.there == {}


class _Everything(set[str]):
    """Has every member."""

    def __contains__(self, item: object) -> bool:
        return True


def test_failing_requests_after_the_switch(context: RouteContext, world: World) -> None:
    """A green gateway that fails requests which blue did not is given up."""
    first = roll_out(OLD, context)
    world.count(first.generation, good=990, bad=10)

    def sleep(seconds: float) -> None:
        world.now += seconds
        if world.proxy.target:
            world.count(world.proxy.target.name, good=20, bad=3)

    with pytest.raises(RouteError) as caught:
        roll_out(NEW, replace(context, sleep=sleep))

    assert caught.value.what == (
        "6 of 46 requests in the 1 s after the switch ended with 5xx, before it 10 of 1000"
    )
    assert settled(world, first.config)
    told = [one.split()[0] for one in world.proxy.did]
    assert told == ["point", "point", "point", "point", "drained"]
    assert world.proxy.did[-2] == f"point {first.generation}"


def test_it_tells_what_it_watched(context: RouteContext, world: World) -> None:
    """A record has the numbers of the watch."""
    roll_out(OLD, context)

    def sleep(seconds: float) -> None:
        world.now += seconds
        assert world.proxy.target is not None
        world.count(world.proxy.target.name, good=100)

    route = roll_out(NEW, replace(context, sleep=sleep, watch_s=1.0))

    assert route.watched == (
        "0 of 200 requests in the 1 s after the switch ended with 5xx, before it there were none"
    )


@pytest.mark.parametrize("gone", ["gateway", "proxy"])
def test_gone_after_the_switch(gone: str, context: RouteContext, world: World) -> None:
    """A green gateway, or a proxy, that ends while it is watched is given up."""
    first = roll_out(OLD, context)

    def sleep(seconds: float) -> None:
        world.now += seconds
        assert world.proxy.target is not None
        if gone == "gateway":
            world.gateways.kill(world.proxy.target.name)
        else:
            world.proxy.up = False

    with pytest.raises(RouteError, match="ended"):
        roll_out(NEW, replace(context, sleep=sleep))

    assert settled(world, first.config)


def test_no_way_back(context: RouteContext, world: World) -> None:
    """Where the proxy does not go back, green goes on serving, and the sentence says so."""
    first = roll_out(OLD, context)

    def sleep(_seconds: float) -> None:
        world.proxy.refuses = {first.generation}
        world.proxy.counted.clear()
        world.count(world.proxy.active().name, good=0, bad=100)  # type: ignore[union-attr]  # it was pointed

    with pytest.raises(RouteError) as caught:
        roll_out(NEW, replace(context, sleep=sleep))

    assert caught.value.intact == (
        "the new config still gets the requests, because there is no way back (the proxy does not follow)"
    )
    assert "archon" in world.serves
    assert first.generation in world.gateways.there

    world.proxy.refuses = set()
    world.proxy.counted.clear()
    assert settled(world, roll_out(NEW, context).config)


def test_blue_dies_during_the_rollout(context: RouteContext, world: World) -> None:
    """Where blue ended meanwhile, it is started again to go back to."""
    first = roll_out(OLD, context)

    def sleep(_seconds: float) -> None:
        world.gateways.kill(first.generation)
        world.count(world.proxy.active().name, good=0, bad=100)  # type: ignore[union-attr]  # it was pointed

    with pytest.raises(RouteError, match="serves as before"):
        roll_out(NEW, replace(context, sleep=sleep))

    assert settled(world, first.config)


def test_blue_that_does_not_end(context: RouteContext, world: World) -> None:
    """The new config is in use all the same; the next run ends what is left."""
    first = roll_out(OLD, context)
    world.gateways.stuck = {first.generation}
    said: list[str] = []
    second = roll_out(NEW, replace(context, sink=lambda event: said.append(event.message)))

    assert world.serves == second.config
    assert f"the gateway of {first.generation} is still there: the gateway does not end" in said
    assert (context.folder / "keys" / f"{first.generation}.env").exists()

    world.gateways.stuck = set()
    assert roll_out(NEW, context).generation == second.generation
    assert settled(world, second.config)


def test_busy_blue(context: RouteContext, world: World) -> None:
    """A blue gateway with endless requests is ended after the bound, and that is said."""
    first = roll_out(OLD, context)
    world.proxy.busy = {first.generation}
    said: list[str] = []
    second = roll_out(NEW, replace(context, drain_s=5.0, sink=lambda event: said.append(event.message)))

    assert f"requests at {first.generation} still go on after 5 s and are cut off" in said
    assert settled(world, second.config)


@pytest.mark.parametrize("at", range(40))
def test_stopped(at: int, context: RouteContext, world: World) -> None:
    """A run that is asked to stop, at any moment, leaves one whole config in use and nothing half-done."""
    first = roll_out(OLD, context)
    stop = threading.Event()
    world.effects.count = 0
    world.effects.each = lambda: stop.set() if world.effects.count >= at else None
    said = "the config in use is unchanged"
    try:
        text = roll_out(NEW, replace(context, stop=stop)).config
    except StoppedError as error:
        text, said = first.config, error.intact
    world.effects.each = lambda: None

    short = first.config_hash[:8]
    assert said in {f"the config in use (sha256 {short}) serves as before", "the config in use is unchanged"}
    assert settled(world, text)
    assert configs(world.root, "rejected") == []


def test_stopped_while_blue_is_busy(context: RouteContext, world: World) -> None:
    """A run that is asked to stop does not wait for the last requests."""
    first = roll_out(OLD, context)
    world.proxy.busy = {first.generation}
    stop = threading.Event()

    def sink(event: Event) -> None:
        if event.message.startswith("waiting for the last requests"):
            stop.set()

    with pytest.raises(StoppedError):
        roll_out(NEW, replace(context, stop=stop, sink=sink))

    assert settled(world, first.config)


def test_stopped_between_steps(context: RouteContext, world: World) -> None:
    """A run that is asked to stop begins no further step."""
    first = roll_out(OLD, context)
    stop = threading.Event()

    def check(_path: Path) -> None:
        stop.set()

    with pytest.raises(StoppedError):
        roll_out(NEW, replace(context, stop=stop, check=check))

    assert world.gateways.did == [f"start {first.generation}"]
    assert settled(world, first.config)


@pytest.fixture
def _late_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk fail once, after a config was noted as the one in use: the latest that can go wrong."""
    failed = list[Path]()

    def write(path: Path, text: str) -> None:
        write_atomic(path, text)
        if path.name == "proven.json" and "archon" in str(current_text(path.parent)) and not failed:
            failed.append(path)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(generations, "write_atomic", write)


def current_text(folder: Path) -> str:
    """Return the config in use."""
    return generations.active_config(folder) or ""


@pytest.mark.usefixtures("_late_fault")
def test_noted_and_then_failed(context: RouteContext, world: World) -> None:
    """Where the disk fails after the new config was noted as the one in use, that note is taken back."""
    first = roll_out(OLD, context)
    with pytest.raises(RouteError, match="serves as before"):
        roll_out(NEW, context)

    assert settled(world, first.config)
    assert [one.name for one in Store(context.folder).proven()] == [first.generation]


@pytest.mark.usefixtures("_late_fault")
def test_first_time_and_late(context: RouteContext, world: World) -> None:
    """Where nothing served before, the proxy that was started for this gives the port up again."""
    with pytest.raises(RouteError, match="no gateway serves, as before"):
        roll_out(NEW, context)

    assert not world.proxy.up
    assert world.gateways.there == {}
    assert Store(context.folder).proven() == ()


@pytest.mark.usefixtures("_late_fault")
def test_late_with_a_gateway_that_cannot_start(context: RouteContext, world: World) -> None:
    """A proxy that ran before runs on, and leads where it led."""
    first = roll_out(OLD, context)
    before = world.proxy.target
    world.gateways.kill(first.generation)
    world.gateways.unloadable = {first.config}
    with pytest.raises(RouteError, match="no gateway serves, as before"):
        roll_out(NEW, context)

    assert world.proxy.up
    assert world.proxy.target == before


def test_green_that_does_not_end(context: RouteContext, world: World) -> None:
    """What could not be undone is said, and done by the next run."""
    first = roll_out(OLD, context)
    world.unreached = {B}
    world.gateways.stuck = _Everything()
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, context)

    assert caught.value.intact == f"the config in use (sha256 {first.config_hash[:8]}) serves as before"
    assert caught.value.then == "start the run again, which repairs that"
    assert (context.folder / "rollout.json").exists()

    world.gateways.stuck, world.unreached = set(), set()
    assert settled(world, roll_out(NEW, context).config)


def test_interrupted(context: RouteContext, world: World) -> None:
    """Ctrl-C in the middle undoes what was done, and goes on up."""
    first = roll_out(OLD, context)

    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roll_out(NEW, replace(context, sleep=sleep))

    assert settled(world, first.config)
    assert configs(world.root, "rejected") == []


def test_hand_written_part(context: RouteContext, world: World) -> None:
    """The operator's own tables are in the config as they stand."""
    hand = hand_written(world)
    route = roll_out(OLD, replace(context, hand=hand))

    assert route.config.startswith(hand.read_text())
    assert "[functions.chat]" in route.config


def test_hand_written_part_changes_meanwhile(context: RouteContext, world: World) -> None:
    """A file that changes between its reading and the switch is refused, and the next run takes it."""
    first = roll_out(OLD, context)
    hand = hand_written(world)

    def check(_path: Path) -> None:
        hand.write_text("# other\n")

    changing = replace(context, hand=hand, check=check)
    with pytest.raises(RouteError, match="changed while it was merged; the config in use") as caught:
        roll_out(OLD, changing)

    assert caught.value.what == f"{hand} changed while it was merged"
    assert settled(world, first.config)
    assert roll_out(OLD, replace(context, hand=hand)).config.startswith("# other\n")


@pytest.mark.parametrize("text", ["[models\n", "[functions.chat]\ntype = 'chat'\n"])
def test_hand_written_part_is_wrong(text: str, context: RouteContext, world: World) -> None:
    """A broken file, or one with a name of ours, is refused by its name and with the line."""
    first = roll_out(OLD, context)
    hand = hand_written(world, text)
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, replace(context, hand=hand))

    assert str(hand) in caught.value.what
    assert "line 1" in caught.value.what
    assert settled(world, first.config)


def test_hand_written_part_that_would_break(context: RouteContext, world: World) -> None:
    """What TensorZero loads and cannot serve is refused before anything starts, and kept for reading."""
    first = roll_out(OLD, context)
    hand = hand_written(world, '[functions.mine]\ntype = "chat"\n[functions.mine.variants]\n')
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, replace(context, hand=hand))

    kept = next((context.folder / "rejected").iterdir())
    assert caught.value.what.startswith("functions.mine.variants of the config: there is none")
    assert caught.value.then.startswith(f"read {kept}, then ")
    assert len(world.gateways.did) == 1
    assert settled(world, first.config)


def test_a_named_file_changes(context: RouteContext, world: World) -> None:
    """A prompt that the operator's config names is part of it: another prompt is another generation."""
    hand = hand_written(world, PROMPTED)
    prompt = hand.parent / "system.minijinja"
    prompt.write_text("be brief")
    own = replace(context, hand=hand)
    first, again = roll_out(OLD, own), roll_out(OLD, own)
    prompt.write_text("be long")
    second = roll_out(OLD, own)

    assert (again.change.kind, again.generation) == ("keep", first.generation)
    assert second.change.reason.startswith("a file that config sha256")
    copy = Store(context.folder).generation(second.generation).folder / "system.minijinja"
    assert copy.read_text() == "be long"
    assert settled(world, first.config)


def test_services_file(context: RouteContext, world: World) -> None:
    """The operator's own lines, the mode and a link of pmoves.env stay; ours are put in, and put in once."""
    target = world.root / "real.env"
    target.write_text("MINE=1\r\n")
    target.chmod(0o600)
    (world.root / "pmoves.env").symlink_to(target)
    route = roll_out(OLD, context)
    first = target.read_bytes()
    roll_out(OLD, context)

    assert first == target.read_bytes()
    assert first.startswith(b"MINE=1\r\n")
    assert all(name.encode() in first for name, _ in route.environment)
    assert (world.root / "pmoves.env").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_services_file_clash(context: RouteContext, world: World) -> None:
    """A name that the operator has in pmoves.env is refused before anything starts."""
    first = roll_out(order("a"), context)
    name = first.environment[0][0]
    mine = f"{name}=mine\n"
    (world.root / "pmoves.env").write_text(mine)
    with pytest.raises(RouteError, match=name):
        roll_out(NEW, context)

    assert (world.root / "pmoves.env").read_text() == mine
    assert len(world.gateways.did) == 1
    assert settled(world, first.config)


def test_rollback(context: RouteContext, world: World) -> None:
    """An earlier record's config comes into use as it was."""
    first = roll_out(OLD, context)
    roll_out(NEW, context)
    back = roll_out(replace(OLD, text=first.config), context)

    assert back.config == first.config
    assert settled(world, first.config)


def test_rollback_past_a_broken_file(context: RouteContext, world: World) -> None:
    """The operator's own file of today is no part of an earlier config, but what that one names is."""
    hand = hand_written(world, PROMPTED)
    (hand.parent / "system.minijinja").write_text("be brief")
    own = replace(context, hand=hand)
    first = roll_out(OLD, own)
    hand.write_text("# nothing\n")
    roll_out(OLD, own)
    hand.write_text("[broken")
    (hand.parent / "system.minijinja").unlink()
    back = roll_out(replace(OLD, text=first.config), own)

    copy = Store(context.folder).generation(back.generation).folder / "system.minijinja"
    assert back.config == first.config
    assert copy.read_text() == "be brief"


@pytest.mark.parametrize("marked", [True, False])
def test_rollback_to_a_server_that_is_gone(context: RouteContext, world: World, *, marked: bool) -> None:
    """An earlier config whose server is not there any more is refused, also one without a block of ours."""
    first = roll_out(OLD, context)
    second = roll_out(order("b"), context)
    text = (
        first.config
        if marked
        else "".join(
            line for line in first.config.splitlines(keepends=True) if "pmoves-provisioner" not in line
        )
    )
    with pytest.raises(RouteError) as caught:
        roll_out(replace(order("a"), text=text), context)

    assert caught.value.what == (
        "the earlier config has talker at http://127.0.0.1:8102/v1/, and no verified server is there now"
    )
    assert settled(world, second.config)


def test_rejected_are_few(context: RouteContext, world: World) -> None:
    """Only the newest five rejected configs are kept, and as many configs in use as was said."""
    for number in range(7):
        with pytest.raises(RouteError):
            roll_out(order(f"m{number}"), replace(context, check=reject))
    for number in range(5):
        roll_out(order(f"m{number}"), replace(context, keep=2))

    assert [f"m{number}" in text for number, text in enumerate(configs(world.root, "rejected"), 2)] == [
        True
    ] * 5
    assert len(configs(world.root, "generations")) == 2
    assert len(generations.generations(context.folder)) == 2


def test_earlier_version(context: RouteContext, world: World) -> None:
    """The gateway of an earlier version ends once one with its config is up, right before the switch."""
    old = LabOld(world.effects)
    context.folder.mkdir()
    (context.folder / "tensorzero.toml").write_text("# old\n")
    (context.folder / "previous.toml").write_text("# older\n")
    route = roll_out(OLD, replace(context, old=old, taken=lambda _: old.up))

    log = world.effects.log
    points = [place for place, one in enumerate(log) if one.startswith("point ")]
    assert log[points[0] - 1] == "stop the old gateway"
    assert log[points[0] - 2].startswith("started ")
    assert settled(world, route.config)
    assert "-# old" in route.diff
    assert not list(context.folder.glob("*.toml"))


def test_earlier_version_that_does_not_start_anew(context: RouteContext, world: World) -> None:
    """It serves on its port until the new config is right."""
    old = LabOld(world.effects)
    context.folder.mkdir()
    (context.folder / "tensorzero.toml").write_text("# old\n")
    world.gateways.unloadable = {"# old\n"}
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, replace(context, old=old, check=reject))
    assert caught.value.intact == "the gateway of the earlier version serves as before"
    assert old.up
    route = roll_out(OLD, replace(context, old=old))

    assert settled(world, route.config)
    assert not old.up


def test_keys_change(context: RouteContext, world: World) -> None:
    """Another value of a key is another gateway with the same config; a key is nowhere but in its file."""
    hand = hand_written(
        world,
        '[models.big]\nrouting = ["cloud"]\n[models.big.providers.cloud]\ntype = "openai"\nmodel_name = "x"\n'
        'api_base = "https://cloud.example/v1/"\napi_key_location = "env::MY_KEY"\n',
    )
    world.gateways.needs = {"MY_KEY"}
    own = replace(context, hand=hand, keys={"MY_KEY": "s3cretvalue"})
    first, again = roll_out(OLD, own), roll_out(OLD, own)
    second = roll_out(OLD, replace(own, keys={"MY_KEY": "othervalue"}))

    assert (first.change.kind, again.change.kind, second.change.kind) == ("create", "keep", "replace")
    assert second.change.reason.startswith("the keys of providers changed")
    holders = [path for path in world.root.rglob("*") if path.is_file() and b"value" in path.read_bytes()]
    assert [path.name for path in holders] == [f"{second.generation}.env"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert "s3cret" not in repr(own)
    assert "value" not in repr(second)


def test_it_tells(context: RouteContext) -> None:
    """Who watches is told what is done, and why."""
    events: list[Event] = []
    route = roll_out(OLD, replace(context, sink=events.append))

    short = route.config_hash[:8]
    assert [(event.stage, event.message) for event in events] == [
        ("route", f"create: there is no gateway; one is to serve config sha256 {short}"),
        ("route", f"config sha256 {short} is valid"),
        ("route", f"requests go to {route.generation} now"),
    ]
