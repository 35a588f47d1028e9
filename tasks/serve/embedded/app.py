"""The routes of the server, and its life: loading, ready, failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.errors import ServeError
from tasks.serve.embedded.admission import Admission
from tasks.serve.embedded.batches import Batcher
from tasks.serve.embedded.engine import Engine, EngineError, Vector
from tasks.serve.embedded.exchange import as_json, read_body, refuse, refused, unless_gone
from tasks.serve.embedded.options import Options
from tasks.serve.embedded.tokens import Tokens
from tasks.serve.embedded.wire import Question, Refusal, Served, check_model, read, render, too_long

log = logging.getLogger("embedded")
Loader = Callable[[Options], tuple[Engine, int]]


@dataclass(frozen=True, slots=True)
class Ready:
    """What answers questions once the weights are loaded."""

    tokens: Tokens
    batcher: Batcher
    served: Served


class Service:
    """One model behind the routes.

    Args:
        options: What to serve.
        load: Loads the weights; takes a while.
        give_up: Ends the process; called with the reason when it cannot serve (any more).
    """

    def __init__(self, options: Options, load: Loader, give_up: Callable[[str], None]) -> None:
        self._options = options
        self._load = load
        self._give_up = give_up
        self._admission = Admission(options.limits)
        self._ready: Ready | None = None
        self._started_at = int(time.time())

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Load the weights beside the first requests; end the engine's thread at the end."""
        running = asyncio.ensure_future(self._live())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _live(self) -> None:
        try:
            ready = await self._make_ready()
            self._ready = ready
            await ready.batcher.run()
        except ServeError as error:
            self._give_up(str(error))
        except Exception as error:  # noqa: BLE001  # without this task requests would wait for nothing
            self._give_up(f"cannot go on: {type(error).__name__}: {error}")

    async def _make_ready(self) -> Ready:
        begun = time.monotonic()
        options = self._options
        engine, dimensions = await asyncio.to_thread(self._load, options)
        tokens = await asyncio.to_thread(Tokens, options.snapshot / "tokenizer.json")
        log.info("loaded model=%s dimensions=%d ms=%d", options.model, dimensions, _ms_since(begun))
        served = Served(options.model, dimensions, options.limits.max_texts)
        return Ready(tokens, Batcher(engine, options.limits, self._give_up), served)

    # --- routes --------------------------------------------------------------------------------

    async def health(self, _request: Request) -> Response:
        """Answer 200 once the self-test is through, 503 before."""
        state, status = ("ok", 200) if self._ready else ("loading", 503)
        body = {"status": state, "model": self._options.model, "revision": self._options.revision}
        return as_json(orjson.dumps(body), status)

    async def models(self, _request: Request) -> Response:
        """List the one model."""
        return as_json(orjson.dumps({"object": "list", "data": [self._card(self._need_ready())]}))

    async def model(self, request: Request) -> Response:
        """Describe the one model."""
        ready = self._need_ready()
        check_model(request.path_params["model"], ready.served.model)
        return as_json(orjson.dumps(self._card(ready)))

    async def embeddings(self, request: Request) -> Response:
        """Answer a request for embeddings, whatever comes of it, and log one line about it."""
        begun = time.monotonic()
        texts = tokens = 0
        try:
            ready = self._need_ready()
            async with asyncio.timeout(self._options.limits.deadline_s):
                with self._admission.request() as ticket:
                    question = read(
                        await read_body(request, ticket, self._options.limits.max_body_bytes), ready.served
                    )
                    texts = len(question.texts)
                    ticket.add(texts=texts)
                    vectors, tokens = await unless_gone(request, self._embed(ready, question))
                    response = as_json(render(question, vectors, tokens, ready.served.model))
        except TimeoutError:
            message = f"no answer within {self._options.limits.deadline_s:g} s; send fewer texts at a time"
            response = refuse(Refusal(504, "deadline_exceeded", message))
        except EngineError as error:
            response = refuse(Refusal(500, "engine_failed", f"the engine failed: {error}"))
        except Refusal as refusal:
            response = refuse(refusal)
        ms = _ms_since(begun)
        log.info("answered status=%d texts=%d tokens=%d ms=%d", response.status_code, texts, tokens, ms)
        return response

    # --- parts ---------------------------------------------------------------------------------

    def _need_ready(self) -> Ready:
        if self._ready is None:
            raise Refusal(503, "loading", "the weights are being loaded; send this again", retry_after_s=1)
        return self._ready

    def _card(self, ready: Ready) -> dict[str, Any]:
        return {
            "id": ready.served.model,
            "object": "model",
            "created": self._started_at,
            "owned_by": self._options.repo.split("/", maxsplit=1)[0],
            "dimensions": ready.served.dimensions,
            "max_tokens": self._options.limits.max_tokens,
        }

    async def _embed(self, ready: Ready, question: Question) -> tuple[list[Vector], int]:
        texts, counts = await asyncio.to_thread(self._measure, ready.tokens, question)
        return await ready.batcher.embed(texts, counts), sum(counts)

    def _measure(self, tokens: Tokens, question: Question) -> tuple[list[str], list[int]]:
        """Count the tokens of every text; cut or refuse those that are too long."""
        limit = self._options.limits.max_tokens
        texts = list(question.texts)
        counts = tokens.count(texts)
        for index, count in enumerate(counts):
            if count > limit and not question.truncate:
                raise too_long(index, count, limit)
            if count > limit:
                texts[index] = tokens.cut(texts[index], limit)
                counts[index] = tokens.count([texts[index]])[0]
        return texts, counts


def _ms_since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def build(service: Service) -> Starlette:
    """Return the application."""
    return Starlette(
        routes=[
            Route("/v1/embeddings", service.embeddings, methods=["POST"]),
            Route("/v1/models", service.models, methods=["GET"]),
            Route("/v1/models/{model:path}", service.model, methods=["GET"]),
            Route("/health", service.health, methods=["GET"]),
        ],
        lifespan=service.lifespan,
        exception_handlers={Refusal: refused, HTTPException: refused, Exception: refused},
    )
