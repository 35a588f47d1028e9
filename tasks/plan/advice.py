"""What a plan warns of, what installing something would add, and what licences and gates ask. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import Catalogue, DeviceMemory, HostFacts, PlannedModel, Profile
from tasks.plan.budget import Pools
from tasks.plan.images import mending
from tasks.plan.match import best_fit
from tasks.plan.request import Request
from tasks.wording import MIB, gib, listed

NO_ENGINE = "A container engine is not here"
"""How the advice begins that a host without one gets."""

TIGHT_BYTES = 100 * MIB
"""Less than this free beside the margin is worth a word where footprints are estimated; chosen."""


def warnings(
    pools: Pools, devices: Sequence[DeviceMemory], models: Sequence[PlannedModel]
) -> tuple[str, ...]:
    """Say which devices are not planned on, and which are filled to the last on the strength of estimates."""
    lines = [f"{one[0].upper()}{one[1:]}." for one in pools.left_out]
    for device in devices:
        here = [
            one
            for one in models
            if not one.memory_measured and device.device in {share.device for share in one.devices}
        ]
        free = device.budget_bytes - device.used_bytes
        if here and free < TIGHT_BYTES:
            lines.append(
                f"{device.device} has {gib(free)} to spare beside its margin of"
                f" {gib(device.margin_bytes)}, and what lies there is estimated; a run measures it."
            )
    return tuple(lines)


def not_ours(models: Sequence[PlannedModel]) -> tuple[str, ...]:
    """Say of each server that is used and not ours what this program does not do with it."""
    places = {one.external: one.runtime for one in models if one.external}
    return tuple(
        f"{'Ollama' if runtime == 'ollama' else 'The server'} at {url} is not ours: it is used and"
        " verified, and never started, stopped or configured. Where its models lie and how long they stay in"
        " memory is its own to say."
        for url, runtime in places.items()
    )


def advice(facts: HostFacts, catalogue: Catalogue, profile: Profile) -> tuple[str, ...]:
    """Say what is not here, and what it would add."""
    best = best_fit(facts, catalogue)
    hardware = catalogue.profiles[best.profile] if best else profile
    wishes = [f"{wish.role} ({wish.models[0]})" for wish in hardware.bundle if wish.models]
    lines = [*mending(facts)]
    if not facts.container_engine.answers:
        lines.append(
            f"{NO_ENGINE} ({facts.container_engine.detail}). It is what the bundle of"
            f" {hardware.name} needs: {listed(wishes)}. Install Docker to have these roles."
        )
    if not facts.hub.answers:
        lines.append(
            f"The Hugging Face Hub does not answer ({facts.hub.detail}). Weights come from the package"
            " index instead, which carries only some models."
        )
    return tuple(lines)


def marks(catalogue: Catalogue, models: tuple[PlannedModel, ...], request: Request) -> tuple[str, ...]:
    """Say what the licence or the gate of each planned model asks, and what is not pinned yet."""
    lines = []
    for planned in models:
        if planned.runtime == "external":
            continue
        model = catalogue.models[planned.model]
        if model.non_commercial:
            lines.append(f"{model.name}: its licence ({model.licence}) does not allow commercial use.")
        if model.gated and planned.runtime != "ollama":
            how = "a token is set" if request.hub_token else "set HF_TOKEN"
            lines.append(f"{model.name}: gated on the Hub; accept its terms there ({how}).")
        reason = _unpinned(planned)
        if reason:
            lines.append(f"{model.name}: not pinned yet ({reason}).")
    return tuple(lines)


def _unpinned(planned: PlannedModel) -> str:
    if planned.ollama is not None:
        return planned.ollama.unpinned or ""
    return planned.repo.unpinned if planned.repo is not None and planned.weights is None else ""
