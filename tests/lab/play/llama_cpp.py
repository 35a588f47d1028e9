"""llama.cpp's server (ggml-org/llama.cpp, tools/server/README.md, server-http.cpp, server-context.cpp).

It listens before it loads and says 503 to all until then. `python3 llama_cpp.py --model M.gguf --port 8080
...`
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

if not __package__:  # run as a file: its folder is the package
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name  # what relative imports start from

from . import gguf_head
from .brain import tokens
from .command import die, say
from .common import Body, Handler, Play
from .faults import Knobs, Refused
from .llama_flags import parse
from .meaning import rank
from .openai_wire import Answer, Dialect, Said, answered, indexes, send_chat, texts_of, vectors
from .ranking import spoilt

BUILD = "b9999-play"


def error(code: int, message: str, kind: str, **more: object) -> Refused:
    """Return an error as `format_error_response` writes it (tools/server/server-common.cpp)."""
    return Refused(code, {"error": {"code": code, "message": message, "type": kind, **more}})


class LlamaCpp(Play):
    """One model."""

    listens_first = True
    broken = (500, {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}})
    overloaded = (503, {"error": {"code": 503, "message": "no slot available", "type": "unavailable_error"}})

    def __init__(self, given: dict[str, str], knobs: Knobs) -> None:
        super().__init__(knobs, given.get("--host", "127.0.0.1"), int(given.get("--port", 8080)))
        self.path = Path(given.get("--model", ""))
        self.model = given.get("--alias", "") or self.path.name
        self.parallel = max(1, int(given.get("--parallel", 1)))
        self.context = int(given.get("--ctx-size", 0))
        self.ubatch = min(int(given.get("--ubatch-size", 512)), int(given.get("--batch-size", 2048)))
        self.reranks = "--reranking" in given
        self.embeds = "--embeddings" in given or self.reranks
        self.sees = "--mmproj" in given
        self.projector = Path(given["--mmproj"]) if self.sees else None
        self.measures = "--metrics" in given
        self.pooling = given.get("--pooling", "rank" if self.reranks else "")
        self.wanted_layers = given.get("--n-gpu-layers", "auto")
        self.head: dict[str, object] = {}
        self.routes |= {
            "GET /health": self._health,
            "GET /v1/health": self._health,
            "GET /v1/models": self._models,
            "GET /models": self._models,
            "GET /props": self._props,
            "GET /metrics": self._metrics,
            "POST /v1/chat/completions": self._chat,
            "POST /chat/completions": self._chat,
            "POST /v1/embeddings": self._embed,
            **{
                f"POST {path}": self._rerank
                for path in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")
            },
        }

    # --- loading -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Log what the real one logs, and end where it ends."""
        say(f"srv    load_model: loading model '{self.path}'")
        try:
            self.head = gguf_head.read(self.path)
        except OSError as error_:
            self._fail(f"gguf_init_from_file: failed to open GGUF file '{self.path}' ({error_.strerror})")
        except ValueError as error_:
            self._fail(f"gguf_init_from_reader: invalid magic characters: '{error_}', expected 'GGUF'")
        if self.projector is not None and not self.projector.is_file():
            die(
                f"clip_init: failed to load model '{self.projector}': failed to open"
                " file\nmtmd_init_from_file: error:"
                f" Failed to load CLIP model from {self.projector}\nsrv    load_model:"
                " failed to load multimodal model,"
                f" '{self.projector}'\nsrv  llama_server: exiting due to model loading error",
                1,
            )
        if self.faults.has("cuda-oom"):
            self._out_of_memory()
        blocks = int(str(self.head.get(f"{self.head.get('general.architecture')}.block_count", 32)))
        self._offload(blocks)
        trained = int(str(self.head.get(f"{self.head.get('general.architecture')}.context_length", 131072)))
        small = self.faults.take("small-context")
        self.slot = min(int(small) if small else (self.context or trained) // self.parallel, trained)
        say(
            f"llama_context: n_ctx         = {self.slot * self.parallel}",
            f"srv    load_model: initializing slots, n_slots = {self.parallel}",
            "srv  llama_server: model loaded",
            f"srv  llama_server: listening on http://{self.host}:{self.port}",
        )

    def _offload(self, blocks: int) -> None:
        wanted = self.wanted_layers
        layers = blocks + 1 if wanted in {"auto", "all"} else min(int(wanted), blocks + 1)
        if self.faults.has("half"):
            layers = (blocks + 1) // 2
        if not self.knobs.gpu or self.faults.has("cpu"):
            layers = 0
            if wanted != "0":
                say(
                    "warning: no usable GPU found, --gpu-layers option will be ignored",
                    "warning: one possible reason is that llama.cpp was compiled without GPU support",
                )
        else:
            say("ggml_cuda_init: found 1 CUDA devices (Total VRAM: 24124 MiB):")
        if layers:
            say(f"load_tensors: offloading {min(layers, blocks)} repeating layers to GPU")
        say(f"load_tensors: offloaded {layers}/{blocks + 1} layers to GPU")

    def _fail(self, first: str) -> NoReturn:
        die(
            f"{first}\n"
            "llama_model_load: error loading model: llama_model_loader: failed to load"
            f" model from {self.path}\n"
            "llama_model_load_from_file_impl: failed to load model\n"
            f"cmn  common_init_: failed to load model '{self.path}'\n"
            f"srv    load_model: failed to load model, '{self.path}'\n"
            "srv    operator(): operator(): cleaning up before exit...\n"
            "srv  llama_server: exiting due to model loading error",
            1,
        )

    def _out_of_memory(self) -> NoReturn:
        say(
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 18432.00 MiB on"
            " device 0: cudaMalloc failed: out of memory",
            "alloc_tensor_range: failed to allocate CUDA0 buffer of size 19327352832",
        )
        self._fail("llama_model_load: error loading model: unable to allocate CUDA0 buffer")

    def cannot_listen(self, _error: OSError) -> NoReturn:
        """End as it does when its port is taken."""
        die(
            f"srv         start: couldn't bind HTTP server socket, hostname: {self.host}, port: {self.port}\n"
            "srv    operator(): operator(): cleaning up before exit...\n"
            "srv  llama_server: exiting due to HTTP server error",
            1,
        )

    # --- answering ---------------------------------------------------------------------------------

    def while_loading(self, _path: str) -> None:
        """Refuse everything (middleware_server_state, tools/server/server-http.cpp)."""
        raise error(503, "Loading model", "unavailable_error")

    def missing(self, _method: str, _path: str) -> Refused:
        """Say that there is no such path."""
        return error(404, "File Not Found", "not_found_error")

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Say that a body is no JSON."""
        return error(400, f"[json.exception.parse_error.101] parse error: {problem}", "invalid_request_error")

    def _health(self, handler: Handler, _body: Body) -> None:
        handler.json(200, {"status": "ok"})

    def _models(self, handler: Handler, _body: Body) -> None:
        name = "another-model" if self.faults.has("unlisted") else self.model
        meta = {
            "vocab_type": 2,
            "n_vocab": 32000,
            "n_ctx": self.slot,
            "n_ctx_train": 131072,
            "n_embd": self.dimensions,
            "n_params": 8030261248,
            "size": self.path.stat().st_size,
            "ftype": "Q4_K - Medium",
        }
        takes = {
            "input_modalities": ["text", "image"] if self.sees else ["text"],
            "output_modalities": ["text"],
        }
        row = {
            "id": name,
            "aliases": [name],
            "tags": [],
            "object": "model",
            "architecture": takes,
            "created": int(time.time()),
            "owned_by": "llamacpp",
            "meta": meta,
        }
        able = ["completion", "multimodal"] if self.sees else ["completion"]
        old = {
            "name": name,
            "model": name,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": able,
            "parameters": "",
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "",
                "families": [""],
                "parameter_size": "",
                "quantization_level": "",
            },
        }
        handler.json(200, {"models": [old], "object": "list", "data": [row]})

    def _props(self, handler: Handler, _body: Body) -> None:
        settings = {"n_ctx": self.slot, "params": {}}
        handler.json(
            200,
            {
                "default_generation_settings": settings,
                "total_slots": self.parallel,
                "model_alias": self.model,
                "model_path": str(self.path),
                "model_ftype": "Q4_K - Medium",
                "modalities": {"vision": self.sees, "video": False, "audio": False},
                "chat_template": "",
                "build_info": BUILD,
                "is_sleeping": False,
            },
        )

    def _metrics(self, handler: Handler, _body: Body) -> None:
        if not self.measures:
            said = "This server does not support metrics endpoint. Start it with `--metrics`"
            raise error(501, said, "not_supported_error")
        done = sum(self.requests.values())
        handler.send(200, f"llamacpp:n_decode_total {done}\n".encode(), "text/plain; version=0.0.4")

    def _chat(self, handler: Handler, body: Body) -> None:
        if "bert" in str(self.head.get("general.architecture")):
            raise error(500, "the current context does not logits computation. skipping", "server_error")
        if not isinstance(body.get("messages"), list):
            raise error(400, "'messages' is required", "invalid_request_error")
        self.trouble(handler)
        said = Said.read(body["messages"])
        if said.images and not self.sees:
            hint = (
                "image input is not supported - hint: if this is unexpected, you may need to"
                " provide the mmproj"
            )
            raise error(500, hint, "server_error")
        if said.prompt_tokens >= self.slot:
            text = (
                f"request ({said.prompt_tokens} tokens) exceeds the available context size"
                f" ({self.slot} tokens), try increasing it"
            )
            raise error(
                400, text, "exceed_context_size_error", n_prompt_tokens=said.prompt_tokens, n_ctx=self.slot
            )
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        given = answered(self, said, most, left=self.slot - said.prompt_tokens)
        send_chat(handler, body, given, body.get("model") or self.model, DIALECT)

    @property
    def dimensions(self) -> int:
        """How many numbers its vectors have."""
        return int(str(self.head.get(f"{self.head.get('general.architecture')}.embedding_length", 384)))

    @property
    def pools(self) -> bool:
        """Whether a text has one vector: the command line says so, or the file does."""
        kind = str(self.head.get("general.architecture"))
        return (
            self.pooling not in {"", "none"}
            if self.pooling
            else "bert" in kind or bool(self.head.get(f"{kind}.pooling_type"))
        )

    def _embed(self, handler: Handler, body: Body) -> None:
        if not self.embeds:
            raise error(
                501,
                "This server does not support embeddings. Start it with `--embeddings`",
                "not_supported_error",
            )
        if not self.pools:
            said = "Pooling type 'none' is not OAI compatible. Please use a different pooling type"
            raise error(400, said, "invalid_request_error")
        texts = texts_of(body)
        if texts is None:
            raise error(400, '"input" or "content" must be provided', "invalid_request_error")
        self.trouble(handler)
        count = self._counted(texts)
        rows = vectors(self, texts, self.dimensions)
        places = indexes(self, len(rows))
        data = [
            {"embedding": row, "index": place, "object": "embedding"}
            for place, row in zip(places, rows, strict=True)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        handler.json(
            200, {"model": body.get("model") or self.model, "object": "list", "usage": usage, "data": data}
        )

    def _counted(self, texts: list[str]) -> int:
        """Count tokens; a text must fit one physical batch, and the context."""
        for text in texts:
            if (count := len(tokens(text)) + 2) > min(self.ubatch, self.slot):
                if count > self.ubatch:
                    raise error(
                        500,
                        f"input ({count} tokens) is too large to process. increase the physical batch size"
                        f" (current batch size: {self.ubatch})",
                        "server_error",
                    )
                text_ = (
                    f"input ({count} tokens) is larger than the max context size ({self.slot}"
                    " tokens). skipping"
                )
                raise error(400, text_, "exceed_context_size_error", n_prompt_tokens=count, n_ctx=self.slot)
        return sum(len(tokens(text)) + 2 for text in texts)

    def _rerank(self, handler: Handler, body: Body) -> None:
        if not self.reranks:
            raise error(
                501,
                "This server does not support reranking. Start it with `--reranking`",
                "not_supported_error",
            )
        if not isinstance(body.get("query"), str):
            raise error(400, '"query" must be provided', "invalid_request_error")
        tei = "texts" in body
        texts = texts_of(body, "texts" if tei else "documents")
        if not texts:
            raise error(400, '"documents" must be a non-empty string array', "invalid_request_error")
        self.trouble(handler)
        count = self._counted([f"{body['query']} {text}" for text in texts])
        ranked = spoilt(self, rank(body["query"], texts))[: int(body.get("top_n", len(texts)))]
        label = "score" if tei else "relevance_score"
        rows = [{"index": place, label: score} for place, score in ranked]
        if tei:
            handler.json(200, rows)
            return
        usage = {"prompt_tokens": count, "total_tokens": count}
        handler.json(
            200, {"model": body.get("model") or self.model, "object": "list", "usage": usage, "results": rows}
        )


def _base(given: Answer, model: str, kind: str) -> Body:
    return {
        "created": given.created,
        "model": model,
        "system_fingerprint": BUILD,
        "object": kind,
        "id": given.id,
    }


def _timings(given: Answer) -> Body:
    read, made = given.prompt_tokens, given.completion_tokens
    return {
        "timings": {
            "cache_n": 0,
            "prompt_n": read,
            "prompt_ms": 1.0 * read,
            "prompt_per_token_ms": 1.0,
            "prompt_per_second": 1000.0,
            "predicted_n": made,
            "predicted_ms": 10.0 * made,
            "predicted_per_token_ms": 10.0,
            "predicted_per_second": 100.0,
        }
    }


DIALECT = Dialect(
    whole=lambda given, model: {**_base(given, model, "chat.completion"), **_timings(given)},
    chunk=lambda given, model: _base(given, model, "chat.completion.chunk"),
    message=lambda text: {"role": "assistant", "content": text},
    choice={},
    usage=lambda given: {**given.usage, "prompt_tokens_details": {"cached_tokens": 0}},
)


def main() -> None:
    """Serve until told to stop."""
    given = parse(sys.argv[1:])
    LlamaCpp(given, Knobs.read(given, os.environ)).run()


if __name__ == "__main__":
    main()
