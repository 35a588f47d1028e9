"""How keys of providers and the gateway's token are read, from variables or the files that hold them.

Neither is ever part of a sentence.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.errors import SettingsError
from tasks.route.merge.env_text import Odd, read

CLOUD_KEYS = {
    "venice": "VENICE_API_KEY",
    "groq": "GROQ_API_KEY",
    "together": "TOGETHER_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
}
"""Cloud providers and their keys, affordable ones first."""

SHORTEST_TOKEN = 16
"""Signs of a token; fewer can be guessed by who may ask often. Chosen."""
LONGEST_KEY = 4096
READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH
UNCHANGED = "nothing was changed"


def token_digest(env: Mapping[str, str]) -> str:
    """Return the sha256 of the token that clients must send; "" for none.

    Raises:
        SettingsError: its file cannot be read, or it is no token that could be sent or kept from guessing.
    """
    text, path = env.get("PMOVES_GATEWAY_TOKEN", ""), env.get("PMOVES_GATEWAY_TOKEN_FILE", "")
    if not text.strip() and path:
        text = _read("PMOVES_GATEWAY_TOKEN_FILE", Path(path).expanduser())
        if not text.strip():
            raise SettingsError(
                f"PMOVES_GATEWAY_TOKEN_FILE is {path!r}, which is empty",
                UNCHANGED,
                "write the token into it and nothing else, or leave it out",
            )
    return digest_of(text)


def digest_of(text: str) -> str:
    """Return the sha256 of a token; "" for none.

    Raises:
        SettingsError: it could not be sent as it is, or be guessed.
    """
    token = text.strip()
    if not token:
        return ""
    then = "set a long random one, for example the output of `openssl rand -hex 32`"
    if not token.isascii() or not token.isprintable() or " " in token:
        what = "the token of the gateway has a blank, a line break or another sign that no header takes"
        raise SettingsError(what, UNCHANGED, then)
    if len(token) < SHORTEST_TOKEN:
        what = (
            f"the token of the gateway has {len(token)} signs, and fewer than {SHORTEST_TOKEN} can be guessed"
        )
        raise SettingsError(what, UNCHANGED, then)
    return hashlib.sha256(token.encode()).hexdigest()


def values(names: Iterable[str], env: Mapping[str, str], keys_file: Path | None) -> dict[str, str]:
    """Return what variables hold: what is set, else what stands in the file of keys.

    Raises:
        SettingsError: the file cannot be read.
    """
    filed = read_keys(keys_file) if keys_file else {}
    return {name: env.get(name) or filed.get(name, "") for name in names if name in env or name in filed}


def usable_keys(found: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the keys that can be used, and one sentence for each that cannot; neither shows a key."""
    why = {name: trouble(value) for name, value in found.items()}
    good = tuple((name, value) for name, value in found.items() if not why[name])
    return good, tuple(f"{name} {text} and is left out" for name, text in why.items() if text)


def trouble(value: str) -> str:
    """Say what is wrong with a key; "" where it can be sent as it is.

    The gateway takes an empty one and sends an empty header, and fails at each request with one that has a
    line break: a provider that never answers, and nobody is told.
    """
    for wrong, words in (
        (not value.strip(), "is empty"),
        ("\n" in value or "\r" in value, "has a line break in it"),
        (not value.isascii() or not value.isprintable() or " " in value, "has a sign that no header takes"),
        (value[0:1] in {'"', "'"} and value[-1:] == value[0:1], "has quotes around it"),
        (value.startswith("${"), "is the name of a variable that nobody put in"),
        (len(value) > LONGEST_KEY, f"is longer than {LONGEST_KEY} signs"),
    ):
        if wrong:
            return words
    return ""


def read_keys(path: Path) -> dict[str, str]:
    """Read a file of NAME=value lines, as services are given them; quotes around a value are no part of it.

    Raises:
        SettingsError: it cannot be read, or has a line that is none of these; the line is not shown.
    """
    found: dict[str, str] = {}
    for one in read(_read("PMOVES_KEYS_FILE", path)):
        if isinstance(one, Odd) or one.unclosed:
            raise SettingsError(
                f"PMOVES_KEYS_FILE is {str(path)!r}, and its line {one.line} is not written NAME=value",
                UNCHANGED,
                "mend that line",
            )
        found[one.name] = one.value
    return found


def open_to_others(path: Path | None) -> tuple[str, ...]:
    """Say that other users can read the keys, where they can."""
    try:
        is_open = path is not None and bool(path.stat().st_mode & READABLE_BY_OTHERS)
    except OSError:
        return ()
    return (f"{path} holds keys and other users can read it: `chmod 600 {path}`",) if is_open else ()


def _read(key: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(
            f"{key} is {str(path)!r}, which cannot be read ({why})",
            UNCHANGED,
            "name a file that this user can read, or leave it out",
        ) from None
