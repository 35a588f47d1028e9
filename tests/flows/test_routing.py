"""What the route stage is given: gateways of which kind and why, keys and no others, the order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from flows import routing, routing_keys, routing_kinds, servers
from flows.settings import Settings, load
from tasks.contracts import ContainerSpec, HostFacts, PlannedRoute, ProcessState, RouteTier, silent
from tasks.effects.containers.engine import RegistryAwayError
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.effects.supervisord import Supervisord
from tasks.errors import ImageUnavailableError, PortTakenError, RefusedError, RouteError, SettingsError
from tasks.route.gateways.both import BothGateways
from tasks.route.gateways.contract import Gateways
from tasks.route.gateways.process import WheelGateways
from tasks.route.proxy.choose import Moving
from tasks.route.proxy.contract import Proxy
from tests.lab.hosts import make_host
from tests.lab.routes import CHAT, plan, route

GATEWAY_IMAGE = "tensorzero/gateway:2026.6.0"
PROXY_IMAGE = "docker.io/library/haproxy:3.2.24-alpine"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a host with a state folder of its own."""
    return lab_settings(tmp_path)


def lab_settings(folder: Path, **variables: str) -> Settings:
    """Return settings with some variables set."""
    return load({"HOME": str(folder), "PMOVES_STATE": str(folder / "state"), **variables})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> MemoryEngine:
    """Return the engine that every look finds; a registry has the gateway's image."""
    made = MemoryEngine("lab-host")
    made.offer(GATEWAY_IMAGE, size_bytes=5)
    monkeypatch.setattr(servers, "engine", lambda _settings: made)
    return made


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every port be free, until a test says otherwise."""
    monkeypatch.setattr(routing, "listener", lambda _port: False)


class Programs:
    """A supervisor that only tells which programs run."""

    def __init__(self, running: Iterable[str]) -> None:
        self._running = tuple(running)

    def states(self) -> dict[str, ProcessState]:
        """Return the programs."""
        return {
            name: ProcessState(name, running=True, state="", pid=1, started_at=0, spec_hash="", log="")
            for name in self._running
        }


def nobody(request: Request) -> Reply:
    """Answer nothing."""
    raise HttpError(f"{request.url} is asked, and only a choice is made")


def chosen(settings: Settings, facts: HostFacts) -> tuple[Gateways, str]:
    """Return the gateways that are chosen, and why."""
    watch = routing_kinds.Watch(Supervisord(settings.state), threading.Event(), silent)
    return routing_kinds.gateways(settings, facts, MemoryHttp(nobody), watch=watch)


def early(settings: Settings, facts: HostFacts, *running: str) -> None:
    """Refuse what is to be refused before byte one, on a host that runs some programs."""
    there = Programs(running)
    routing.refuse_early(settings, facts, plan(), there)  # type: ignore[arg-type]  # it asks for no more


# --- gateways ------------------------------------------------------------------------------------


def test_without_an_engine_the_gateway_runs_from_the_wheel(settings: Settings) -> None:
    """No engine is asked for anything."""
    found, why = chosen(settings, make_host(engine=False))

    assert isinstance(found, WheelGateways)
    assert why == "the gateway runs from the wheel, because no container engine answers (no socket)"


def test_with_an_engine_it_runs_in_a_container(settings: Settings, engine: MemoryEngine) -> None:
    """Its image is fetched before anything is chosen; gateways of the wheel are found beside it."""
    found, why = chosen(settings, make_host())

    assert isinstance(found, BothGateways)
    assert found.kind == "container"
    assert why == "the gateway runs in a container, because the engine answers (version 28)"
    assert "pull" in {method for method, _ in engine.calls}


def test_an_image_that_cannot_be_had_is_no_reason_to_fail(settings: Settings, engine: MemoryEngine) -> None:
    """The wheel came with this program; the sentence says what was missing."""
    engine.fail("digest_of", RegistryAwayError("the registry does not answer"))

    found, why = chosen(settings, make_host())

    assert found.kind == "wheel"
    assert why.startswith("the gateway runs from the wheel, because ")
    assert "the registry does not answer" in why


@pytest.mark.parametrize("engine_answers", [True, False])
def test_the_wheel_can_be_asked_for(tmp_path: Path, engine: MemoryEngine, *, engine_answers: bool) -> None:
    """Nothing is pulled then, and a gateway in a container is found still, to be ended."""
    settings = lab_settings(tmp_path, PMOVES_GATEWAY="wheel")

    found, _ = chosen(settings, make_host(engine=engine_answers))

    assert found.kind == "wheel"
    assert isinstance(found, BothGateways) is engine_answers
    assert engine.calls == []


def test_a_container_that_is_asked_for_is_not_replaced_by_the_wheel(
    tmp_path: Path, engine: MemoryEngine
) -> None:
    """It is refused before byte one where there is no engine, and fails where there is no image."""
    settings = lab_settings(tmp_path, PMOVES_GATEWAY="container")
    engine.fail("digest_of", RegistryAwayError("the registry does not answer"))

    with pytest.raises(RefusedError) as refused:
        early(settings, make_host(engine=False))
    with pytest.raises(RefusedError):
        chosen(settings, make_host(engine=False))
    with pytest.raises(ImageUnavailableError):
        chosen(settings, make_host())

    assert str(refused.value) == (
        "PMOVES_GATEWAY is 'container', and no container engine answers (no socket); the routes in use are"
        " unchanged; mend that, or set it to auto or wheel."
    )
    early(settings, make_host())


def test_a_distant_engine_and_an_odd_processor_get_the_wheel(tmp_path: Path, engine: MemoryEngine) -> None:
    """The host's network is another machine's there, and no image runs here."""
    distant = lab_settings(tmp_path, DOCKER_HOST="tcp://10.0.0.5:2376")
    odd = make_host()
    odd = replace(odd, system=replace(odd.system, architecture="riscv64"))

    assert chosen(distant, make_host())[1].endswith("the engine at tcp://10.0.0.5:2376 is on another machine")
    assert chosen(lab_settings(tmp_path), odd)[1].endswith(
        "the catalogue has no image of gateway for riscv64"
    )
    assert engine.calls == []


# --- the proxy -----------------------------------------------------------------------------------


@pytest.fixture
def haproxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what says where the HAProxy of the system is; at first there is none."""

    def put(path: str) -> None:
        monkeypatch.setattr(routing_kinds, "found", lambda: Path(path) if path else None)

    put("")
    return put


