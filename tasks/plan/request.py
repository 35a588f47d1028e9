"""What a person asked of the planner, and the overrides that they wrote. Pure.

    llm.context=16384          tokens of each request
    llm.quantisation=q8_0      the variant of the catalogue
    llm.model=qwen3-32b        another model of the catalogue
    llm.residency=cpu          resident, on-demand, cpu, cloud or none
    llm.device=gpu1            one device, or gpu0+gpu1
    llm.memory_bytes=21GiB     instead of what is computed or measured

The first word is a role or the name of a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from tasks.contracts import Catalogue, Measured, Model, Residency, Role
from tasks.errors import UsageError
from tasks.wording import listed, meant

OllamaMode = Literal["auto", "own", "external"]

AUTO = "auto"
NOTHING_CHANGED = "nothing was changed"
KEYS = ("context", "quantisation", "model", "residency", "device", "memory_bytes")
RESIDENCIES: tuple[Residency, ...] = ("resident", "on-demand", "cpu", "cloud", "none")
LEAST_CONTEXT = 256
MOST = 1 << 50

_OVERRIDE = re.compile(r"([a-z0-9][a-z0-9.-]*)\.([a-z_]+)=(\S+)")
_PORT = re.compile(r"^\w+://[^/]*:(\d+)(?:/|$)")
_DEVICES = re.compile(r"(cpu|gpu\d+)(\+gpu\d+)*")


@dataclass(frozen=True, slots=True)
class Override:
    """One thing that a person decided themselves. `target` is a role or a model."""

    target: str
    key: str
    value: str

    @property
    def number(self) -> int:
        """The value of a key that takes a number."""
        return size_of(self.value) or 0

    def __str__(self) -> str:
        """Return it as it was written."""
        return f"{self.target}.{self.key}={self.value}"


def port_of(url: str) -> int:
    """Return the port in a web address; 0 where it names none."""
    match = _PORT.search(url)
    return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True)
class External:
    """A role that a server plays which already runs and is not ours.

    `url` is an OpenAI client's base URL; without `model`, the server has the role under the role's own name.
    """

    role: Role
    url: str
    model: str = ""

    @property
    def name(self) -> str:
        """The model's name as it is asked for."""
        return self.model or self.role


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for, and what is known of the host beside its facts.

    `vram_bytes` and `ram_bytes` cap what the plan may use of each card and of main memory. `accept_risk`
    takes a profile whose hardware is not here, and leaves no margin. `cloud` names the providers that
    have a key, `hub_token` says whether gated models can be fetched. `own_pids` are processes of this
    program and `own_bytes` what they hold of main memory: a plan counts neither as another's use.
    `external` are roles that are not placed, because servers that already run play them. `may_leave` is what
    the operator lets leave this host for a cloud: None is what the services say, an empty set nothing, and a
    set of functions those too.
    """

    profile: str = AUTO
    strict: bool = False
    first_port: int = 7990
    accept_risk: bool = False
    overrides: tuple[Override, ...] = ()
    vram_bytes: int | None = None
    ram_bytes: int | None = None
    cloud: tuple[str, ...] = ()
    hub_token: bool = False
    own_pids: frozenset[int] = frozenset()
    own_bytes: int = 0
    measured: tuple[Measured, ...] = field(default=(), repr=False)
    external: tuple[External, ...] = ()
    may_leave: frozenset[str] | None = None

    def override(self, role: Role, model: str, key: str) -> Override | None:
        """Return what was decided for a model in a role; the last that was written wins."""
        found = [one for one in self.overrides if one.key == key and one.target in {role, model}]
        return found[-1] if found else None


UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
         "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)


def size_of(text: str) -> int | None:
    """Read "20GiB" (2^30 bytes each), "20GB" (10^9) or a number of bytes; None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in UNITS:
        return None
    return int(float(match[1]) * UNITS[match[2].lower()])


def parse_overrides(texts: Iterable[str], catalogue: Catalogue) -> tuple[Override, ...]:
    """Read overrides as they are written on a command line.

    Raises:
        UsageError: one of them is not an override, or names something that is not there.
    """
    return tuple(_parsed(text, catalogue) for text in texts)


def _parsed(text: str, catalogue: Catalogue) -> Override:
    match = _OVERRIDE.fullmatch(text)
    if match is None:
        raise _wrong(text, "it is not written target.key=value", "write for example llm.context=16384")
    one = Override(match[1], match[2], match[3])
    if one.key not in KEYS:
        raise _wrong(
            text, f'there is no key "{one.key}"{meant(one.key, KEYS)}', f"take one of {listed(KEYS)}"
        )
    targets = (*get_args(Role), *catalogue.models)
    if one.target not in targets:
        what = f'there is no role and no model "{one.target}"{meant(one.target, targets)}'
        raise _wrong(text, what, f"take a role ({listed(get_args(Role))}) or a model's name")
    _check_value(text, one, catalogue)
    return one


def _check_value(text: str, one: Override, catalogue: Catalogue) -> None:
    if one.key == "context" and not (one.value.isdecimal() and LEAST_CONTEXT <= int(one.value) <= MOST):
        raise _wrong(
            text,
            f"its value is not a number of tokens from {LEAST_CONTEXT} on",
            f"write for example {one.target}.context=8192",
        )
    if one.key == "memory_bytes" and not 0 < (size_of(one.value) or 0) <= MOST:
        raise _wrong(text, "its value is not a size", f"write for example {one.target}.memory_bytes=21GiB")
    if one.key == "residency" and one.value not in RESIDENCIES:
        raise _wrong(text, f'there is no residency "{one.value}"', f"take one of {listed(RESIDENCIES)}")
    if one.key == "device" and not _DEVICES.fullmatch(one.value):
        raise _wrong(text, f'"{one.value}" is not a device', "write cpu, gpu0, gpu1 … or gpu0+gpu1")
    if one.key == "model":
        _check_model(text, one, catalogue)
    if one.key == "quantisation" and not any(
        model.variant(one.value) for model in _targets(one.target, catalogue)
    ):
        raise _wrong(text, f'no model of it has the variant "{one.value}"', "see `pmoves models`")


def _check_model(text: str, one: Override, catalogue: Catalogue) -> None:
    model = catalogue.models.get(one.value)
    if model is None:
        near = meant(
            one.value, [name for name, model in catalogue.models.items() if one.target in model.roles]
        )
        raise _wrong(text, f'there is no model "{one.value}"{near}', "see `pmoves models`")
    if one.target not in get_args(Role):
        raise _wrong(text, "a model is chosen for a role", f"write for example llm.model={one.value}")
    if one.target not in model.roles:
        raise _wrong(text, f"{model.name} does not play the role {one.target}", "see `pmoves models`")


def _targets(name: str, catalogue: Catalogue) -> list[Model]:
    if name in catalogue.models:
        return [catalogue.models[name]]
    return [model for model in catalogue.models.values() if name in model.roles]


def _wrong(text: str, what: str, then: str) -> UsageError:
    return UsageError(f"the override {text!r} cannot be used: {what}", NOTHING_CHANGED, then)
