"""What the shape of profiles/routing.yaml cannot say, and what services say of it: see catalogue_rules.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date

from tasks.catalogue_image_rules import origin_problems
from tasks.catalogue_rules import BAD_NAME, NAME, Problems, above_0, at_least_0, below, twice
from tasks.contracts import CloudModel, Provider, Role, Routing, Service, ToolImage, Use
from tasks.marked_yaml import Steps
from tasks.wording import listed, meant

TYPES = (
    "anthropic",
    "deepseek",
    "fireworks",
    "google_ai_studio_gemini",
    "groq",
    "hyperbolic",
    "mistral",
    "openai",
    "openrouter",
    "together",
    "xai",
)
"""TensorZero's kinds of provider that need a key and nothing else (tensorzero.com/docs/gateway)."""

CAPPED = ("anthropic",)
"""Kinds that refuse a request that does not cap its answer."""

CHAT: tuple[Role, ...] = ("llm", "vision", "code")
"""Roles that answer in text, so that a function of the gateway can have them."""

LOCAL = "local"
HOTTEST = 2.0

_FUNCTION = re.compile(r"[a-z][a-z0-9_-]*")
_KEY = re.compile(r"[A-Z][A-Z0-9_]*")
_BASE = re.compile(r"https?://[^\s?#]+/v\d+/")


def routing_problems(routing: Routing) -> Problems:
    """Yield what is wrong with the clouds and the images of the gateway."""
    yield from below(("providers",), twice((one.name for one in routing.providers), "name"))
    order = ("affordable", "premium")
    for index, provider in enumerate(routing.providers):
        place: Steps = ("providers", index)
        yield from below(place, _provider_problems(provider))
        earlier = routing.providers[index - 1].tier if index else order[0]
        if provider.tier in order and earlier in order and order.index(provider.tier) < order.index(earlier):
            yield (*place, "tier"), f"{provider.tier} providers stand before {earlier} ones"
    providers = {one.name: one for one in routing.providers}
    yield from below(("models",), twice((one.name for one in routing.models), "name"))
    for index, model in enumerate(routing.models):
        yield from below(("models", index), _cloud_problems(model, providers))
    yield from below(("images",), twice((one.name for one in routing.images), "name"))
    for index, image in enumerate(routing.images):
        yield from below(("images", index), _image_problems(image))


def function_problems(service: Service, routing: Routing, taken: Mapping[str, str]) -> Problems:
    """Yield what is wrong with the functions of a service. `taken` says where a name already is."""
    here: dict[str, int] = {}
    for index, use in enumerate(service.uses):
        place: Steps = ("uses", index)
        yield from below(place, _use_problems(use, routing))
        if use.function is None:
            continue
        if use.function in taken:
            yield (*place, "function"), f'"{use.function}" is already a function in {taken[use.function]}'
        if use.function in here:
            yield (
                (*place, "function"),
                f'"{use.function}" is already the function of uses[{here[use.function]}]',
            )
        here[use.function] = index


def _provider_problems(provider: Provider) -> Problems:
    if not NAME.fullmatch(provider.name) or provider.name == LOCAL:
        yield ("name",), f'a provider is lower-case letters, digits, dots and hyphens, and not "{LOCAL}"'
    if provider.tier == LOCAL:
        yield ("tier",), "a cloud is affordable or premium"
    if provider.type not in TYPES:
        near = meant(provider.type, TYPES)
        yield ("type",), f'the gateway has no kind of provider "{provider.type}" with a key alone{near}'
    if not _KEY.fullmatch(provider.key):
        yield ("key",), "a variable is capital letters, digits and underscores"
    if provider.api_base is not None and not _BASE.fullmatch(provider.api_base):
        yield ("api_base",), 'an address is written "https://host/v1/", with its last slash'
    if provider.api_base is not None and provider.type != "openai":
        yield ("api_base",), f'the gateway knows the address of "{provider.type}" itself'


def _cloud_problems(model: CloudModel, providers: Mapping[str, Provider]) -> Problems:
    if not model.name.partition("/")[2]:
        yield ("name",), "a cloud model is written provider/model"
    elif model.provider not in providers:
        yield ("name",), f'there is no provider "{model.provider}"{meant(model.provider, providers)}'
    if not model.model_name.strip():
        yield ("model_name",), "must not be empty"
    yield from at_least_0(model, "input_usd_per_million", "output_usd_per_million")
    yield from above_0(model, "context")
    yield from below(("roles",), twice(model.roles))
    if not model.roles:
        yield ("roles",), "there must be at least one role"
    for index, role in enumerate(model.roles):
        if role not in CHAT:
            yield ("roles", index), f"a cloud model is for {listed(CHAT)}"
    try:
        date.fromisoformat(model.priced_on)
    except ValueError:
        yield ("priced_on",), 'a day is written "2026-11-25"'
    if not (model.sources or model.estimate):
        yield ("sources",), "a price needs a source, or the field estimate that says why there is none"


def _image_problems(image: ToolImage) -> Problems:
    if not NAME.fullmatch(image.name):
        yield ("name",), BAD_NAME
    yield from origin_problems(image)


def _use_problems(use: Use, routing: Routing) -> Problems:
    if use.function is None:
        for field in ("temperature", "top_p", "max_tokens"):
            if getattr(use, field) is not None:
                yield (field,), "only a use with a function has it"
        if use.may_leave:
            yield ("may_leave",), "only a use with a function has it"
    elif use.role not in CHAT:
        yield ("function",), f"only {listed(CHAT)} answer in text, so {use.role} has no function"
    elif not _FUNCTION.fullmatch(use.function):
        yield ("function",), "a function is lower-case letters, digits, underscores and hyphens"
    yield from above_0(use, "max_tokens")
    if use.temperature is not None and not 0 <= use.temperature <= HOTTEST:
        yield ("temperature",), f"must be from 0 to {HOTTEST:g}"
    if use.top_p is not None and not 0 < use.top_p <= 1:
        yield ("top_p",), "must be more than 0 and not more than 1"
    yield from below(("fallbacks",), _fallback_problems(use, routing))


def _fallback_problems(use: Use, routing: Routing) -> Iterator[tuple[Steps, str]]:
    models = {one.name: one for one in routing.models}
    types = {one.name: one.type for one in routing.providers}
    seen: set[str] = set()
    for index, fallback in enumerate(use.fallbacks):
        if fallback.cloud is None:
            continue
        place: Steps = (index, "cloud")
        provider = fallback.cloud.partition("/")[0]
        if use.function is None:
            yield place, "a cloud answers through the gateway, so the use needs the field function"
        elif fallback.cloud not in models:
            near = meant(fallback.cloud, models)
            yield place, f'profiles/routing.yaml has no model "{fallback.cloud}"{near}'
        elif use.role not in models[fallback.cloud].roles:
            what = f"is a model for {listed(models[fallback.cloud].roles)}, not for {use.role}"
            yield place, f'"{fallback.cloud}" {what}'
        elif provider in seen:
            yield place, f'"{provider}" is already a fallback of this use'
        elif types.get(provider) in CAPPED and use.max_tokens is None:
            yield place, f'"{provider}" refuses a request without a cap, so the use needs max_tokens'
        seen.add(provider)
