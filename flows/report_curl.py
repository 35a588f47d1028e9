"""A command that asks the gateway, to be pasted. Pure."""

from __future__ import annotations

from tasks.contracts import Route

FUNCTION = "tensorzero::function_name::"
CHAT = ("tensorzero::model_name::", FUNCTION)
BEARER = ' -H "authorization: Bearer $PMOVES_GATEWAY_TOKEN"'


def curl_line(route: Route, *, guarded: bool = False) -> str:
    """Return a command that asks the gateway, for chat where this host answers that; it works when pasted.

    A function that only a cloud answers is not suggested where there is another way: it costs money, and what
    is asked leaves the house.

    Args:
        route: what the gateway serves.
        guarded: whether it wants a token; the command takes it from the shell, for nobody here knows it.
    """
    away = {
        f"{FUNCTION}{one.function}"
        for one in route.functions
        if not one.tiers or one.tiers[0].tier != "local"
    }
    chat = next((name for name in route.models if name.startswith(CHAT) and name not in away), None)
    embeddings = next((name for name in route.models if not name.startswith(CHAT)), None)
    if chat is None and embeddings is None:  # this host has no model: only a cloud can answer
        chat = route.models[0]
    path, model, asked = (
        ("chat/completions", chat, '"messages": [{"role": "user", "content": "hello"}]')
        if chat
        else ("embeddings", embeddings, '"input": "hello"')
    )
    body = f'{{"model": "{model}", {asked}}}'
    token = BEARER if guarded else ""
    return f"curl -s {route.base_url}/{path} -H 'content-type: application/json'{token} -d '{body}'"
