"""The only reader of environment variables, and the only writer of those that libraries read.

PMOVES_STATE         the state folder                ~/.local/state/pmoves
PMOVES_HOST          this host's name in plans       its host name, up to the first dot
PMOVES_GATEWAY_PORT  where the gateway answers       3030
PMOVES_MODEL_PORT    the first model server's port   7990
PMOVES_PROFILES      another catalogue               the one that ships; a folder like profiles/
PMOVES_WEIGHTS_FROM  folders that may hold weights   none; several with ":" between them
PMOVES_MIRRORS       hubs to ask before HF_ENDPOINT  none; several with blanks between them
PMOVES_SEED_TOKEN    what neighbours that seed want  none; `pmoves seed` asks for it too
PMOVES_OLLAMA        auto, own or external        auto: containers, else an Ollama that already runs
PMOVES_EXTERNAL      roles that other servers play none; llm=http://127.0.0.1:8000/v1#model, with blanks
PMOVES_LIMIT_RATE    bytes a second of all downloads no limit; 20MB, 2.5MiB
HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN         as Hugging Face's own tools read them
HF_TOKEN_PATH        a file with the token           only where it is set and HF_TOKEN is not
OLLAMA_HOST, OLLAMA_MODELS                           as Ollama reads them
SSL_CERT_FILE, REQUESTS_CA_BUNDLE                    certificates to trust
DOCKER_HOST          the container engine            unix:///var/run/docker.sock
PREFECT_API_URL      the Prefect server              http://127.0.0.1:4200/api
PMOVES_CLOUD         what may go to a cloud          services: as the services say; off, or names of functions
PMOVES_TENSORZERO_TOML  your own gateway config      none; ours is merged with a copy of it
PMOVES_ENV_FILE      where pmoves.env is merged      <state>/pmoves.env
PMOVES_GATEWAY       auto, wheel or container        auto: a container where an engine has the image
PMOVES_PROXY         auto, haproxy or front          auto: HAProxy where it can be had
PMOVES_GATEWAY_BIND  the address of the gateway      127.0.0.1; a wider one needs a token
PMOVES_GATEWAY_TOKEN, PMOVES_GATEWAY_TOKEN_FILE      what clients must send; none. Only its sha256 is kept
PMOVES_GATEWAY_CERTIFICATE  PEM with key, for TLS    none
PMOVES_WATCH         seconds watched after a rollout 10
PMOVES_KEYS_FILE     NAME=value lines with keys      none; what the environment has comes first
VENICE_API_KEY, GROQ_API_KEY, TOGETHER_API_KEY, ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY
                                                     keys of clouds that the gateway may turn to
HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY         in either case, as every download reads them
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flows.settings_gateway import GatewaySettings, gateway
from flows.settings_keys import values
from flows.settings_servers import external, ollama_mode
from flows.settings_weights import mirrors, ollama, ollama_models, several, token, url
from tasks import catalogue
from tasks.contracts import Proxy
from tasks.errors import SettingsError
from tasks.plan.request import External, OllamaMode

HOST_PATTERN = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LAST_PORT = 65535
PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
PASSED_ON = re.compile(
    r"PIP_\w+|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|(?i:(https?|all|no)_proxy)|OLLAMA_(HOST|MODELS)"
    r"|PMOVES_(PROFILES|OLLAMA|EXTERNAL|MIRRORS|WEIGHTS_FROM|LIMIT_RATE|CLOUD|TENSORZERO_TOML|ENV_FILE"
    r"|GATEWAY|PROXY|GATEWAY_BIND|GATEWAY_TOKEN_FILE|GATEWAY_CERTIFICATE|WATCH|KEYS_FILE)"
)
"""What a worker's runs need too, because they have no other environment. Tokens and keys are not among it."""

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is, for one run."""

    host: str
    hostname: str
    home: Path
    state: Path
    store: Path
    engine: str
    hub: str
    hub_token: str | None = field(repr=False)
    ollama_library: str
    prefect_api_url: str
    gateway_port: int
    model_port: int
    gateway: GatewaySettings
    passed_on: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxies: tuple[Proxy, ...] = ()
    ollama: str = "http://127.0.0.1:11434"
    ollama_mode: OllamaMode = "auto"
    external: tuple[External, ...] = ()
    ollama_models: Path | None = None
    folders: tuple[Path, ...] = ()
    mirrors: tuple[str, ...] = ()
    seed_token: str | None = field(default=None, repr=False)
    profiles: Path = catalogue.DEFAULT
    limit_rate: str = ""
    ca_file: str | None = None
    proxy_variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def cloud(self) -> tuple[str, ...]:
        """The clouds that have a usable key, affordable ones first."""
        return self.gateway.cloud

    @property
    def prefect_port(self) -> int:
        """The port in `prefect_api_url`."""
        return urlsplit(self.prefect_api_url).port or 4200

    @property
    def prefect_is_local(self) -> bool:
        """Whether the Prefect server is one that this program may start."""
        return urlsplit(self.prefect_api_url).hostname in LOOPBACK

    @property
    def prefect_ui_url(self) -> str:
        """Where a browser finds the Prefect UI."""
        return self.prefect_api_url.removesuffix("/").removesuffix("/api")


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a variable has a value that cannot be used.
    """
    env = os.environ if environment is None else environment
    home = Path(env.get("HOME") or Path.home())
    hostname = socket.gethostname()
    state = _state(env, home)
    return Settings(
        host=_host(env.get("PMOVES_HOST") or _simplified(hostname)),
        hostname=hostname,
        home=home,
        state=state,
        store=_store(env, home),
        engine=env.get("DOCKER_HOST") or "unix:///var/run/docker.sock",
        hub=url(env, "HF_ENDPOINT", "https://huggingface.co"),
        hub_token=token(env),
        ollama_library=url(env, "PMOVES_OLLAMA_LIBRARY", "https://registry.ollama.ai/v2/"),
        prefect_api_url=_prefect_url(env),
        gateway_port=_port(env, "PMOVES_GATEWAY_PORT", 3030),
        model_port=_other_port(env, "PMOVES_MODEL_PORT", 7990, "PMOVES_GATEWAY_PORT", 3030),
        gateway=gateway(env, state),
        passed_on=tuple((name, env[name]) for name in sorted(env) if PASSED_ON.fullmatch(name)),
        proxies=_proxies(env),
        ollama=ollama(env),
        ollama_mode=ollama_mode(env),
        external=external(env),
        ollama_models=ollama_models(env, home),
        folders=tuple(Path(one).expanduser().absolute() for one in several(env, "PMOVES_WEIGHTS_FROM", ":")),
        mirrors=mirrors(env),
        seed_token=env.get("PMOVES_SEED_TOKEN", "").strip() or None,
        profiles=_profiles(env),
        limit_rate=env.get("PMOVES_LIMIT_RATE", ""),
        ca_file=env.get("SSL_CERT_FILE") or env.get("REQUESTS_CA_BUNDLE") or None,
        proxy_variables=tuple((name, env[name]) for name in sorted(env) if name.upper() in PROXIES),
    )


