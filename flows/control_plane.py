"""The Prefect server and worker on this host, as supervised processes. Does not import Prefect.

The server keeps its SQLite database below `<state>/prefect`, binds to 127.0.0.1, and sends nothing home.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from flows.settings import Settings
from tasks.contracts import Change, Event, ProcessSpec, Sink
from tasks.effects.http import Http, HttpError
from tasks.effects.network import listener
from tasks.effects.processes import Supervisor, spec_hash
from tasks.errors import ControlPlaneError, PortTakenError, StoppedError

SERVER = "prefect-server"
WORKER = "prefect-worker"
POOL = "hosts"
START_DEADLINE_S = 240.0
SAY_EVERY_S = 5.0
POLL_S = 0.2
OK = 200


def server_spec(settings: Settings) -> ProcessSpec:
    """Return the process of the local Prefect server."""
    return ProcessSpec(
        name=SERVER,
        command=(
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", "127.0.0.1", "--port", str(settings.prefect_port)),
        ),
        environment=(
            *_client_environment(settings),
            # Without this the UI asks the default port, whatever --port says.
            ("PREFECT_SERVER_API_PORT", str(settings.prefect_port)),
            ("PREFECT_SERVER_API_HOST", "127.0.0.1"),
            ("PREFECT_SERVER_UI_API_URL", "/api"),
            ("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false"),
            # Leases in memory are lost in a restart, and the runs that hold them are then killed.
            (
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
                "prefect.server.concurrency.lease_storage.filesystem",
            ),
        ),
        stop_timeout_s=20,
    )


def worker_spec(settings: Settings) -> ProcessSpec:
    """Return the process of a Prefect worker that takes this host's runs."""
    return ProcessSpec(
        name=WORKER,
        command=(
            *(sys.executable, "-m", "prefect", "worker", "start", "--type", "process"),
            *("--pool", POOL, "--work-queue", "default", "--work-queue", settings.host),
            *("--name", settings.host, "--limit", "1"),
        ),
        environment=(
            *_client_environment(settings),
            ("PREFECT_WORKER_QUERY_SECONDS", "2"),
            ("PMOVES_STATE", str(settings.state)),
            ("PMOVES_HOST", settings.host),
            ("PMOVES_GATEWAY_PORT", str(settings.gateway_port)),
            ("PMOVES_MODEL_PORT", str(settings.model_port)),
            ("HF_HUB_CACHE", str(settings.store)),
            ("HF_ENDPOINT", settings.hub),
            ("PMOVES_OLLAMA_LIBRARY", settings.ollama_library),
            ("DOCKER_HOST", settings.engine),
            *settings.passed_on,
        ),
        stop_timeout_s=45,
    )


def _client_environment(settings: Settings) -> tuple[tuple[str, str], ...]:
    return (
        ("PREFECT_API_URL", settings.prefect_api_url),
        ("PREFECT_HOME", str(settings.state / "prefect")),
        ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        ("DO_NOT_TRACK", "1"),
        ("PYTHONUNBUFFERED", "1"),
    )


def answers(settings: Settings, http: Http) -> bool:
    """Whether a Prefect server answers at the configured address."""
    try:
        return http.get(f"{settings.prefect_api_url}/health", timeout_s=2.0).status == OK
    except HttpError:
        return False


def ensure_server(
    settings: Settings,
    supervisor: Supervisor,
    *,
    http: Http,
    sink: Sink,
    stop: threading.Event,
) -> Change:
    """Start the local Prefect server if none answers, and wait until it is really up.

    Raises:
        PortTakenError: somebody else listens on its port.
        ControlPlaneError: it does not come up, or it is not ours to start.
    """
    resource = f"process {SERVER}"
    if answers(settings, http):
        return Change(resource, "keep", f"a Prefect server answers at {settings.prefect_api_url}")
    known = supervisor.states().get(SERVER)
    starting = known is not None and known.running and known.spec_hash == spec_hash(server_spec(settings))
    if not starting:
        _refuse_foreign(settings)
        sink(Event("set-up", SERVER, "starting it (the first start takes about half a minute)"))
        supervisor.start(server_spec(settings))
    _wait(settings, supervisor, http=http, sink=sink, stop=stop)
    return Change(resource, "create", f"nothing answered at {settings.prefect_api_url}")


def _refuse_foreign(settings: Settings) -> None:
    if not settings.prefect_is_local:
        raise ControlPlaneError(
            f"no Prefect server answers at {settings.prefect_api_url}, and it is not on this host",
            "nothing was changed",
            "start it there, or unset PREFECT_API_URL to use a local one",
        )
    if listener(settings.prefect_port):
        raise PortTakenError(
            f"port {settings.prefect_port} on 127.0.0.1 is taken by a program that is no Prefect server",
            "nothing was started",
            f"free it (`ss -ltnp 'sport = :{settings.prefect_port}'` shows who holds it) or set"
            " PREFECT_API_URL to http://127.0.0.1:PORT/api with a free port",
        )


def _wait(
    settings: Settings, supervisor: Supervisor, *, http: Http, sink: Sink, stop: threading.Event
) -> None:
    begun = said = time.monotonic()
    while not answers(settings, http):
        now = time.monotonic()
        state = supervisor.states().get(SERVER)
        if stop.is_set():
            raise StoppedError(
                "stopped while the Prefect server was starting", "nothing was changed", "start again"
            )
        if state is None or state.state == "fatal" or now - begun > START_DEADLINE_S:
            raise ControlPlaneError(
                f"the Prefect server does not come up (last output: {supervisor.log_tail(SERVER)})",
                "nothing was provisioned",
                f"read {state.log if state else settings.state / 'supervisor'}",
            )
        if now - said >= SAY_EVERY_S:
            sink(Event("set-up", SERVER, f"waiting for its first answer, {now - begun:.0f} s so far"))
            said = now
        time.sleep(POLL_S)
    sink(Event("set-up", SERVER, f"up after {time.monotonic() - begun:.1f} s"))


def project_folder() -> Path:
    """Return the folder that holds prefect.yaml."""
    return Path(__file__).resolve().parent.parent