def proxy(settings: Settings, facts: HostFacts) -> tuple[Proxy, str]:
    """Return the proxy that is chosen, and why."""
    watch = routing_kinds.Watch(Supervisord(settings.state), threading.Event(), silent)
    return routing_kinds.proxy(settings, facts, watch=watch)


def kinds(found: Proxy) -> list[str]:
    """Return the kinds of a choice, the chosen one first."""
    assert isinstance(found, Moving)
    return [one.kind for one in (found.chosen, *found.others)]


def test_the_haproxy_of_the_system_comes_first(
    settings: Settings, engine: MemoryEngine, haproxy: Callable[[str], None]
) -> None:
    """Nothing is pulled where it is there; the front is known too, for it may have the port still."""
    haproxy("/usr/sbin/haproxy")

    found, why = proxy(settings, make_host())

    assert kinds(found) == ["haproxy", "front"]
    assert why == "HAProxy keeps the gateway's port, from /usr/sbin/haproxy"
    assert engine.calls == []


@pytest.mark.usefixtures("haproxy")
def test_a_container_comes_second(settings: Settings, engine: MemoryEngine) -> None:
    """With its image here before it is chosen."""
    image = engine.offer(PROXY_IMAGE, size_bytes=5)

    found, why = proxy(settings, make_host())

    assert kinds(found) == ["haproxy", "front"]
    assert why == "HAProxy keeps the gateway's port, from a container"
    assert engine.has_image(image)


