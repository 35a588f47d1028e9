"""vLLM's server (vllm-project/vllm, vllm/entrypoints: openai/engine/protocol.py, pooling/scoring).

It loads before it listens: until then connections are refused. `python3 vllm.py [serve] --model DIR --port
8000 ...`
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import NoReturn

if not __package__:  # run as a file: its folder is the package
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name  # what relative imports start from

from .brain import tokens
from .command import die, say
from .common import Body, Handler, Play
from .faults import Knobs, Refused
from .meaning import rank, sigmoid
from .openai_wire import Answer, Dialect, Said, answered, indexes, send_chat, texts_of, vectors
from .ranking import spoilt
from .vllm_flags import number, parse

VERSION = "0.22.0"
PAIRS = ("ForSequenceClassification",)


def error(code: int, message: str, kind: str, param: str | None = None) -> Refused:
    """Return an error as `ErrorResponse` is written (vllm/entrypoints/openai/engine/protocol.py)."""
    return Refused(code, {"error": {"message": message, "type": kind, "param": param, "code": code}})


class Vllm(Play):
    """One model."""

    broken = (
        500,
        {
            "error": {
                "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                "type": "InternalServerError",
                "param": None,
                "code": 500,
            }
        },
    )
    overloaded = (
        503,
        {
            "error": {
                "message": "Service unavailable",
                "type": "ServiceUnavailableError",
                "param": None,
                "code": 503,
            }
        },
    )

    def __init__(self, given: dict[str, str], knobs: Knobs) -> None:
        super().__init__(knobs, given.get("--host", "0.0.0.0"), int(given.get("--port", 8000)))
        self.given = given
        self.folder = Path(given["--model"])
        self.model = given.get("--served-model-name", "") or given["--model"]
        self.config: Body = {}
        self.routes |= {
            "GET /health": lambda handler, _: handler.send(200, b"", "application/json"),
            "GET /ping": lambda handler, _: handler.send(200, b"", "application/json"),
            "GET /version": lambda handler, _: handler.json(200, {"version": VERSION}),
            "GET /v1/models": self._models,
            "GET /metrics": lambda handler, _: handler.send(
                200, b"vllm:num_requests_running 0\n", "text/plain"
            ),
        }

    # --- loading -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Log what the real one logs, and end where it ends."""
        try:
            self.config = json.loads((self.folder / "config.json").read_text())
        except (OSError, ValueError):
            self._fail(f"ValueError: Invalid repository ID or local directory specified: '{self.folder}'.")
        if not any(self.folder.glob("*.safetensors")):
            self._fail(f"RuntimeError: Cannot find any model weights with `{self.folder}`")
        trained = int(str(self.config.get("max_position_embeddings", 40960)))
        self.context = int(number(self.given.get("--max-model-len", str(trained))))
        if self.context > trained:
            self._fail(
                f"Value error, User-specified max_model_len ({self.context}) is greater"
                " than the derived max_model_len"
                f" (max_position_embeddings={trained}.0 or model_max_length=None in model's config.json)."
            )
        if not self.knobs.gpu or self.faults.has("cpu"):
            self._fail(
                "RuntimeError: Failed to infer device type, please set the environment variable"
                " `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."
            )
        if self.faults.has("cuda-oom"):
            self._fail(
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
                " GPU 0 has a total capacity of"
                " 23.56 GiB of which 1.20 GiB is free.\nRuntimeError: Engine core"
                " initialization failed. See root cause"
                " above. Failed core proc(s): {}"
            )
        small = self.faults.take("small-context")
        self.context = int(small) if small else self.context
        self._tasks()
        say(
            "INFO [gpu_model_runner.py] Model loading took 14.9 GiB memory and 3.2 seconds",
            f"INFO [kv_cache_utils.py] GPU KV cache size: {self.context * 2} tokens",
            f"INFO [api_server.py] Starting vLLM server on http://{self.given.get('--host', '0.0.0.0')}",
            "INFO:     Application startup complete.",
        )

    def _tasks(self) -> None:
        """Offer the paths of what the model can do (`supported_tasks` decides which routers are there)."""
        overrides = json.loads(self.given.get("--hf-overrides") or "{}")
        names = {**self.config, **overrides}.get("architectures") or ["Qwen3ForCausalLM"]
        kind = str(names[0])
        self.sees = "vision_config" in self.config
        if kind.endswith(PAIRS):
            self.routes |= {f"POST {path}": self._rerank for path in ("/rerank", "/v1/rerank", "/v2/rerank")}
            self.routes |= {f"POST {path}": self._score for path in ("/score", "/v1/score")}
        elif kind.endswith(("Model", "Embedding")) or self.given.get("--runner") == "pooling":
            self.routes["POST /v1/embeddings"] = self._embed
        else:
            self.routes["POST /v1/chat/completions"] = self._chat

    def _fail(self, text: str) -> NoReturn:
        die(f"ERROR [core.py] EngineCore failed to start.\nTraceback (most recent call last):\n{text}", 1)

    # --- answering ---------------------------------------------------------------------------------

    def missing(self, _method: str, _path: str) -> Refused:
        """Say that there is no such path (FastAPI)."""
        return Refused(404, {"detail": "Not Found"})

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Say that a body is no JSON."""
        return error(
            400, f"[{{'type': 'json_invalid', 'msg': 'JSON decode error: {problem}'}}]", "Bad Request"
        )

    def _models(self, handler: Handler, _body: Body) -> None:
        permission = {
            "id": f"modelperm-{uuid.uuid4().hex}",
            "object": "model_permission",
            "allow_sampling": True,
        }
        name = "another-model" if self.faults.has("unlisted") else self.model
        row = {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vllm",
            "root": str(self.folder),
            "parent": None,
            "max_model_len": self.context,
            "permission": [permission],
        }
        handler.json(200, {"object": "list", "data": [row]})

    def _named(self, body: Body) -> None:
        name = body.get("model")
        if name is not None and name != self.model:
            raise error(404, f"The model `{name}` does not exist.", "NotFoundError", "model")

    def _chat(self, handler: Handler, body: Body) -> None:
        self._named(body)
        if not isinstance(body.get("messages"), list):
            raise error(
                400,
                "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]",
                "Bad Request",
            )
        self.trouble(handler)
        said = Said.read(body["messages"])
        if said.images and not self.sees:
            raise error(400, f"{self.model} is not a multimodal model", "BadRequestError")
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        self._fits(said.prompt_tokens, int(most or 0))
        given = answered(self, said, most, left=self.context - said.prompt_tokens)
        send_chat(handler, body, given, self.model, DIALECT)

    def _fits(self, count: int, wanted: int) -> None:
        """Refuse what is too long (vllm/renderers/params.py)."""
        room = self.context - (wanted or 1)
        if count > room:
            raise error(
                400,
                f"You passed {count} input tokens and requested {wanted} output tokens."
                " However, the model's context"
                f" length is only {self.context} tokens, resulting in a maximum input"
                f" length of {room} tokens. Please"
                f" reduce the length of the input prompt. (parameter=input_tokens, value={count})",
                "BadRequestError",
                "input_tokens",
            )

    def _embed(self, handler: Handler, body: Body) -> None:
        self._named(body)
        texts = texts_of(body)
        if texts is None:
            raise error(
                400, "[{'type': 'missing', 'loc': ('body', 'input'), 'msg': 'Field required'}]", "Bad Request"
            )
        self.trouble(handler)
        for text in texts:
            self._fits(len(tokens(text)), 0)
        rows = vectors(self, texts, int(str(self.config.get("hidden_size", 384))))
        count = sum(len(tokens(text)) for text in texts)
        data = [
            {"index": at, "object": "embedding", "embedding": row}
            for at, row in zip(indexes(self, len(rows)), rows, strict=True)
        ]
        usage = {
            "prompt_tokens": count,
            "total_tokens": count,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        }
        handler.json(
            200,
            {
                "id": f"embd-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": self.model,
                "data": data,
                "usage": usage,
            },
        )

    def _ranked(
        self, handler: Handler, body: Body, query: str, texts: list[str]
    ) -> tuple[list[tuple[int, float]], int]:
        self._named(body)
        self.trouble(handler)
        count = sum(len(tokens(f"{query} {text}")) for text in texts)
        return spoilt(self, [(place, sigmoid(one)) for place, one in rank(query, texts)]), count

    def _rerank(self, handler: Handler, body: Body) -> None:
        texts = texts_of(body, "documents") or []
        ranked, count = self._ranked(handler, body, str(body.get("query", "")), texts)
        most = int(body.get("top_n") or len(texts))
        rows = [
            {
                "index": at,
                "document": {"text": texts[at % len(texts)], "multi_modal": None},
                "relevance_score": one,
            }
            for at, one in ranked[:most]
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        handler.json(
            200, {"id": f"rerank-{uuid.uuid4().hex}", "model": self.model, "usage": usage, "results": rows}
        )

    def _score(self, handler: Handler, body: Body) -> None:
        texts = texts_of(body, "text_2") or []
        ranked, count = self._ranked(handler, body, str(body.get("text_1", "")), texts)
        rows = [{"index": at, "object": "score", "score": one} for at, one in sorted(ranked)]
        usage = {
            "prompt_tokens": count,
            "total_tokens": count,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        }
        handler.json(
            200,
            {
                "id": f"score-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": self.model,
                "data": rows,
                "usage": usage,
            },
        )


def _whole(given: Answer, model: str) -> Body:
    return {
        "id": given.id,
        "object": "chat.completion",
        "created": given.created,
        "model": model,
        "service_tier": None,
        "system_fingerprint": None,
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }


DIALECT = Dialect(
    whole=_whole,
    chunk=lambda given, model: {
        "id": given.id,
        "object": "chat.completion.chunk",
        "created": given.created,
        "model": model,
    },
    message=lambda text: {
        "role": "assistant",
        "content": text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": None,
    },
    choice={"logprobs": None, "stop_reason": None, "token_ids": None},
    usage=lambda given: {**given.usage, "prompt_tokens_details": None},
)


def main() -> None:
    """Serve until told to stop."""
    given = parse(sys.argv[1:])
    Vllm(given, Knobs.read(given, os.environ)).run()


if __name__ == "__main__":
    main()
