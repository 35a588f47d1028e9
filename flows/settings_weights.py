"""How the settings of downloads are read. Pure, but for the file that holds a token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tasks.errors import SettingsError

OLLAMA_PORT = 11434


def token(env: Mapping[str, str]) -> str | None:
    """Return the hub's token: the variable, else what stands in the file that is named.

    Raises:
        SettingsError: the file cannot be read, or the token is none.
    """
    text, path = env.get("HF_TOKEN", ""), env.get("HF_TOKEN_PATH", "")
    if not text.strip() and path:
        try:
            text = Path(path).expanduser().read_text()
        except OSError as error:
            raise SettingsError(
                f"HF_TOKEN_PATH is {path!r}, which cannot be read ({error.strerror})",
                "nothing was changed",
                "name a file that holds the token and nothing else, or leave it out",
            ) from None
    if re.search(r"\s", text.strip()):
        raise SettingsError(
            "the token of the Hugging Face Hub has a blank or a line break in it",
            "nothing was changed",
            "set HF_TOKEN, or the file that HF_TOKEN_PATH names, to the token and nothing else",
        )
    return text.strip() or None


def several(env: Mapping[str, str], key: str, between: str | None) -> list[str]:
    """Return the parts of a variable that are not empty."""
    return [part for part in (env.get(key) or "").split(between) if part.strip()]


def mirrors(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hubs that are asked first.

    Raises:
        SettingsError: one is not a web address, or carries a password.
    """
    found = several(env, "PMOVES_MIRRORS", None)
    if any("@" in urlsplit(one).netloc for one in found):
        raise SettingsError(
            "an address in PMOVES_MIRRORS carries a password",
            "nothing was changed",
            "leave it out of the address, and set PMOVES_SEED_TOKEN to the token of the hosts that seed",
        )
    return tuple(url({"PMOVES_MIRRORS": one}, "PMOVES_MIRRORS", one) for one in found)


def ollama(env: Mapping[str, str]) -> str:
    """Return where Ollama answers, from what may be a host, a port or an address."""
    text = (env.get("OLLAMA_HOST") or "127.0.0.1:11434").strip().rstrip("/")
    address = text if "://" in text else f"http://{text}"
    parts = urlsplit(url({"OLLAMA_HOST": address}, "OLLAMA_HOST", "http://127.0.0.1:11434"))
    # A server listens on all addresses; a client asks the nearest.
    host = "127.0.0.1" if parts.hostname in {"0.0.0.0", "::"} else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or OLLAMA_PORT}"


def ollama_models(env: Mapping[str, str], home: Path) -> Path | None:
    """Return Ollama's folder: the one that is set, else the first usual one that is there."""
    if env.get("OLLAMA_MODELS"):
        return Path(env["OLLAMA_MODELS"]).expanduser().absolute()
    usual = (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))
    return next((path for path in usual if _is_folder(path)), None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def url(env: Mapping[str, str], key: str, default: str) -> str:
    """Return a web address.

    Raises:
        SettingsError: it is none.
    """
    text = env.get(key) or default
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            f"{key} is {text!r}, which is not a web address",
            "nothing was changed",
            f"set an address such as {default}",
        )
    return text
