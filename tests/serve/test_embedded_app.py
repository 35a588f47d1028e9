"""The routes, with an engine of the test's own in place of the weights."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tasks.errors import ServeError
from tasks.serve.embedded.app import Service, build
from tasks.serve.embedded.engine import Engine, EngineError, Vector
from tasks.serve.embedded.options import Limits, Options

T = TypeVar("T")
Ask = Callable[[httpx.AsyncClient], Awaitable[T]]


class Gate:
    """An engine that waits while its gate is closed and remembers the texts it saw."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.texts: list[str] = []
        self.broken = False

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Answer once the gate is open."""
        self.open.wait(30)
        self.texts += texts
        if self.broken:
            raise EngineError("out of memory")
        return [array("f", (1.0, 0.0)) for _ in texts]


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Return options whose snapshot has a tokenizer: one token a word."""
    made = Options(1, tmp_path, "a/b", "c", "mini", None, Limits(max_tokens=4))
    made.snapshot.mkdir(parents=True)
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(made.snapshot / "tokenizer.json"))
    return made


def with_limits(options: Options, **limits: float) -> Options:
    """Return the options with other limits."""
    return Options(1, options.cache, "a/b", "c", "mini", None, Limits(**{"max_tokens": 4, **limits}))


def serve(
    options: Options, engine: Gate, ask: Ask[T], *, ready: bool = True, reasons: list[str] | None = None
) -> T:
    """Run the application in memory and return what `ask` makes of it."""

    def load(_options: Options) -> tuple[Engine, int]:
        engine.open.wait(30)
        return engine, 2

    async def life() -> T:
        app = build(Service(options, load, (reasons if reasons is not None else []).append))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as c,
        ):
            while ready and (await c.get("/health")).status_code != 200:  # noqa: ASYNC110  # seen from outside
                await asyncio.sleep(0)
            try:
                return await ask(c)
            finally:
                engine.open.set()

    return asyncio.run(life())


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # another thread makes it true
            await asyncio.sleep(0.001)


def post(given: object, **more: object) -> Ask[httpx.Response]:
    """Return what asks for embeddings."""
    return lambda client: client.post("/v1/embeddings", json={"model": "mini", "input": given, **more})


def error(response: httpx.Response) -> tuple[int, str]:
    """Return status and sentence of a refusal."""
    return response.status_code, response.json()["error"]["message"]


def test_answers(options: Options) -> None:
    """A request gets a vector for each text and the number of their tokens."""
    body = serve(options, Gate(), post(["a", "b c"])).json()

    assert [[1.0, 0.0], [1.0, 0.0]] == [row["embedding"] for row in body["data"]]
    assert 3 == body["usage"]["prompt_tokens"]


def test_nothing_is_answered_while_loading(options: Options) -> None:
    """Before the weights are there, every route says 503."""
    engine = Gate()
    engine.open.clear()

    async def everything(client: httpx.AsyncClient) -> list[httpx.Response]:
        paths = ("/health", "/v1/models", "/v1/models/mini")
        return [await client.get(path) for path in paths] + [await client.post("/v1/embeddings")]

    answers = serve(options, engine, everything, ready=False)

    assert [503] * 4 == [answer.status_code for answer in answers]
    assert "1" == answers[-1].headers["Retry-After"]


def test_weights_that_do_not_load_end_the_server(options: Options) -> None:
    """The reason is handed to whoever runs the server, and health never says 200."""
    reasons: list[str] = []

    def load(_options: Options) -> tuple[Engine, int]:
        raise ServeError("they are bad", "nothing is served", "pull them again")

    async def life() -> int:
        app = build(Service(options, load, reasons.append))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client,
        ):
            await until(lambda: reasons)
            return (await client.get("http://t/health")).status_code

    assert 503 == asyncio.run(life())
    assert ["they are bad; nothing is served; pull them again."] == reasons


def test_a_tokenizer_that_does_not_load_ends_the_server(options: Options) -> None:
    """A fault that nobody foresaw does not leave requests waiting."""
    (options.snapshot / "tokenizer.json").write_text("{")
    reasons: list[str] = []

    async def wait(_client: httpx.AsyncClient) -> None:
        await until(lambda: reasons)

    serve(options, Gate(), wait, ready=False, reasons=reasons)

    assert reasons[0].startswith("cannot go on: ")


def test_too_long_names_text_tokens_limit_and_way_out(options: Options) -> None:
    """A text over the token limit is refused, not cut in silence."""
    status, message = error(serve(options, Gate(), post(["a", "a b c d e"])))

    assert 400 == status
    assert message.startswith("text 1 of input has 5 tokens and the limit is 4; ")
    assert message.endswith('shorten it, or send "truncate": true to have it cut.')


