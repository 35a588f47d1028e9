"""A command that asks the gateway, to be pasted. Pure."""

from __future__ import annotations

from tasks.contracts import Route

CHAT = ("tensorzero::model_name::", "tensorzero::function_name::")
BEARER = ' -H "authorization: Bearer $PMOVES_GATEWAY_TOKEN"'


def curl_line(route: Route, *, guarded: bool = False) -> str:
    """Return a command that asks the gateway, for chat where it has that; it works when pasted.

    Args:
        route: what the gateway serves.
        guarded: whether it wants a token; the command takes it from the shell, for nobody here knows it.
    """
    chat = next((name for name in route.models if name.startswith(CHAT)), None)
    path, model, asked = (
        ("chat/completions", chat, '"messages": [{"role": "user", "content": "hello"}]')
        if chat
        else ("embeddings", route.models[0], '"input": "hello"')
    )
    body = f'{{"model": "{model}", {asked}}}'
    token = BEARER if guarded else ""
    return f"curl -s {route.base_url}/{path} -H 'content-type: application/json'{token} -d '{body}'"
