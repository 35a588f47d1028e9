"""How the settings of the gateway are read, and which cannot be used. Pure, but for files that they name."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from flows.settings_keys import CLOUD_KEYS, UNCHANGED, open_to_others, token_digest, usable_keys, values
from tasks.errors import SettingsError
from tasks.wording import listed, meant

GatewayMode = Literal["auto", "wheel", "container"]
ProxyMode = Literal["auto", "haproxy", "front"]
Word = TypeVar("Word", bound=str)

HERE = "127.0.0.1"
WATCH_S, LONGEST_WATCH_S = 10.0, 3600.0
FUNCTION = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the environment says of the gateway and of the proxy before it.

    `toml` is the operator's own config, `env_file` where `pmoves.env` is merged. `may_leave` names the
    functions whose requests may go to a cloud; None is as the services say, and an empty set none at all. A
    token is kept as its sha256. `keys` are the values of usable keys by the name of their variable,
    `bad_keys` says in one sentence each which are not usable. `keys_file` may hold those that the environment
    does not have.
    """

    env_file: Path
    toml: Path | None = None
    may_leave: frozenset[str] | None = None
    bind: str = HERE
    token_sha256: str = field(default="", repr=False)
    certificate: Path | None = None
    mode: GatewayMode = "auto"
    proxy: ProxyMode = "auto"
    watch_s: float = WATCH_S
    keys: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    bad_keys: tuple[str, ...] = ()
    keys_file: Path | None = None

    @property
    def cloud(self) -> tuple[str, ...]:
        """The providers that have a usable key, affordable ones first."""
        there = {name for name, _ in self.keys}
        return tuple(provider for provider, name in CLOUD_KEYS.items() if name in there)


def gateway(env: Mapping[str, str], state: Path) -> GatewaySettings:
    """Read what the environment says of the gateway.

    Raises:
        SettingsError: a variable has a value that cannot be used.
    """
    keys_file = _path(env, "PMOVES_KEYS_FILE")
    keys, bad = usable_keys(values(CLOUD_KEYS.values(), env, keys_file))
    return GatewaySettings(
        env_file=_path(env, "PMOVES_ENV_FILE") or state / "pmoves.env",
        toml=_path(env, "PMOVES_TENSORZERO_TOML"),
        may_leave=may_leave(env),
        bind=_bind(env),
        token_sha256=token_digest(env),
        certificate=_path(env, "PMOVES_GATEWAY_CERTIFICATE"),
        mode=_word(env, "PMOVES_GATEWAY", get_args(GatewayMode)),
        proxy=_word(env, "PMOVES_PROXY", get_args(ProxyMode)),
        watch_s=_watch(env),
        keys=keys,
        bad_keys=(*open_to_others(keys_file), *bad),
        keys_file=keys_file,
    )


def may_leave(env: Mapping[str, str]) -> frozenset[str] | None:
    """Return the functions whose requests may go to a cloud; None is as the services say.

    Raises:
        SettingsError: a word is no name of a function, or "services" or "off" does not stand alone.
    """
    words = re.split(r"[\s,]+", env.get("PMOVES_CLOUD", "").strip())
    if words in (["services"], [""]):
        return None
    if words == ["off"]:
        return frozenset()
    then = "set services, off, or names of functions with blanks between them"
    if alone := next((one for one in words if one in {"services", "off"}), None):
        raise SettingsError(f"PMOVES_CLOUD has {alone!r} beside other words", UNCHANGED, then)
    if bad := next((one for one in words if one and not FUNCTION.fullmatch(one)), None):
        raise SettingsError(f"PMOVES_CLOUD has {bad!r}, which is no name of a function", UNCHANGED, then)
    return frozenset(filter(None, words))


def refuse_unknown(wanted: GatewaySettings, functions: Collection[str]) -> None:
    """Refuse a name in PMOVES_CLOUD that no service has: a slip there would keep a function at home, or not.

    Raises:
        SettingsError: there is one.
    """
    for name in sorted((wanted.may_leave or frozenset()) - set(functions)):
        raise SettingsError(
            f"PMOVES_CLOUD has {name!r}, and no service has such a function{meant(name, functions)}",
            UNCHANGED,
            f"take some of {listed(sorted(functions))}, or set services or off",
        )