def test_truncate_cuts_at_the_limit(options: Options) -> None:
    """With truncate, the engine gets the beginning, and its tokens are those that are counted."""
    engine = Gate()

    body = serve(options, engine, post(["a b  c d e f", "g"], truncate=True)).json()

    assert {"a b  c d", "g"} == set(engine.texts)
    assert 5 == body["usage"]["prompt_tokens"]


def test_a_large_body_is_refused(options: Options) -> None:
    """The limit counts bytes."""
    answer = serve(with_limits(options, max_body_bytes=1000), Gate(), post("a" * 1000))

    assert (413, "the body has more than 1000 bytes; send fewer texts at a time.") == error(answer)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"queue_texts": 2}, "2 texts wait already; send this again in a second."),
        ({"queue_bytes": 100}, "0 MiB of requests wait already; send this again in a second."),
    ],
)
def test_a_full_queue_refuses(options: Options, limits: dict[str, int], message: str) -> None:
    """What is over the queue's limits gets 503 and Retry-After at once; later there is room again."""
    engine = Gate()

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, ...]:
        engine.open.clear()
        first = asyncio.ensure_future(post(["a", "b"])(client))
        await until(lambda: engine_is_called(engine))
        second = await post(["c" * 60])(client)
        engine.open.set()
        return await first, second, await post("d")(client)

    first, second, third = serve(with_limits(options, **limits), engine, ask)

    assert (503, message) == error(second)
    assert "1" == second.headers["Retry-After"]
    assert (200, 200) == (first.status_code, third.status_code)


def test_a_deadline_ends_a_request(options: Options) -> None:
    """A request that takes too long gets 504, and the server goes on."""
    engine = Gate()

    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        engine.open.clear()
        late = await post("a")(client)
        engine.open.set()
        return late, await post("b")(client)

    late, after = serve(with_limits(options, deadline_s=0.05), engine, ask)

    assert (504, "no answer within 0.05 s; send fewer texts at a time.") == error(late)
    assert 200 == after.status_code


def test_an_engine_that_fails_is_a_sentence(options: Options) -> None:
    """A failed call is a 500 in OpenAI's shape."""
    engine = Gate()

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        engine.broken = True
        return await post("a")(client)

    assert (500, "the engine failed: out of memory.") == error(serve(options, engine, ask))


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1/embeddings", 405, "GET is not answered at /v1/embeddings; send POST."),
        ("POST", "/health", 405, "POST is not answered at /health; send GET or HEAD."),
        ("GET", "/", 404, "there is nothing at /; use /v1/embeddings, /v1/models or /health."),
        ("GET", "/v1/models/maxi", 404, 'model "maxi" is not served here, "mini" is.'),
    ],
)
def test_wrong_places(options: Options, method: str, path: str, status: int, message: str) -> None:
    """A wrong method or path gets a sentence that says what is right."""
    assert (status, message) == error(serve(options, Gate(), lambda client: client.request(method, path)))


def test_models(options: Options) -> None:
    """The list has the one model, and its own path the same card."""

    async def both(client: httpx.AsyncClient) -> tuple[Any, Any]:
        return (await client.get("/v1/models")).json(), (await client.get("/v1/models/mini")).json()

    listed, card = serve(options, Gate(), both)

    assert {"object": "list", "data": [card]} == listed
    assert ("mini", 2, 4) == (card["id"], card["dimensions"], card["max_tokens"])


def test_a_client_that_hung_up_costs_nothing(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    """What waits for a client that is gone leaves the queue without a call into the engine."""
    engine = Gate()

    async def ask(client: httpx.AsyncClient) -> None:
        engine.open.clear()
        busy = asyncio.ensure_future(post("a")(client))
        await until(lambda: engine_is_called(engine))
        await hang_up(client, b'{"model": "mini", "input": "never"}')
        engine.open.set()
        await busy
        await post("b")(client)

    with caplog.at_level("INFO", "embedded"):
        serve(options, engine, ask)

    assert ["a", "b"] == engine.texts
    assert "answered status=499 texts=1" in caplog.text


def engine_is_called(engine: Gate) -> bool:
    """Whether a call waits at the closed gate."""
    return len(engine.open._cond._waiters) > 0  # type: ignore[attr-defined]


async def hang_up(client: httpx.AsyncClient, body: bytes) -> None:
    """Send a request and close the connection at once, as ASGI shows it."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)

    async def events() -> AsyncIterator[dict[str, object]]:
        yield {"type": "http.request", "body": body, "more_body": False}
        yield {"type": "http.disconnect"}

    async def ignore(_message: object) -> None:
        return

    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": [], "query_string": b""}
    source = events()
    await transport.app(scope, source.__anext__, ignore)
