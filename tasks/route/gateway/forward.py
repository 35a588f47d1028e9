"""One request -> the generation that serves -> the answer, both as streams."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from tasks.effects.forwarding.forward import forward
from tasks.route.gateway.generations import Switch


class Forwarder:
    """The ASGI application behind `/openai/v1/`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from the generation that serves as it begins."""
        await forward(self._switch.serving.upstream, scope, receive, send)
