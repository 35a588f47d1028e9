"""What PMOVES services read to find this host's models, and our block of it in an environment file of theirs.

docs/pmoves-env.md says which service reads which variable. The block stands at the end, because the last of
two lines wins in every reader; the rest of the file stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.contracts import PlannedRoute, Role, RuntimeName, VerifiedServer
from tasks.errors import HandWrittenError
from tasks.route.config.render import client_name
from tasks.route.merge.block import BOM, INTACT, Parted, put_in, take_apart
from tasks.route.merge.env_text import Assignment, read, written
from tasks.wording import listed

FILE = "pmoves.env"
GATEWAY_API = "/openai/v1"
LANGUAGE_FUNCTIONS = ("agent_zero", "chat")
"""Functions that stand for "a language model", first choice first."""

Values = tuple[tuple[str, str], ...]


def pmoves_env(
    verified: tuple[VerifiedServer, ...], routes: tuple[PlannedRoute, ...], base_url: str
) -> Values:
    """Return what the services read, by name; nothing for what this host does not serve.

    Args:
        verified: The servers. Rerankers and whisper, which the gateway has no API for, are asked themselves.
        routes: The gateway's functions.
        base_url: The gateway's public address, with or without its `/openai/v1`.
    """
    found = dict(_gateway(verified, routes, base_url.rstrip("/").removesuffix(GATEWAY_API)))
    for values in (_ollama, _reranker, _whisper):
        found.update(values(verified))
    return tuple(sorted(found.items()))


def merge_env(hand: str, values: Values, *, name: str = FILE) -> str:
    """Return an environment file with the hand-written lines as they are, and ours in a block at its end.

    A line that sets one of the names to the same value, or to nothing, may stay.

    Raises:
        RouteError: a line sets one of the names to something else or opens a quote that nothing closes, or
            the block is damaged.
    """
    apart = parted(hand, name)
    wanted, clashes = dict(values), []
    for one in read(apart.hand.removeprefix(BOM)):
        if not isinstance(one, Assignment):
            continue
        if one.unclosed:
            what = f"line {one.line} of {name} opens a quote that nothing closes"
            raise HandWrittenError(what, INTACT, f"close it in {name}")
        if one.value and one.value != wanted.get(one.name, one.value):
            clashes.append(f"line {one.line} sets {one.name}")
    if clashes:
        what = f"{name} has values of its own for what the managed part sets: {listed(clashes)}"
        raise HandWrittenError(what, INTACT, f"take those lines out of {name}, or name another file")
    return put_in(apart.hand, "".join(f"{written(key, value)}\n" for key, value in values))


def unmerge_env(text: str, *, name: str = FILE) -> str:
    """Return what was written by hand, byte for byte; all of a text that holds no block of ours.

    Raises:
        RouteError: the block is damaged.
    """
    return parted(text, name).hand


def parted(text: str, name: str) -> Parted:
    """Return what was written by hand, and our block.

    Raises:
        RouteError: the block is damaged.
    """
    return take_apart(text, name, _outside)


def _outside(text: str, place: int) -> bool:
    """Whether a place is in no value that goes on for more than one line."""
    mark = len(text) - len(text.removeprefix(BOM))
    found = (one for one in read(text[mark:]) if isinstance(one, Assignment))
    return not any(one.begin + mark < place < one.end + mark for one in found)


def _gateway(
    verified: tuple[VerifiedServer, ...], routes: tuple[PlannedRoute, ...], root: str
) -> Iterator[tuple[str, str]]:
    yield "TENSORZERO_BASE_URL", root
    yield "TENSORZERO_URL", root
    for server in _of_role(verified, "embeddings"):
        yield "TENSORZERO_EMBED_MODEL", client_name(server, verified)
    served = [route.function for route in routes if route.tiers and route.role == "llm"]
    for function in (*(one for one in LANGUAGE_FUNCTIONS if one in served), *served)[:1]:
        yield "TENSORZERO_MODEL", f"tensorzero::function_name::{function}"


def _ollama(verified: tuple[VerifiedServer, ...]) -> Iterator[tuple[str, str]]:
    for server in _at_runtime(verified, "ollama"):
        root = _root(server)
        yield "OLLAMA_URL", root
        yield "OLLAMA_BASE_URL", root
        yield "OLLAMA_API_BASE", root
        break
    for server in _at_runtime(_of_role(verified, "embeddings"), "ollama"):
        yield "OLLAMA_EMBED_MODEL", server.server.asked_as


def _reranker(verified: tuple[VerifiedServer, ...]) -> Iterator[tuple[str, str]]:
    for server in _of_role(verified, "reranker"):
        api = server.server.rerank_api
        yield "RERANK_URL", _root(server) + ("/v1/rerank" if api == "jina" else "/rerank")
        yield "RERANK_API", api or "tei"
        if repo := _repo(server):
            yield "RERANK_MODEL", repo


def _whisper(verified: tuple[VerifiedServer, ...]) -> Iterator[tuple[str, str]]:
    for server in _of_role(verified, "whisper"):
        yield "OPENAI_COMPATIBLE_BASE_URL_STT", _root(server) + "/v1"
        if repo := _repo(server):
            yield "WHISPER_MODEL", repo


def _of_role(verified: tuple[VerifiedServer, ...], role: Role) -> tuple[VerifiedServer, ...]:
    """Return the servers of a role, by model, so that the same servers give the same file."""
    found = [one for one in verified if one.server.planned.role == role]
    return tuple(sorted(found, key=lambda one: one.server.planned.model)[:1])


def _at_runtime(verified: tuple[VerifiedServer, ...], runtime: RuntimeName) -> tuple[VerifiedServer, ...]:
    found = [one for one in verified if one.server.planned.runtime == runtime]
    return tuple(sorted(found, key=lambda one: (one.server.planned.role, one.server.planned.model)))


def _repo(server: VerifiedServer) -> str:
    """Return the hub's name of the model, which services load it by; none for files that they cannot load."""
    planned = server.server.planned
    weights = planned.weights or planned.repo
    return weights.repo if weights and "gguf" not in weights.repo.lower() else ""


def _root(server: VerifiedServer) -> str:
    return server.server.base_url.rstrip("/").removesuffix("/v1")
