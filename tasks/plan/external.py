"""Roles of servers that already run on the host: used and verified, never owned, never placed. Pure."""

from __future__ import annotations

from dataclasses import replace

from tasks.contracts import Catalogue, Decision, PlannedModel, Step
from tasks.errors import UsageError
from tasks.plan.request import NOTHING_CHANGED, External, Request, port_of
from tasks.plan.servers import server_name

SAYS = "as PMOVES_EXTERNAL says"


def check_external(request: Request) -> None:
    """Refuse to decide something of a role that is not ours to decide.

    Raises:
        UsageError: an override is about such a role.
    """
    theirs = {one.role: one for one in request.external}
    for override in request.overrides:
        for role, one in theirs.items():
            if override.target == role:
                raise UsageError(
                    f"the override {str(override)!r} cannot be kept: {one.url} serves {role}, {SAYS}",
                    NOTHING_CHANGED,
                    f"leave it out, or take {role} out of PMOVES_EXTERNAL",
                )


def planned(one: External, catalogue: Catalogue) -> PlannedModel:
    """Return what a server that is not ours serves. What is known of the model is the catalogue's."""
    known = catalogue.models.get(one.name)
    made = PlannedModel(
        role=one.role,
        model=one.name,
        runtime="external",
        residency="resident",
        device="",
        port=port_of(one.url),
        memory_bytes=0,
        memory_measured=False,
        download_bytes=0,
        dimensions=known.dimensions if known else None,
        max_tokens=known.max_tokens if known else None,
        external=one.url,
    )
    return replace(made, server=server_name(made))


def decision(one: External) -> Decision:
    """Return the decision about a role that was decided by whoever runs the server."""
    why = f"{one.url} serves it, {SAYS}; that server is not ours and nothing is planned for it"
    return Decision(
        one.role, "kept", one.name, one.name, why, "resident", (Step(f"{why}: taken", taken=True),)
    )
