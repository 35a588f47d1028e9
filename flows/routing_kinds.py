"""Which kinds of gateway and proxy a host gets, and why: from what is installed, the engine and the settings.

gateway   a container, where an engine answers and the image can be had; else the wheel
proxy     the HAProxy of the system, else one in a container, else the front
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from flows import servers
from flows.planning import shelf
from flows.routing_keys import folder
from flows.running import has_engine
from flows.settings import Settings
from flows.settings_gateway import refuse_unusable
from tasks.contracts import Event, HostFacts, Sink, ToolImage, silent
from tasks.effects.containers import pins
from tasks.effects.http import Http
from tasks.effects.supervisord import Supervisord
from tasks.errors import RefusedError, ServeError, SettingsError
from tasks.route.context import NAME
from tasks.route.gateways.both import BothGateways
from tasks.route.gateways.container import ContainerGateways
from tasks.route.gateways.contract import Gateways
from tasks.route.gateways.process import WheelGateways
from tasks.route.proxy.choose import InContainer, Moving, choose
from tasks.route.proxy.contract import PROGRAM, Door, Proxy
from tasks.route.proxy.front import refuse_door
from tasks.route.proxy.haproxy_starter import found

IMAGE, PROXY_IMAGE = "gateway", "haproxy"
"""What the catalogue calls the gateway's own image, and that of the proxy."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What keeps processes, what ends a wait, and who watches."""

    supervisor: Supervisord
    stop: threading.Event
    sink: Sink


def door(settings: Settings) -> Door:
    """Return how clients come in.

    Raises:
        SettingsError: they would come in without a token, or with a certificate that is none.
    """
    wanted = settings.gateway
    refuse_unusable(wanted)
    return Door(settings.gateway_port, wanted.bind, wanted.token_sha256, wanted.certificate)


# --- gateways ------------------------------------------------------------------------------------


def gateways(settings: Settings, facts: HostFacts, http: Http, *, watch: Watch) -> tuple[Gateways, str]:
    """Return what starts gateways, and why that.

    An engine that answers gets a container, where the image can be had: it is fetched here, for what cannot
    be had must be known before anything is chosen.

    Raises:
        RefusedError: containers are asked for, and there is no engine for them.
        ServeError: containers are asked for, and the image cannot be had.
        StoppedError: the run was asked to stop.
    """
    mode, engine = settings.gateway.mode, facts.container_engine
    wheel = WheelGateways(watch.supervisor, http, sys.executable, stop=watch.stop)
    image, cannot = image_of(settings, facts, IMAGE), no_container(settings, facts, IMAGE)
    if cannot or image is None:
        if mode == "container":
            raise only_container(cannot)
        return wheel, f"the gateway runs from the wheel, because {cannot}"
    boxes = ContainerGateways(
        servers.engine(settings),
        http,
        image,
        _pins(settings),
        stop=watch.stop,
        sink=watch.sink,
    )
    if mode == "wheel":
        return BothGateways(wheel, boxes), "the gateway runs from the wheel, because PMOVES_GATEWAY says so"
    try:
        boxes.prepare()
    except ServeError as error:
        if mode == "container":
            raise
        return BothGateways(wheel, boxes), f"the gateway runs from the wheel, because {error.what}"
    why = "PMOVES_GATEWAY says so" if mode == "container" else f"the engine answers ({engine.detail})"
    return BothGateways(boxes, wheel), f"the gateway runs in a container, because {why}"


def _pins(settings: Settings) -> Path:
    return settings.state / "images.lock.json"


def image_of(settings: Settings, facts: HostFacts, name: str) -> ToolImage | None:
    """Return what the catalogue has for this host's processor, by name; None for nothing."""
    architecture = facts.system.architecture
    images = shelf(settings).routing.images
    return next((one for one in images if one.name == name and architecture in one.architectures), None)


def only_container(cannot: str) -> RefusedError:
    """Return the refusal of a host that is to have a container, and cannot."""
    return RefusedError(
        f"PMOVES_GATEWAY is 'container', and {cannot}",
        "the routes in use are unchanged",
        "mend that, or set it to auto or wheel",
    )


def no_container(settings: Settings, facts: HostFacts, name: str) -> str:
    """Say why the gateway, or the proxy, cannot be a container here; "" where it can."""
    if not facts.container_engine.answers:
        return f"no container engine answers ({facts.container_engine.detail})"
    if not servers.near(settings):
        return f"the engine at {settings.engine} is on another machine"
    if image_of(settings, facts, name) is None:
        return f"the catalogue has no image of {name} for {facts.system.architecture}"
    return ""