@pytest.mark.usefixtures("haproxy")
def test_the_front_comes_last(settings: Settings, engine: MemoryEngine) -> None:
    """Without an engine, or where the image cannot be had; the sentence says which."""
    engine.fail("digest_of", RegistryAwayError("the registry does not answer"))
    alone, why_alone = proxy(settings, make_host(engine=False))
    cut_off, why_cut_off = proxy(settings, make_host())

    assert kinds(alone) == ["front"] == kinds(cut_off)
    none = "the front keeps the gateway's port, because this host has no HAProxy of its own, and "
    assert why_alone == f"{none}no container engine answers (no socket)"
    assert why_cut_off.startswith(none)
    assert "the registry does not answer" in why_cut_off


def test_a_kind_can_be_asked_for(
    tmp_path: Path, engine: MemoryEngine, haproxy: Callable[[str], None]
) -> None:
    """The front knows of a HAProxy that has the port still; a HAProxy that is not here is refused."""
    with pytest.raises(RefusedError) as refused:
        proxy(lab_settings(tmp_path, PMOVES_PROXY="haproxy"), make_host(engine=False))
    haproxy("/usr/sbin/haproxy")
    found, why = proxy(lab_settings(tmp_path, PMOVES_PROXY="front"), make_host())

    assert str(refused.value) == (
        "PMOVES_PROXY is 'haproxy', and none is here (this host has no HAProxy of its own, and no container"
        " engine answers (no socket)); the routes in use are unchanged; install it (`apt install haproxy`),"
        " or set it to auto."
    )
    assert kinds(found) == ["front", "haproxy"]
    assert why == "the front keeps the gateway's port, because PMOVES_PROXY says so"
    assert engine.calls == []


def test_a_token_is_never_dropped_for_a_proxy_that_knows_none(
    tmp_path: Path, engine: MemoryEngine, haproxy: Callable[[str], None]
) -> None:
    """It is refused before byte one where that is known, and else before anything is switched."""
    guarded = lab_settings(tmp_path, PMOVES_GATEWAY_TOKEN="x" * 16)
    engine.fail("digest_of", RegistryAwayError("the registry does not answer"))

    with pytest.raises(RefusedError, match="an access token, which needs HAProxy"):
        early(guarded, make_host(engine=False))
    with pytest.raises(SettingsError, match="PMOVES_PROXY is 'front', which knows neither tokens"):
        early(lab_settings(tmp_path, PMOVES_GATEWAY_TOKEN="x" * 16, PMOVES_PROXY="front"), make_host())
    early(guarded, make_host())
    with pytest.raises(RefusedError, match="an access token, which needs HAProxy"):
        proxy(guarded, make_host())
    haproxy("/usr/sbin/haproxy")
    early(guarded, make_host(engine=False))


# --- what is refused early -----------------------------------------------------------------------


def test_what_no_rollout_could_use_is_refused_before_byte_one(tmp_path: Path) -> None:
    """A wide address without a token, and a file of the operator's that is no TOML."""
    with pytest.raises(SettingsError, match="there is no token"):
        early(lab_settings(tmp_path, PMOVES_GATEWAY_BIND="0.0.0.0"), make_host())

    file = tmp_path / "tensorzero.toml"
    file.write_text("[functions.mine\n")
    with pytest.raises(RouteError, match=str(file)):
        early(lab_settings(tmp_path, PMOVES_TENSORZERO_TOML=str(file)), make_host())


