"""The gateway's environment: which keys a config asks for, whose they are, and the one file that holds them.

A key is in that file and nowhere else: no error, no record and no representation shows one.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.effects.files import sync_folder
from tasks.errors import RouteError
from tasks.route.merge.block import INTACT
from tasks.route.merge.env_text import Odd, read, written
from tasks.route.merge.managed import CONFIG, dotted, parse, place_of

LONGEST_KEY = 4096
MODE = 0o600

Place = tuple[str, ...]

DEFAULT_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "fireworks": "FIREWORKS_API_KEY",
    "google_ai_studio_gemini": "GOOGLE_AI_STUDIO_API_KEY",
    "groq": "GROQ_API_KEY",
    "hyperbolic": "HYPERBOLIC_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "openai": "OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "sglang": "SGLANG_API_KEY",
    "tgi": "TGI_API_KEY",
    "together": "TOGETHER_API_KEY",
    "vllm": "VLLM_API_KEY",
    "xai": "XAI_API_KEY",
}
"""What TensorZero reads for a provider that does not say where its key is, by the provider's type
(tensorzero/tensorzero: crates/tensorzero-core/src/config/provider_types.rs)."""

_KEY_NAME = re.compile(r"env::(.*)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OWN = re.compile(r"TENSORZERO_.*|LD_.*|PATH|HOME|RUST_LOG|LANG")
"""Variables that mean something to the gateway itself or to the system that starts it."""


def sane(value: str) -> bool:
    """Whether a key can be sent as it is."""
    return not fault(value)


def fault(value: str) -> str:
    """Say what is wrong with a key, without showing it; nothing where it can be sent as it is.

    TensorZero takes an empty one, and one with a line break, and then fails with every request.
    """
    for wrong, words in (
        (not value.strip(), "is empty"),
        ("\n" in value or "\r" in value, "holds a line break"),
        (not value.isascii() or not value.isprintable(), "holds a character that no header can carry"),
        (" " in value, "holds a blank"),
        (value[0:1] in {'"', "'"} and value[-1:] == value[0:1], "has quotes around it"),
        (value.startswith("${"), "is the name of a variable that nobody put in"),
        (len(value) > LONGEST_KEY, f"is longer than {LONGEST_KEY} characters"),
    ):
        if wrong:
            return words
    return ""


def key_places(config: Mapping[str, Any]) -> dict[str, Place]:
    """Return each variable that TensorZero reads a key from, with the first place that asks for it."""
    found: dict[str, Place] = {}
    for name, place in (*_named(config, ()), *_defaults(config)):
        found.setdefault(name, place)
    return found


def gateway_environment(
    config_text: str, names: Mapping[str, str], keys: Mapping[str, str], *, name: str = CONFIG
) -> str:
    """Return the lines of the gateway's environment: a key for each name in the config, and nothing else.

    Args:
        config_text: The whole config.
        names: What the config calls a key → the operator's variable, where they are not the same.
        keys: The operator's variables.
        name: What to call the config.

    Raises:
        RouteError: a key is missing or cannot be sent: TensorZero would not start, or fail with each request.
    """
    lines = []
    for key, place in sorted(key_places(parse(config_text, name)).items()):
        variable = names.get(key, key)
        where = f"{dotted(place)} (line {place_of(config_text, place)} of {name})"
        if not _VARIABLE.fullmatch(key) or _OWN.fullmatch(key):
            what = f"{where} takes its key from {key!r}, which no key can be called"
            raise RouteError(what, INTACT, "name the variable otherwise there")
        value = keys.get(variable)
        if value is None:
            what = f"{where} takes its key from {variable}, which is not set: TensorZero would not start"
            raise RouteError(what, INTACT, f"set {variable}, or take that provider out")
        if wrong := fault(value):
            raise RouteError(
                f"{variable}, the key of {where}, {wrong}", INTACT, f"set {variable} to the key alone"
            )
        lines.append(written(key, value, quoted=True) + "\n")
    return "".join(lines)


def read_environment(text: str) -> dict[str, str]:
    """Read an environment file.

    Raises:
        RouteError: a line is not NAME=value; the line is not shown.
    """
    found: dict[str, str] = {}
    for one in read(text):
        if isinstance(one, Odd) or one.unclosed:
            what = f"line {one.line} of the gateway's environment is not written NAME=value"
            raise RouteError(what, INTACT, "start a run, which writes that file again")
        found[one.name] = one.value
    return found


def write_environment(path: Path, text: str) -> None:
    """Replace an environment file in one step. No other user can read it at any moment.

    Raises:
        RouteError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            os.fchmod(descriptor, MODE)  # whatever the umask took or a default of the folder gave
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        what = f"the gateway's keys cannot be written to {path} ({error.strerror or error})"
        raise RouteError(what, INTACT, f"make {path.parent} writable") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _named(value: object, place: Place) -> Iterator[tuple[str, Place]]:
    if isinstance(value, str) and place[-1] != "api_base":
        if match := _KEY_NAME.fullmatch(value):
            yield match[1], place
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _named(inside, (*place, key))
    elif isinstance(value, list):
        for inside in value:
            yield from _named(inside, place)


def _defaults(config: Mapping[str, Any]) -> Iterator[tuple[str, Place]]:
    types = _table(config, "provider_types")
    for table in ("models", "embedding_models"):
        for model in _table(config, table):
            providers = _table(config, table, model, "providers")
            for provider, settings in providers.items():
                kind = settings.get("type") if isinstance(settings, dict) else None
                if not isinstance(kind, str) or kind not in DEFAULT_KEYS or "api_key_location" in settings:
                    continue
                if "api_key_location" not in _table(types, kind, "defaults"):
                    yield DEFAULT_KEYS[kind], (table, model, "providers", provider)


def _table(inside: object, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}
