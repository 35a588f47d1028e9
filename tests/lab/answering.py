"""A model server that plays every role, in memory or on loopback, with everything that can be wrong about it.

In memory its answers take the time that it says; on loopback they take what they take.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tasks.effects.http import Reply, Request
from tasks.effects.wire import FormFile
from tasks.verify.kinds.vision import rgb, scene
from tasks.verify.picture import data_url, draw
from tasks.verify.probe_files import DEFAULT, load

VOWELS = "```python\ndef count_vowels(text):\n    return sum(char in 'aeiou' for char in text.lower())\n```"
RUNS = """Here it is:
```python
def runs(numbers):
    found = []
    for number in numbers:
        if found and found[-1][0] == number:
            found[-1][1] += 1
        else:
            found.append([number, 1])
    return found
```
"""
SPOKEN = "My brother has three green apples, and seven yellow flowers."
SCRIPT = (
    ("17 + 25", "42"),
    ("plinth", "plinth"),
    ("right after M", "N"),
    ("capital of France", "Paris."),
    ("count_vowels", VOWELS),
    ("runs(numbers)", RUNS),
)
SEES = {
    data_url(draw(one.shape.name, rgb(one.colour), one.word.name)): one
    for probes in load(DEFAULT)
    if probes.vision
    for one in (scene(probes.vision, seed) for seed in probes.vision.seeds)
}


def reply(body: object, status: int = 200, seconds: float = 0.01) -> Reply:
    """Return a JSON reply."""
    return Reply(status, json.dumps(body).encode(), seconds, "application/json")


class Model:
    """Plays a server. Each attribute is one thing that can be wrong.

    Attributes:
        names: What it lists.
        context: How many tokens it takes; of longer texts it forgets the beginning, as Ollama does.
        per_s: Tokens of prompt a second.
        says: Changes what it says to a question (question, answer).
        extra: Replaces the reply to a path.
        requests: Everything it was asked.
    """

    def __init__(self, name: str = "m", context: int = 1 << 20) -> None:
        self.names = [name]
        self.context = context
        self.per_s = 10_000.0
        self.says: Callable[[str, str], str] = lambda _question, answer: answer
        self.message: Callable[[str], dict[str, Any]] = lambda text: {"role": "assistant", "content": text}
        self.finish = "stop"
        self.scores: Callable[[str, list[str]], list[float]] = relevance
        self.hears: Callable[[int], str] = heard
        self.stream: Callable[[], bytes] = streamed
        self.loaded: dict[str, Any] = {"size": 5 << 30, "size_vram": 5 << 30, "context_length": 8192}
        self.extra: dict[str, Callable[[Request], Reply]] = {}
        self.requests: list[Request] = []

    def answer(self, request: Request) -> Reply:
        """Answer as the server would."""
        self.requests.append(request)
        path = re.sub(r"^https?://[^/]+", "", request.url)
        if path in self.extra:
            return self.extra[path](request)
        return _PATHS[path](self, request)

    def chat(self, request: Request) -> Reply:
        """Answer a chat completion."""
        body: Any = request.json
        assert body["model"] in self.names
        assert body["temperature"] == 0
        if body.get("stream"):
            return Reply(200, self.stream(), 1.0, "text/event-stream")
        question = body["messages"][0]["content"]
        text = question if isinstance(question, str) else question[1]["text"]
        known = _known(question, self.context)
        count = min(tokens(text), self.context)
        usage = {"prompt_tokens": count, "completion_tokens": 5, "total_tokens": count + 5}
        message = self.message(self.says(text, known))
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return reply({"choices": [choice], "usage": usage}, seconds=count / self.per_s)

    def tei(self, request: Request) -> Reply:
        """Score documents as TEI does, the best first."""
        body: Any = request.json
        rows = enumerate(self.scores(body["query"], body["texts"]))
        return reply(sorted(({"index": i, "score": one} for i, one in rows), key=lambda row: -row["score"]))

    def jina(self, request: Request) -> Reply:
        """Score documents as llama.cpp and vLLM do."""
        body: Any = request.json
        assert body["model"] in self.names
        rows = enumerate(self.scores(body["query"], body["documents"]))
        return reply({"results": [{"index": i, "relevance_score": one} for i, one in rows]})

    def transcribe(self, request: Request) -> Reply:
        """Hear a recording: its length tells how much of the sentence is in it."""
        assert request.form is not None
        assert request.file is not None
        assert request.form["model"] in self.names
        assert request.file.content[:4] == b"RIFF"
        return reply({"text": self.hears(len(request.file.content))})


_PATHS: dict[str, Callable[[Model, Request], Reply]] = {
    "/health": lambda _model, _request: reply({"status": "ok"}),
    "/api/version": lambda _model, _request: reply({"version": "0.33.0"}),
    "/v1/models": lambda model, _request: reply({"data": [{"id": name} for name in model.names]}),
    "/info": lambda model, _request: reply({"model_id": model.names[0]}),
    "/props": lambda model, _request: reply({"default_generation_settings": {"n_ctx": model.context}}),
    "/api/ps": lambda model, _request: reply({"models": [{"name": model.names[0], **model.loaded}]}),
    "/v1/chat/completions": Model.chat,
    "/rerank": Model.tei,
    "/v1/rerank": Model.jina,
    "/v1/audio/transcriptions": Model.transcribe,
}


def tokens(text: str) -> int:
    """Count tokens as this server does: a word and a half."""
    return len(text.split()) * 3 // 2


def relevance(query: str, documents: list[str]) -> list[float]:
    """Return what a right reranker says: one document has the words of the query."""
    key = "red planet" if "planet" in query else "bread"
    return [0.97 if key in document else 0.0002 for document in documents]


def heard(length: int) -> str:
    """Return what is heard in a recording of so many bytes."""
    return SPOKEN if length > 100_000 else "My brother has 3 green apples"


def streamed(count: int = 60, *, done: bool = True) -> bytes:
    """Return a stream of so many parts."""
    parts = [{"choices": [{"index": 0, "delta": {"content": f"{number} "}}]} for number in range(count)]
    parts.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]} if done else {})
    lines = [f"data: {json.dumps(part)}\n\n" for part in parts]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def _known(question: str | list[dict[str, Any]], context: int) -> str:
    if not isinstance(question, str):
        seen = SEES[question[0]["image_url"]["url"]]
        asks = question[1]["text"].lower()
        return (
            seen.colour.name if "colour" in asks else seen.shape.name if "shape" in asks else seen.word.name
        )
    if "number of the" in question or "numbers of the" in question:
        kept = " ".join(question.split()[-(context * 2 // 3) :])
        return " and ".join(re.findall(r"door is (\d+)", kept)) or "I do not know"
    return next((answer for key, answer in SCRIPT if key in question), "I do not know")


def _form(url: str, content_type: str, body: bytes) -> Request:
    """Read a form with the parser for mail, which knows the same format."""
    parts = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body).get_payload()
    assert isinstance(parts, list)
    form, file = {}, None
    for part in parts:
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if part.get_filename():
            file = FormFile(name, part.get_filename(), part.get_content_type(), content)
        else:
            form[name] = content.decode()
    return Request("POST", url, form=form, file=file)


class OnLoopback:
    """A model on a real port. `raw` replaces the answer to a POST by whatever it writes to the connection."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.raw: Callable[[Callable[[bytes], object], threading.Event], None] | None = None
        self.end = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.play = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        """Address that ends in `/v1`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    play: OnLoopback

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of hostile servers go away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        self._send(self.server.play.model.answer(Request("GET", self._url())))

    def do_POST(self) -> None:
        """Answer, or write what `raw` writes."""
        play = self.server.play
        body = self.rfile.read(int(self.headers["content-length"]))
        if play.raw is not None:
            self.close_connection = True
            play.raw(self.wfile.write, play.end)
            return
        content_type = self.headers["content-type"]
        asked = (
            Request("POST", self._url(), json.loads(body))
            if content_type == "application/json"
            else _form(self._url(), content_type, body)
        )
        self._send(play.model.answer(asked))

    def _url(self) -> str:
        return f"http://127.0.0.1{self.path}"

    def _send(self, answer: Reply) -> None:
        self.send_response(answer.status)
        self.send_header("content-type", answer.content_type)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)
