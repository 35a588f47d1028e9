"""How the settings of servers are read that already run and are not ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args
from urllib.parse import urlsplit

from flows.settings_weights import several
from tasks.contracts import Role
from tasks.errors import SettingsError
from tasks.plan.request import External, OllamaMode
from tasks.wording import listed, meant

NEAR = {"127.0.0.1", "localhost", "::1"}
EXAMPLE = "llm=http://127.0.0.1:8000/v1#model-name"
MODEL = re.compile(r"[\w./:@+-]+")


def ollama_mode(env: Mapping[str, str]) -> OllamaMode:
    """Return which Ollama is used: a container of ours, one that already runs, or what there is.

    Raises:
        SettingsError: it is none of these.
    """
    said = env.get("PMOVES_OLLAMA", "").strip() or "auto"
    for mode in get_args(OllamaMode):
        if said == mode:
            return mode  # type: ignore[no-any-return]  # one of its words
    raise SettingsError(
        f"PMOVES_OLLAMA is {said!r}{meant(said, get_args(OllamaMode))}",
        "nothing was changed",
        f"set it to {' or '.join(get_args(OllamaMode))}, or leave it out",
    )


def external(env: Mapping[str, str]) -> tuple[External, ...]:
    """Return the roles that servers play which already run.

    Raises:
        SettingsError: an entry is not written role=address#model, is not on this host, or stands there twice.
    """
    found = tuple(_external(text) for text in several(env, "PMOVES_EXTERNAL", None))
    roles = [one.role for one in found]
    twice = next((role for role in roles if roles.count(role) > 1), None)
    if twice is not None:
        raise _wrong(f"it names two servers for {twice}", "leave one of them out")
    return found


def _external(text: str) -> External:
    role, equals, rest = text.partition("=")
    address, hash_sign, model = rest.partition("#")
    if not (equals and address):
        raise _wrong(f"{text!r} is not written role=address", f"write for example {EXAMPLE}")
    roles: dict[str, Role] = {one: one for one in get_args(Role)}
    if role not in roles:
        near = meant(role, roles)
        raise _wrong(f"there is no role {role!r}{near}", f"take one of {listed(list(roles))}")
    if hash_sign and not MODEL.fullmatch(model):
        raise _wrong(f"the model of {role} is {model!r}", f"write for example {EXAMPLE}, or leave the # out")
    return External(roles[role], _address(role, address), model)


def _address(role: str, text: str) -> str:
    """Return an address as an OpenAI client takes it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _wrong(
            f"the address of {role} is {text!r}, which is none of http", f"write for example {EXAMPLE}"
        )
    if parts.username or parts.password:
        raise _wrong(
            f"the address of {role} carries a password", "leave it out: such servers are on this host"
        )
    if parts.hostname not in NEAR:
        raise _wrong(
            f"the server of {role} is on {parts.hostname}, and only one on this host is used",
            "take an address that begins with http://127.0.0.1",
        )
    if parts.query or not parts.path.rstrip("/").endswith("/v1"):
        raise _wrong(
            f"the address of {role} is {text!r}, which does not end in /v1", f"write for example {EXAMPLE}"
        )
    return text.rstrip("/")


def _wrong(what: str, then: str) -> SettingsError:
    return SettingsError(f"PMOVES_EXTERNAL cannot be used: {what}", "nothing was changed", then)