def refuse_unusable(wanted: GatewaySettings) -> None:
    """Refuse what no rollout could use, before anything is done.

    A worker's token may come from a Prefect Secret block, so the address is held against it here.

    Raises:
        SettingsError: other machines would reach the gateway without a token, or a file is not what it should
            be.
    """
    if not ipaddress.ip_address(wanted.bind).is_loopback and not wanted.token_sha256:
        raise SettingsError(
            f"PMOVES_GATEWAY_BIND is {wanted.bind!r}, which other machines reach, and there is no token",
            UNCHANGED,
            f"set PMOVES_GATEWAY_TOKEN or PMOVES_GATEWAY_TOKEN_FILE, or leave the address out for {HERE}",
        )
    if wanted.toml is not None and (why := _unreadable(wanted.toml)):
        raise SettingsError(
            f"PMOVES_TENSORZERO_TOML is {str(wanted.toml)!r}, which {why}",
            UNCHANGED,
            "name your own gateway config, or leave it out to have ours alone",
        )
    if why := _unwritable(wanted.env_file):
        raise SettingsError(
            f"PMOVES_ENV_FILE is {str(wanted.env_file)!r}, which {why}",
            UNCHANGED,
            "name a file, there or not, that this user can write, or leave it out to have pmoves.env in the "
            "state folder",
        )
    if wanted.certificate is not None:
        _refuse_certificate(wanted.certificate)


def _unreadable(path: Path) -> str:
    """Say why a file cannot be read; nothing where it can be."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is no file"
    except (FileNotFoundError, NotADirectoryError):
        return "is no file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if os.access(path, os.R_OK) else "cannot be read (Permission denied)"


def _unwritable(path: Path) -> str:
    """Say why a file that may not be there yet cannot be replaced; nothing where it can be.

    The last folder that is there is asked, since the others are made; a link stays one, so its aim counts.
    """
    try:
        there = path.resolve()
        found = _mode(there)
        folder = next(one for one in there.parents if _mode(one))
    except (OSError, RuntimeError) as error:  # the latter is a link to itself
        return f"cannot be reached ({getattr(error, 'strerror', None) or 'it is a link to itself'})"
    if found:
        if not stat.S_ISREG(found):
            return "is no file"
        if not os.access(there, os.R_OK):
            return "cannot be read (Permission denied)"
    if not stat.S_ISDIR(_mode(folder)):
        return f"cannot be written: {folder} is no folder"
    return (
        "" if os.access(folder, os.W_OK | os.X_OK) else f"cannot be written: nothing can be put in {folder}"
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _refuse_certificate(path: Path) -> None:
    import ssl  # noqa: PLC0415  # only where there is one

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=lambda: "")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"PMOVES_GATEWAY_CERTIFICATE is {str(path)!r}, which cannot be used ({why})",
            UNCHANGED,
            "name a PEM file that holds the certificate, those that signed it and the key without a password",
        ) from None


def _bind(env: Mapping[str, str]) -> str:
    said = env.get("PMOVES_GATEWAY_BIND", "").strip() or HERE
    try:
        address = ipaddress.ip_address(HERE if said == "localhost" else said)
    except ValueError:
        raise SettingsError(
            f"PMOVES_GATEWAY_BIND is {said!r}, which is not an address",
            UNCHANGED,
            f"set one of this host such as 192.168.1.5, or 0.0.0.0 for all, or leave it out for {HERE}",
        ) from None
    return str(address)


def _watch(env: Mapping[str, str]) -> float:
    text = env.get("PMOVES_WATCH", "").strip() or f"{WATCH_S:.0f}"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_WATCH_S:
        raise SettingsError(
            f"PMOVES_WATCH is {text!r}, which is no number of seconds from 0 to {LONGEST_WATCH_S:.0f}",
            UNCHANGED,
            f"set for example 30, or leave it out for {WATCH_S:.0f}",
        )
    return seconds


def _word(env: Mapping[str, str], key: str, words: tuple[Word, ...]) -> Word:
    said = env.get(key, "").strip() or words[0]
    found = next((word for word in words if word == said), None)
    if found is None:
        raise SettingsError(
            f"{key} is {said!r}{meant(said, words)}",
            UNCHANGED,
            f"set it to {' or '.join(words)}, or leave it out",
        )
    return found


def _path(env: Mapping[str, str], key: str) -> Path | None:
    text = env.get(key, "").strip()
    try:
        return Path(text).expanduser().absolute() if text else None
    except (OSError, RuntimeError) as error:  # "~name" of nobody; a working folder that is gone
        why = getattr(error, "strerror", None) or "nobody has that name"
        raise SettingsError(
            f"{key} is {text!r}, which leads nowhere ({why})", UNCHANGED, "write the whole path, from / on"
        ) from None