# --- the proxy -----------------------------------------------------------------------------------


def proxy(settings: Settings, facts: HostFacts, *, watch: Watch) -> tuple[Proxy, str]:
    """Return what keeps the gateway's port, and why that: HAProxy where it can be had, else the front.

    Raises:
        RefusedError: what the settings ask of it cannot be had here.
        StoppedError: the run was asked to stop.
    """
    wanted, mode, program = door(settings), settings.gateway.proxy, found()
    box, cannot = None, "PMOVES_PROXY says so"
    if mode != "front" and program is None:
        box, cannot = _proxy_box(settings, facts, watch)
    if mode == "haproxy" and program is None and box is None:
        raise RefusedError(
            f"PMOVES_PROXY is 'haproxy', and none is here ({cannot})",
            "the routes in use are unchanged",
            "install it (`apt install haproxy`), or set it to auto",
        )
    made = _kinds(settings, wanted, watch, program=program, box=box)
    if mode == "front" or (program is None and box is None):
        _refuse_door(settings, wanted)
        return front_first(made), f"the front keeps the gateway's port, because {cannot}"
    where = f"{program}" if program is not None else "a container"
    return made, f"HAProxy keeps the gateway's port, from {where}"


def refuse_door_of_front(settings: Settings, facts: HostFacts) -> None:
    """Refuse, without fetching anything, what the front does not know, where there can be no HAProxy.

    Raises:
        RefusedError: a token, TLS or another address is asked for.
        SettingsError: see `door`.
    """
    wanted = door(settings)
    none = not facts.container_engine.answers and found() is None
    if none or settings.gateway.proxy == "front":
        _refuse_door(settings, wanted)


def _refuse_door(settings: Settings, wanted: Door) -> None:
    try:
        refuse_door(wanted)
    except RefusedError as error:
        if settings.gateway.proxy != "front":
            raise
        raise SettingsError(
            "PMOVES_PROXY is 'front', which knows neither tokens nor TLS nor an address other than 127.0.0.1",
            error.intact,
            "set it to auto, or leave those settings out",
        ) from None


def _proxy_box(settings: Settings, facts: HostFacts, watch: Watch) -> tuple[InContainer | None, str]:
    """Return what a HAProxy in a container is made of, with its image here; else why there can be none."""
    none = "this host has no HAProxy of its own"
    if cannot := no_container(settings, facts, PROXY_IMAGE):
        return None, f"{none}, and {cannot}"
    box = _box(settings, watch)
    if box is None:
        return None, none
    try:
        reference = pins.pinned(box.image, box.engine, box.pins)
        pins.fetch(box.image, reference, box.engine, box.pins, sink=watch.sink, stop=watch.stop)
    except ServeError as error:
        return None, f"{none}, and {error.what}"
    return box, ""


def _box(settings: Settings, watch: Watch) -> InContainer | None:
    image = next((one for one in shelf(settings).routing.images if one.name == PROXY_IMAGE), None)
    if image is None:
        return None
    return InContainer(servers.engine(settings), image, _pins(settings), watch.stop, watch.sink)


def _kinds(
    settings: Settings, wanted: Door, watch: Watch, *, program: Path | None, box: InContainer | None
) -> Proxy:
    def say(text: str) -> None:
        """Tell of a pause."""
        watch.sink(Event("route", NAME, text))

    place = folder(settings) / "proxy"
    return choose(wanted, place, watch.supervisor, sys.executable, haproxy=program, container=box, say=say)


def front_first(made: Proxy) -> Proxy:
    """Return a choice with the front first, which stands last in it; the others are only moved away from."""
    if not isinstance(made, Moving):
        return made
    *others, front = (made.chosen, *made.others)
    return Moving(front, tuple(others), made.say)


def proxy_there(settings: Settings) -> Proxy:
    """Return the proxy that the last run left, of whichever kind, to be asked."""
    supervisor = Supervisord(settings.state)
    watch = Watch(supervisor, threading.Event(), silent)
    state = supervisor.states().get(PROGRAM)
    contained = (state is None or not state.running) and has_engine(settings)
    box = _box(settings, watch) if contained else None
    return _kinds(settings, Door(settings.gateway_port), watch, program=found(), box=box)
