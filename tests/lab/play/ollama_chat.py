"""Ollama (ollama/ollama, server/routes.go, api/types.go, openai/openai.go): all that it does with models.

`OLLAMA_HOST=127.0.0.1:11434 OLLAMA_MODELS=DIR python3 ollama_chat.py serve`; PLAY_REGISTRY is where models
come from whose name has no port. Faults of a pull, beside those in `common`:

    drop      the connection ends after the first progress     stall    nothing comes, and the lines go on
    hang      there is no answer at all                        404      what a web server says
    garbage   lines that are no JSON stand between             line:... this error line comes after the first
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

if not __package__:  # run as a file: its folder is the package
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name  # what relative imports start from

from . import web
from .brain import first, newest, tokens
from .command import die, flags
from .common import Body, Handler
from .faults import Knobs, Refused
from .ollama_folder import Folder, details
from .ollama_models import FOREVER_S, Loaded, duration
from .openai_wire import Answer, Dialect, Said, answered, indexes, send_chat, texts_of, vectors

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class Ollama(Folder):
    """The server."""

    overloaded = (503, {"error": BUSY})
    broken = (500, {"error": "llama runner process has terminated: exit status 2"})

    def __init__(self, environment: Mapping[str, str], knobs: Knobs, host: str, port: int) -> None:
        super().__init__(environment, knobs, host, port)
        self.routes |= {
            "GET /api/ps": self._ps,
            "POST /api/generate": self._generate,
            "POST /api/chat": self._chat,
            "POST /api/embed": self._embed,
            "GET /v1/models": self._listed,
            "GET /v1/models/*": self._listed_one,
            "POST /v1/chat/completions": self._openai_chat,
            "POST /v1/embeddings": self._openai_embed,
        }

    # --- models in memory --------------------------------------------------------------------------

    def _ps(self, handler: Handler, _body: Body) -> None:
        self.memory.expire()
        rows = [
            {
                "name": one.model.name.shortest,
                "model": one.model.name.shortest,
                "size": one.size_bytes,
                "digest": one.model.digest,
                "details": details(one.model),
                "expires_at": _until(one),
                "size_vram": one.vram_bytes,
                "context_length": one.context,
            }
            for one in sorted(self.memory.loaded.values(), key=lambda one: -one.ends)
        ]
        handler.json(200, {"models": rows})

    def _bring(self, body: Body, what: str) -> Loaded:
        model = self._known(body.get("model"))
        if what == "generate" and "completion" not in model.capabilities:
            raise Refused(400, {"error": f'"{body["model"]}" does not support {what}'})
        return self.memory.bring(model, body.get("options") or {}, body.get("keep_alive"))

    def _generate(self, handler: Handler, body: Body) -> None:
        name, prompt = body.get("model"), str(body.get("prompt") or "")
        model = self._known(name)
        if not prompt:
            loads = body.get("keep_alive") is None or duration_of(body) != 0
            if loads:
                self._bring(body, "generate")
            else:
                self.memory.unload(model.name)
            handler.json(
                200,
                {
                    "model": name,
                    "created_at": _now(),
                    "response": "",
                    "done": True,
                    "done_reason": "load" if loads else "unload",
                },
            )
            return
        self.trouble(handler)
        given = self._answered(
            self._bring(body, "generate"), Said(prompt, prompt, (), 1), body.get("options") or {}
        )
        self._say(handler, body, given, lambda piece: {"response": piece})

    def _chat(self, handler: Handler, body: Body) -> None:
        messages = body.get("messages") or []
        if not messages:
            loads = body.get("keep_alive") is None or duration_of(body) != 0
            model = self._bring(body, "chat").model if loads else self._known(body.get("model"))
            if not loads:
                self.memory.unload(model.name)
            handler.json(
                200,
                {
                    "model": body["model"],
                    "created_at": _now(),
                    "done": True,
                    "message": {"role": "assistant", "content": ""},
                    "done_reason": "load" if loads else "unload",
                },
            )
            return
        self._known(body.get("model"))
        self.trouble(handler)
        given = self._answered(self._bring(body, "chat"), Said.read(messages), body.get("options") or {})
        self._say(handler, body, given, lambda piece: {"message": {"role": "assistant", "content": piece}})

    def _answered(self, loaded: Loaded, said: Said, options: Body) -> Answer:
        """Answer from what fits the context: the newest, without a word about the rest."""
        if said.images and "vision" not in loaded.model.capabilities:
            raise Refused(500, {"error": "this model is missing data required for image input"})
        most = int(options.get("num_predict") or 0)
        room = max(1, loaded.context - 1)
        if said.prompt_tokens > room:
            cut = newest(said.text, max(1, room - (said.prompt_tokens - len(tokens(said.text)))))
            given = answered(self, Said(cut, said.question, said.images, said.messages), most)
            return Answer(given.text, given.finish, room, given.completion_tokens)
        return answered(self, said, most, left=loaded.context - said.prompt_tokens)

    def _say(self, handler: Handler, body: Body, given: Answer, written: Any) -> None:  # noqa: ANN401  # a lambda
        base = {"model": body["model"], "created_at": _now()}
        end = {
            "done": True,
            "done_reason": given.finish,
            "total_duration": 10**7,
            "load_duration": 10**6,
            "prompt_eval_count": given.prompt_tokens,
            "prompt_eval_duration": 10**6,
            "eval_count": given.completion_tokens,
            "eval_duration": 10**6,
        }
        if body.get("stream") is False:
            self.pace(given.completion_tokens)
            handler.json(200, {**base, **written(given.text), **end})
            return

        def rows() -> Iterator[object]:
            for piece in self.pieces(given.text):
                yield {**base, **written(piece), "done": False}
            yield {**base, **written(""), **end}

        handler.lines(rows())

    def _vectors(self, body: Body, handler: Handler) -> tuple[list[list[float]], int]:
        texts = [] if body.get("input") in ("", None) else texts_of(body)
        if texts is None:
            raise Refused(400, {"error": "invalid input type"})
        self._known(body.get("model"))
        if texts:
            self.trouble(handler)
        loaded = self._bring(body, "embed")
        if not texts:
            return [], 0
        kept = []
        for text in texts:
            if len(tokens(text)) > loaded.context and body.get("truncate") is False:
                raise Refused(400, {"error": "the input length exceeds the context length"})
            kept.append(first(text, loaded.context))
        return vectors(self, kept, loaded.model.number("embedding_length", 768)), sum(
            len(tokens(one)) for one in kept
        )

    def _embed(self, handler: Handler, body: Body) -> None:
        rows, count = self._vectors(body, handler)
        handler.json(
            200,
            {
                "model": body["model"],
                "embeddings": rows,
                "total_duration": 10**7,
                "load_duration": 10**6,
                "prompt_eval_count": count,
            },
        )

    # --- OpenAI's ----------------------------------------------------------------------------------

    def _listed(self, handler: Handler, _body: Body) -> None:
        hidden = self.faults.has("unlisted")
        rows = [] if hidden else [_row(str(one["name"])) for one in self.store.listed()]
        handler.json(200, {"object": "list", "data": rows})

    def _listed_one(self, handler: Handler, _body: Body) -> None:
        with openai_errors():
            model = self._known(handler.path.removeprefix("/v1/models/"))
        handler.json(200, _row(model.name.shortest))

    def _openai_chat(self, handler: Handler, body: Body) -> None:
        with openai_errors():
            self._known(body.get("model"))
            if not body.get("messages"):
                raise Refused(400, {"error": "[] is too short - 'messages'"})
            self.trouble(handler)
            most = body.get("max_completion_tokens") or body.get("max_tokens")
            given = self._answered(
                self._bring(body, "chat"), Said.read(body["messages"]), {"num_predict": most}
            )
        send_chat(handler, body, given, body["model"], DIALECT)

    def _openai_embed(self, handler: Handler, body: Body) -> None:
        with openai_errors():
            rows, count = self._vectors(body, handler)
        data = [
            {"object": "embedding", "embedding": row, "index": place}
            for place, row in zip(indexes(self, len(rows)), rows, strict=True)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        handler.json(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})


class openai_errors:  # noqa: N801  # it is used as a statement
    """Writes the errors inside as OpenAI's (openai/openai.go, NewError)."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Turn a refusal into OpenAI's."""
        if (
            isinstance(error, Refused)
            and isinstance(error.body, dict)
            and isinstance(error.body.get("error"), str)
        ):
            kinds = {400: "invalid_request_error", 404: "not_found_error"}
            said = {"message": error.body["error"], "type": kinds.get(error.status, "api_error")}
            raise Refused(error.status, {"error": {**said, "param": None, "code": None}}) from None


DIALECT = Dialect(
    whole=lambda given, model: {
        "id": given.id,
        "object": "chat.completion",
        "created": given.created,
        "model": model,
        "system_fingerprint": "fp_ollama",
    },
    chunk=lambda given, model: {
        "id": given.id,
        "object": "chat.completion.chunk",
        "created": given.created,
        "model": model,
        "system_fingerprint": "fp_ollama",
    },
    message=lambda text: {"role": "assistant", "content": text},
    choice={},
    usage=lambda given: given.usage,
)


def duration_of(body: Body) -> float:
    """Return how long the request lets a model stay."""
    return duration(body["keep_alive"], 300.0)


def _row(name: str) -> Body:
    return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "library"}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _until(one: Loaded) -> str:
    left = (
        timedelta(days=292 * 365)
        if one.stay_s >= FOREVER_S
        else timedelta(seconds=one.ends - time.monotonic())
    )
    return (datetime.now(UTC) + left).isoformat().replace("+00:00", "Z")


# --- the command -------------------------------------------------------------------------------------


def refuse(why: str, flag: str) -> NoReturn:
    """End as cobra does."""
    die(f"Error: unknown flag: {flag}" if why == "unknown" else f"Error: flag needs an argument: {flag}", 1)


def where(environment: Mapping[str, str]) -> tuple[str, int]:
    """Read OLLAMA_HOST."""
    text = environment.get("OLLAMA_HOST", "127.0.0.1:11434").removeprefix("http://").rstrip("/")
    host, colon, port = text.rpartition(":")
    return (host or "127.0.0.1", int(port)) if colon else (text, 11434)


def show_list(environment: Mapping[str, str]) -> None:
    """Print the models of the server that runs, as `ollama list` does; it ends with 1 where none does."""
    host, port = where(environment)
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    try:
        with web.asked("GET", f"{url}/api/tags") as answer:
            rows = json.loads(answer.read())["models"]
    except web.WebError:
        die("Error: could not connect to ollama server, run 'ollama serve' to start it", 1)
    sys.stdout.write("NAME    ID    SIZE    MODIFIED\n" + "".join(f"{row['name']}\n" for row in rows))


def main() -> None:
    """Serve until told to stop, or list."""
    given, words = flags(sys.argv[1:], {}, refuse)
    environment = dict(os.environ)
    environment.setdefault("OLLAMA_MODELS", str(Path(environment.get("HOME", "/root")) / ".ollama/models"))
    if words == ["list"]:
        show_list(environment)
        return
    if words not in (["serve"], []):
        die(f'Error: unknown command "{words[0]}" for "ollama"', 1)
    host, port = where(environment)
    try:
        server = Ollama(environment, Knobs.read(given, environment), host, port)
    except OSError as error:
        die(f"Error: mkdir {environment['OLLAMA_MODELS']}: {str(error.strerror).lower()}", 1)
    server.run()


if __name__ == "__main__":
    main()