def environment_values(names: Iterable[str], settings: Settings) -> dict[str, str]:
    """Return what variables hold that a config names, from the environment or the file of keys.

    Raises:
        SettingsError: the file of keys cannot be read.
    """
    wanted = tuple(names)
    found = values(wanted, os.environ, settings.gateway.keys_file)
    return found | {name: key for name, key in settings.gateway.keys if name in wanted}


def apply_to_libraries(settings: Settings) -> None:
    """Set what Prefect and the Hub client read at import: no telemetry, our server, our folders."""
    os.environ.update(
        PREFECT_API_URL=settings.prefect_api_url,
        PREFECT_HOME=str(settings.state / "prefect"),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW="ignore",
        PREFECT_CLI_PROMPT="false",
        # The run's log goes to the server; a terminal has its own display (flows/watch.py).
        PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
        DO_NOT_TRACK="1",
        HF_HUB_CACHE=str(settings.store),
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HUB_DISABLE_UPDATE_CHECK="1",
        HF_HUB_DISABLE_XET="1",
        HF_HUB_DISABLE_IMPLICIT_TOKEN="1",  # noqa: S106  # a switch, not a secret
        HF_HUB_DOWNLOAD_TIMEOUT="30",
        HF_HUB_ETAG_TIMEOUT="10",
    )


def _state(env: Mapping[str, str], home: Path) -> Path:
    if env.get("PMOVES_STATE"):
        path = Path(env["PMOVES_STATE"]).expanduser().absolute()
    else:
        path = Path(env.get("XDG_STATE_HOME") or home / ".local/state").absolute() / "pmoves"
    # supervisord takes what follows such a sign for a comment, and knows no escape.
    if re.search(r"\s[;#]|[\r\n]", str(path)):
        raise SettingsError(
            f"the state folder {str(path)!r} has a blank before ; or #, or a line break, in its name",
            "nothing was changed",
            "set PMOVES_STATE to another folder",
        )
    return path


def _profiles(env: Mapping[str, str]) -> Path:
    """Return the catalogue's folder; what is wrong in it is said when it is read."""
    text = env.get("PMOVES_PROFILES")
    return Path(text).expanduser().absolute() if text else catalogue.DEFAULT


def _store(env: Mapping[str, str], home: Path) -> Path:
    """Find the Hugging Face cache as its own client does."""
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"]).expanduser().absolute()
    cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(env.get("HF_HOME") or cache / "huggingface").expanduser().absolute() / "hub"


def _simplified(hostname: str) -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", hostname.lower().partition(".")[0]).strip("-")
    return name or "localhost"


def _host(name: str) -> str:
    if not re.fullmatch(HOST_PATTERN, name):
        raise SettingsError(
            f"PMOVES_HOST is {name!r}, which is not a host name",
            "nothing was changed",
            "use lower-case letters, digits and dashes, 63 at most",
        )
    return name


def _port(env: Mapping[str, str], key: str, default: int) -> int:
    text = env.get(key) or str(default)
    if not (text.isdecimal() and 0 < int(text) <= LAST_PORT):
        raise SettingsError(
            f"{key} is {text!r}, which is not a port",
            "nothing was changed",
            f"set a number from 1 to {LAST_PORT}, or leave it out for {default}",
        )
    return int(text)


def _proxies(env: Mapping[str, str]) -> tuple[Proxy, ...]:
    """Return the proxy variables that are set, without what stands before an "@"."""
    names = sorted(name for name in env if name.upper() in PROXIES and env[name])
    return tuple(Proxy(name, re.sub(r"(?<![^/,\s])[^/,\s]*@", "", env[name])) for name in names)


def _other_port(env: Mapping[str, str], key: str, default: int, other: str, other_default: int) -> int:
    port = _port(env, key, default)
    if port == _port(env, other, other_default):
        raise SettingsError(
            f"{key} and {other} are both {port}",
            "nothing was changed",
            "give each a port of its own",
        )
    return port


def _prefect_url(env: Mapping[str, str]) -> str:
    address = url(env, "PREFECT_API_URL", "http://127.0.0.1:4200/api").rstrip("/")
    if not address.endswith("/api"):
        raise SettingsError(
            f"PREFECT_API_URL is {address!r}, which does not end in /api",
            "nothing was changed",
            f"set {address}/api",
        )
    return address