def test_a_gateway_port_that_a_stranger_has_is_refused(
    tmp_path: Path, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where our own proxy has it, in a process or a container, or an earlier version's gateway."""
    settings, alone = lab_settings(tmp_path), make_host(engine=False)
    early(settings, alone)
    monkeypatch.setattr(routing, "listener", lambda port: port == settings.gateway_port)

    with pytest.raises(PortTakenError, match=r"port 3030 on .* is taken by another"):
        early(settings, make_host(), "gateway-20261125")

    early(settings, alone, "gateway-proxy")
    early(settings, alone, "gateway")
    image = engine.offer("lab/proxy:1", size_bytes=1)
    engine.pull(image, on_bytes=lambda *_: None)
    made = engine.create(
        ContainerSpec("pmoves-gateway-proxy", "gateway-proxy", image, (), (), 80), host_port=3030
    )
    with pytest.raises(PortTakenError):
        early(settings, make_host())
    engine.start(made.id)
    early(settings, make_host())


def test_the_door_is_as_the_settings_say(tmp_path: Path) -> None:
    """And a token's digest is nothing that is shown."""
    made = routing_kinds.door(
        lab_settings(
            tmp_path, PMOVES_GATEWAY_BIND="10.0.0.5", PMOVES_GATEWAY_TOKEN="x" * 16, PMOVES_GATEWAY_PORT="99"
        )
    )

    assert (made.port, made.bind, made.certificate) == (99, "10.0.0.5", None)
    assert len(made.token_sha256) == 64
    assert made.token_sha256 not in repr(made)


# --- keys ----------------------------------------------------------------------------------------

HAND = """
[models.mine.providers.a]
type = "openai"
api_key_location = "env::MINE"
[models.theirs.providers.b]
type = "openai"
api_key_location = "env::THEIRS"
"""


def test_the_route_stage_gets_the_keys_that_the_configs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the providers, those of the operator's own config, and nothing else of the environment."""
    file = tmp_path / "tensorzero.toml"
    file.write_text(HAND)
    monkeypatch.setenv("MINE", "m")
    monkeypatch.setenv("OTHER", "o")
    asked: list[str] = []

    def secrets(names: Iterable[str]) -> dict[str, str]:
        asked.extend(names)
        return {"THEIRS": "from-a-block"}

    settings = lab_settings(tmp_path, PMOVES_TENSORZERO_TOML=str(file), VENICE_API_KEY="v")
    found = routing_keys.keys(settings, plan(), secrets=secrets)

    assert found == {"MINE": "m", "THEIRS": "from-a-block", "VENICE_API_KEY": "v"}
    assert "MINE" not in asked
    assert {"THEIRS", "GROQ_API_KEY"} <= set(asked)


def test_an_earlier_config_has_its_keys_or_is_refused(tmp_path: Path) -> None:
    """Before a model is fetched for it; our names in it lead to the operator's variables."""
    config = '[models.v]\nrouting = ["venice"]\n[models.v.providers.venice]\ntype = "openai"\n'
    back = route(config + 'api_key_location = "env::PMOVES_KEY_VENICE"\n')
    bare, keyed = lab_settings(tmp_path), lab_settings(tmp_path, VENICE_API_KEY="v")

    with pytest.raises(RouteError) as refused:
        routing_keys.refuse_keyless(bare, plan(), back, secrets=routing_keys.no_secrets)

    assert "VENICE_API_KEY, which is not set" in str(refused.value)
    routing_keys.refuse_keyless(keyed, plan(), back, secrets=routing_keys.no_secrets)
    assert routing_keys.keys(keyed, plan(), back) == {"VENICE_API_KEY": "v"}


def test_which_clouds_have_a_key_is_read_from_what_the_gateway_has(settings: Settings) -> None:
    """Not from the environment of whoever asks; a file that is not there is no trouble."""
    keys = settings.state / "gateway" / "keys"
    keys.mkdir(parents=True)
    (keys / "g2.env").write_text('PMOVES_KEY_VENICE="v"\n')

    assert routing_keys.keyed(settings, route()) == {"venice"}
    assert routing_keys.keyed(settings, route(generation="gone")) == frozenset()


# --- the order -----------------------------------------------------------------------------------


def test_a_rollback_orders_the_very_config_and_the_functions_of_that_time(settings: Settings) -> None:
    """A run orders what its plan has."""
    old = PlannedRoute("old", "s", "llm", "p", tiers=(RouteTier("local", "local", "qwen"),))

    forth = routing.order(settings, plan(), ())
    back = routing.order(settings, plan(), (), route("# old\n", functions=(old,)))

    assert (forth.text, forth.routes[0]) == (None, CHAT)
    assert (back.text, back.routes) == ("# old\n", (old,))
    assert routing.order(settings, plan(), (), route("# old\n", functions=())).routes[0] == CHAT
