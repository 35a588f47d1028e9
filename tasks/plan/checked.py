"""Overrides that a profile or a host has no use for are refused, not dropped. Pure."""

from __future__ import annotations

from typing import get_args

from tasks.contracts import Catalogue, Profile, Role, Wish
from tasks.errors import UsageError
from tasks.plan.budget import MAIN, Pools
from tasks.plan.loads import longest
from tasks.plan.request import NOTHING_CHANGED, Override, Request
from tasks.wording import listed, meant


def check_overrides(request: Request, profile: Profile, catalogue: Catalogue, pools: Pools) -> None:
    """Refuse what cannot be kept.

    Raises:
        UsageError: an override names a role or model that the profile does not have, a device that is not
            here, or a context that no model of it takes; or a function may leave that there is not.
    """
    functions = [use.function for one in catalogue.services.values() for use in one.uses if use.function]
    for name in sorted((request.may_leave or frozenset()) - set(functions)):
        what = f'what may leave for a cloud names "{name}", and no service has that function'
        raise UsageError(
            f"{what}{meant(name, functions)}", NOTHING_CHANGED, f"take some of {listed(sorted(functions))}"
        )
    for one in request.overrides:
        models = _models(one, request, profile)
        if one.key == "device":
            _check_device(one, pools)
        if one.key == "context":
            _check_context(one, [longest(catalogue.models[name]) for name in models])


def _models(one: Override, request: Request, profile: Profile) -> list[str]:
    """Return the models that an override is about."""
    if one.target not in get_args(Role):
        chosen = {other.value for other in request.overrides if other.key == "model"}
        wished = {name for wish in profile.bundle for name in wish.models}
        if one.target not in chosen | wished:
            raise _wrong(one, f"profile {profile.name} does not wish for {one.target}")
        return [one.target]
    wish = next((wish for wish in profile.bundle if wish.role == one.target), None)
    if wish is None:
        raise _wrong(one, f"profile {profile.name} has no role {one.target}")
    model = request.override(wish.role, "", "model")
    if not (wish.models or model or one.value in {"none", "cloud"}):
        raise _wrong(one, f"profile {profile.name} serves no {one.target} ({_reason(wish)})")
    return [model.value] if model else list(wish.models)


def _reason(wish: Wish) -> str:
    return wish.reason or "it wants none"


def _check_device(one: Override, pools: Pools) -> None:
    here = [*(pool.name for pool in pools.pools if pool.on_gpu), MAIN]
    named = one.value.split("+")
    missing = [name for name in named if name not in here]
    if missing:
        raise _wrong(one, f"there is no {missing[0]} to plan on, only {listed(here)}")
    if len(set(named)) < len(named) or (MAIN in named and len(named) > 1):
        raise _wrong(one, "a model is cut over different cards, such as gpu0+gpu1")


def _check_context(one: Override, most: list[int]) -> None:
    if not any(most):
        raise _wrong(one, "its models have no context that could be set")
    if one.number > max(most):
        raise _wrong(one, f"its models take {max(most)} tokens at most")


def _wrong(one: Override, what: str) -> UsageError:
    return UsageError(
        f"the override {str(one)!r} cannot be kept: {what}", NOTHING_CHANGED, "change it or leave it out"
    )
