"""What a verified server, and an address, are called in the gateway's config. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tasks.contracts import Role, VerifiedServer
from tasks.errors import RouteError

INTACT = "the config in use is unchanged"
OUTSIDE: frozenset[Role] = frozenset(("reranker", "whisper"))
"""Roles that TensorZero has no API for: their servers are asked where they are."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where the servers of a role stand in the config, and what clients put before their name."""

    table: Literal["models", "embedding_models"]
    prefix: str


CHAT = Section("models", "tensorzero::model_name::")
EMBEDDINGS = Section("embedding_models", "tensorzero::embedding_model_name::")
SECTIONS: dict[Role, Section] = {"embeddings": EMBEDDINGS, "llm": CHAT, "vision": CHAT, "code": CHAT}
FUNCTION = "tensorzero::function_name::"


def client_name(server: VerifiedServer, verified: tuple[VerifiedServer, ...]) -> str:
    """Return what clients send as `model` to reach one server."""
    return section_of(server).prefix + name_of(server, verified)


def name_of(server: VerifiedServer, verified: tuple[VerifiedServer, ...]) -> str:
    """Return a server's name in the config: its model, and its role too where another server has the same."""
    planned, table = server.server.planned, section_of(server).table
    same = [
        one
        for one in verified
        if one.server.planned.role not in OUTSIDE
        and one.server.planned.model == planned.model
        and section_of(one).table == table
    ]
    return planned.model if len(same) == 1 else f"{planned.model}-{planned.role}"


def in_order(verified: tuple[VerifiedServer, ...]) -> tuple[VerifiedServer, ...]:
    """Return the servers that are routed to, by role and model, because they are verified in any order.

    Raises:
        RouteError: two of them have the same role and model.
    """
    routed = [one for one in verified if one.server.planned.role not in OUTSIDE]
    counts = Counter((server.server.planned.role, server.server.planned.model) for server in routed)
    for (role, model), count in counts.items():
        if count > 1:
            raise RouteError(f"{count} servers of {role} have the model {model}", INTACT, "keep one of them")
    return tuple(sorted(routed, key=lambda one: (one.server.planned.role, one.server.planned.model)))


def api_base(base_url: str) -> str:
    """Return the address that the gateway joins "embeddings" to: it ends in `/v1/`."""
    root = base_url.rstrip("/").removesuffix("/v1")
    return f"{root}/v1/"


def section_of(server: VerifiedServer) -> Section:
    """Return where a server stands.

    Raises:
        RouteError: the gateway has no place for its role.
    """
    planned = server.server.planned
    section = SECTIONS.get(planned.role)
    if section is None:
        known = ", ".join(SECTIONS)
        raise RouteError(
            f"the gateway has no section for role {planned.role} (model {planned.model}), only for {known}",
            INTACT,
            f"leave {planned.role} out of the bundle",
        )
    return section
