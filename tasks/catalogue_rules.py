"""What the shape of a catalogue file cannot say, for each kind of file.

Digests are there and look like digests, names are unique and exist, no path leads out of its folder,
and no figure is one that nothing could have. Each function yields where a problem is, and the problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from tasks.contracts import (
    DeviceFact,
    Downloads,
    Example,
    Fallback,
    KvType,
    Match,
    Model,
    Profile,
    Role,
    Service,
    Use,
    Wish,
)
from tasks.marked_yaml import Steps
from tasks.wording import listed, meant

Problems = Iterator[tuple[Steps, str]]

KV_TYPES: tuple[KvType, ...] = get_args(KvType)
NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
BAD_NAME = "a name is lower-case letters, digits and dots, joined by single hyphens"
BAD_SIZE = "must be more than 0"
BAD_COUNT = "must not be less than 0"
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
LEAST_RATE = 1 << 14
BAD_RATE = f"must be at least {LEAST_RATE} bytes a second: below that a download counts as standing still"

_CLOUD = re.compile(r"[a-z0-9_-]+/\S+")


def profile_problems(profile: Profile, stem: str, models: Mapping[str, Model]) -> Problems:
    """Yield what is wrong with a hardware profile."""
    yield from _named(profile.name, stem)
    yield from below(("match",), _match_problems(profile.match))
    for index, wish in enumerate(profile.bundle):
        place = ("bundle", index)
        if wish.role in (earlier.role for earlier in profile.bundle[:index]):
            yield (*place, "role"), f'the role "{wish.role}" is already in the bundle'
        yield from below(place, _wish_problems(wish, models))
    yield from below(("example",), _example_problems(profile.example))
    yield from below(("limits",), at_least_0(profile.limits, "margin_bytes"))
    yield from below(("downloads",), _download_problems(profile.downloads))


def _download_problems(downloads: Downloads) -> Problems:
    if downloads.limit_bytes_per_s is not None and downloads.limit_bytes_per_s < LEAST_RATE:
        yield ("limit_bytes_per_s",), BAD_RATE
    for index, one in enumerate(downloads.quiet_hours):
        for field in ("start", "end"):
            if not TIME.fullmatch(getattr(one, field)):
                yield ("quiet_hours", index, field), 'a time is written "22:30"'
        if one.limit_bytes_per_s and one.limit_bytes_per_s < LEAST_RATE:
            yield ("quiet_hours", index, "limit_bytes_per_s"), BAD_RATE


def service_problems(service: Service, stem: str, models: Mapping[str, Model]) -> Problems:
    """Yield what is wrong with a service."""
    yield from _named(service.name, stem)
    if not service.uses:
        yield ("uses",), "there must be at least one use"
    for index, use in enumerate(service.uses):
        yield from below(("uses", index), _use_problems(use, models))


def device_problems(devices: tuple[DeviceFact, ...]) -> Problems:
    """Yield what is wrong with the list of devices."""
    yield from below(("devices",), twice((device.name for device in devices), "name"))
    for index, device in enumerate(devices):
        if not device.name:
            yield ("devices", index, "name"), "must not be empty, because every device has that in its name"
        yield from below(("devices", index), above_0(device, "memory_bytes_per_s"))


def below(place: Steps, problems: Problems) -> Problems:
    """Say where `problems` are, seen from one level up."""
    for steps, problem in problems:
        yield (*place, *steps), problem


def above_0(record: object, *fields: str) -> Problems:
    """Yield each of the fields that has a number, and not one above 0."""
    for field in fields:
        if (number := getattr(record, field)) is not None and number <= 0:
            yield (field,), BAD_SIZE


def at_least_0(record: object, *fields: str) -> Problems:
    """Yield each of the fields that is below 0."""
    for field in fields:
        if getattr(record, field) < 0:
            yield (field,), BAD_COUNT


def twice(values: Iterable[str], *below_it: str) -> Problems:
    """Yield each value that an earlier member of the list has; `below_it` leads from the member to it."""
    seen = set()
    for index, value in enumerate(values):
        if value in seen:
            yield (index, *below_it), f'"{value}" is listed twice'
        seen.add(value)


def _named(name: str, stem: str) -> Problems:
    if name != stem:
        yield ("name",), f'must be "{stem}", as the file is called'
    if not NAME.fullmatch(name):
        yield ("name",), BAD_NAME


def _match_problems(match: Match) -> Problems:
    yield from at_least_0(match, "min_cards", "min_card_memory_bytes", "min_memory_bytes")
    if match.max_memory_bytes is not None and match.max_memory_bytes <= match.min_memory_bytes:
        yield ("max_memory_bytes",), f"must be more than min_memory_bytes, which is {match.min_memory_bytes}"
    if match.chips and not match.board:
        yield ("chips",), "chips are a board's, so the field board is needed"


def _example_problems(example: Example) -> Problems:
    yield from above_0(example, "memory_mib")
    for index, device in enumerate(example.devices):
        yield from below(("devices", index), above_0(device, "memory_mib"))


def _wish_problems(wish: Wish, models: Mapping[str, Model]) -> Problems:
    if not wish.models and not wish.reason:
        yield ("role",), "a wish without models needs the field reason"
    yield from below(("models",), _named_models(wish.models, wish.role, models))
    yield from below(("quantisations",), _quantisation_problems(wish, models))
    yield from above_0(wish, "context", "min_context", "parallel")
    if wish.context and wish.min_context and wish.min_context > wish.context:
        yield ("min_context",), f"must not be more than context, which is {wish.context}"
    if not wish.kv_types:
        yield ("kv_types",), "there must be at least one type"
    yield from below(("kv_types",), twice(wish.kv_types))
    if list(wish.kv_types) != sorted(wish.kv_types, key=KV_TYPES.index):
        yield ("kv_types",), f"must stand from the largest to the smallest: {listed(KV_TYPES)}"
    yield from below(("may",), twice(wish.may))


def _quantisation_problems(wish: Wish, models: Mapping[str, Model]) -> Problems:
    yield from twice(wish.quantisations)
    wanted = [models[name] for name in wish.models if name in models]
    known = {variant.name for model in wanted for variant in model.variants}
    for index, name in enumerate(wish.quantisations):
        if name not in known:
            yield (index,), f'none of the models has a variant "{name}"{meant(name, sorted(known))}'


def _named_models(names: tuple[str, ...], role: Role, models: Mapping[str, Model]) -> Problems:
    """Yield the names that are no model's, or one's that cannot play the role."""
    yield from twice(names)
    for index, name in enumerate(names):
        if name not in models:
            yield (index,), f'there is no model "{name}"{meant(name, models)}'
        elif role not in models[name].roles:
            yield (index,), f'"{name}" is a model for {_roles(models[name].roles)}, not for {role}'


def _roles(roles: tuple[Role, ...]) -> str:
    if not roles:
        return "no role"
    return ("the roles " if len(roles) > 1 else "the role ") + ", ".join(roles)


def _use_problems(use: Use, models: Mapping[str, Model]) -> Problems:
    yield from below(("models",), _named_models(use.models, use.role, models))
    yield from above_0(use, "context")
    for index, fallback in enumerate(use.fallbacks):
        yield from below(("fallbacks", index), _fallback_problems(fallback))


def _fallback_problems(fallback: Fallback) -> Problems:
    if bool(fallback.cloud) == bool(fallback.text):
        yield (), "a fallback needs one of the fields cloud and text, and not both"
    if fallback.cloud and not _CLOUD.fullmatch(fallback.cloud):
        yield ("cloud",), "a cloud model is written provider/model"
