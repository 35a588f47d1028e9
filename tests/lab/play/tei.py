"""TEI (huggingface/text-embeddings-inference, router/src: main.rs, lib.rs, http/{server,types}.rs).

It loads and warms up before it listens: until then connections are refused. It has no list of models: /info
says which one it serves. `python3 tei.py --model-id DIR --port 8080 ...`; every option is a variable too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

if not __package__:  # run as a file: its folder is the package
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name  # what relative imports start from

from .brain import first, tokens
from .command import die, flags, say
from .common import Body, Handler, Play
from .faults import Knobs, Refused
from .meaning import rank, sigmoid
from .openai_wire import indexes, texts_of, vectors
from .ranking import spoilt

VERSION = "1.9.0"
_OPTIONS = (
    "--model-id --revision --tokenization-workers --dtype --served-model-name --pooling"
    " --max-concurrent-requests --max-batch-tokens --max-batch-requests --max-client-batch-size"
    " --auto-truncate --default-prompt-name --default-prompt --dense-path --hf-token --hostname --port"
    " --uds-path --huggingface-hub-cache --payload-limit --api-key --prometheus-port --cors-allow-origin"
    " --otlp-endpoint --otlp-service-name"
)
OPTIONS = _OPTIONS.split()
SWITCHES = ("--json-output", "--disable-spans")
NUMBERS = ("--max-concurrent-requests", "--max-batch-tokens", "--max-client-batch-size", "--port")
DTYPES = ("float16", "float32", "bfloat16")
STATUS = {
    "unhealthy": 503,
    "backend": 424,
    "tokenizer": 422,
    "validation": 422,
    "empty": 400,
}


def refuse(why: str, flag: str) -> NoReturn:
    """End as clap does."""
    usage = "For more information, try '--help'."
    if why == "value":
        die(f"error: a value is required for '{flag} <VALUE>' but none was supplied\n\n{usage}", 2)
    die(
        f"error: unexpected argument '{flag}' found\n\n"
        f"Usage: text-embeddings-router --model-id <MODEL_ID>\n\n{usage}",
        2,
    )


def bad(flag: str, value: str, why: str) -> NoReturn:
    """End as clap does for a value that does not fit."""
    die(f"error: invalid value '{value}' for '{flag} <VALUE>'{why}\n\nFor more information, try '--help'.", 2)


class Tei(Play):
    """One embedding model, or one reranker."""

    overloaded = (429, {"error": "Model is overloaded", "error_type": "overloaded"})
    broken = (424, {"error": "inference error: CUDA driver error", "error_type": "backend"})

    def __init__(self, given: dict[str, str], knobs: Knobs) -> None:
        super().__init__(knobs, given.get("--hostname", "0.0.0.0"), int(given.get("--port", 3000)))
        self.given = given
        self.folder = Path(given.get("--model-id", "BAAI/bge-large-en-v1.5"))
        self.served = given.get("--served-model-name", "") or str(self.folder)
        self.truncates = given.get("--auto-truncate", "true") == "true"
        self.most = int(given.get("--max-client-batch-size", 32))
        self.config: Body = {}
        self.routes |= {
            "GET /health": self._health,
            "GET /": self._health,
            "GET /ping": self._health,
            "GET /info": self._info,
            "GET /metrics": lambda handler, _: handler.send(200, b"te_request_count 0\n", "text/plain"),
            "POST /embed": self._embed,
            "POST /v1/embeddings": self._openai,
            "POST /embeddings": self._openai,
            "POST /rerank": self._rerank,
        }

    # --- loading -----------------------------------------------------------------------------------

    def load(self) -> None:
        """Log what the real one logs, and end where it ends (router/src/lib.rs)."""
        try:
            self.config = json.loads((self.folder / "config.json").read_text())
        except OSError as error:
            self._fail("`config.json` not found", error.strerror or "")
        except ValueError as error:
            self._fail("Failed to parse `config.json`", str(error))
        if not (self.folder / "tokenizer.json").is_file():
            self._fail(
                "tokenizer.json not found. text-embeddings-inference only supports fast tokenizers", ""
            )
        if not any(self.folder.rglob("*.safetensors")) and not any(self.folder.rglob("*.onnx")):
            self._fail("Could not create backend", "Could not start backend: No such file or directory")
        if self.faults.has("cuda-oom"):
            self._fail(
                "Model backend is not healthy", 'DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")'
            )
        self.limit = int(str(self.config.get("max_position_embeddings", 512)))
        small = self.faults.take("small-context")
        self.limit = int(small) if small else self.limit
        names = self.config.get("architectures") or [""]
        self.reranks = str(names[0]).endswith("ForSequenceClassification")
        device = "Cpu" if not self.knobs.gpu or self.faults.has("cpu") else "Cuda(CudaDevice(DeviceId(1)))"
        say(
            f"INFO text_embeddings_router: Maximum number of tokens per request: {self.limit}",
            "INFO text_embeddings_router: Starting model backend",
            f"INFO text_embeddings_backend_candle: Starting Bert model on {device}",
            "INFO text_embeddings_router: Warming up model",
            "INFO text_embeddings_router::http::server: Starting HTTP server:"
            f" {self.given.get('--hostname', '0.0.0.0')}",
            "INFO text_embeddings_router::http::server: Ready",
        )

    def _fail(self, what: str, cause: str) -> NoReturn:
        die(f"Error: {what}" + (f"\n\nCaused by:\n    {cause}" if cause else ""), 1)

    def cannot_listen(self, error: OSError) -> NoReturn:
        """End as it does when its port is taken."""
        die(f"Error: {error.strerror} (os error {error.errno})", 1)

    # --- answering ---------------------------------------------------------------------------------

    def missing(self, _method: str, _path: str) -> Refused:
        """Say nothing, as axum does for a path that is not there."""
        return Refused(404, "")

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Say that a body is no JSON."""
        return Refused(400, f"Failed to parse the request body as JSON: {problem}")

    def _health(self, handler: Handler, _body: Body) -> None:
        handler.send(200, b"", "text/plain")

    def _info(self, handler: Handler, _body: Body) -> None:
        kind = {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
        handler.json(
            200,
            {
                "model_id": "another-model" if self.faults.has("unlisted") else str(self.folder),
                "model_sha": None,
                "model_dtype": self.given.get("--dtype", "float16" if self.knobs.gpu else "float32"),
                "served_model_name": self.served,
                "model_type": kind if self.reranks else {"embedding": {"pooling": "mean"}},
                "max_concurrent_requests": int(self.given.get("--max-concurrent-requests", 512)),
                "max_input_length": self.limit,
                "max_batch_tokens": int(self.given.get("--max-batch-tokens", 16384)),
                "max_batch_requests": None,
                "max_client_batch_size": self.most,
                "auto_truncate": self.truncates,
                "tokenization_workers": 2,
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            },
        )

    def _vectors(self, handler: Handler, texts: list[str] | None) -> tuple[list[list[float]], int]:
        if self.reranks:
            raise problem("Model is not an embedding model", "backend")
        self._checked(texts, "`inputs` cannot be empty")
        assert texts is not None
        self.trouble(handler)
        kept = [self._cut(text) for text in texts]
        rows = vectors(self, kept, int(str(self.config.get("hidden_size", 384))))
        return rows, sum(len(tokens(text)) + 2 for text in kept)

    def _checked(self, texts: list[str] | None, empty: str) -> None:
        if texts is None:
            raise Refused(422, "Failed to deserialize the JSON body into the target type: input")
        if not texts:
            raise problem(empty, "empty")
        if len(texts) > self.most:
            raise problem(f"batch size {len(texts)} > maximum allowed batch size {self.most}", "validation")

    def _cut(self, text: str) -> str:
        count = len(tokens(text)) + 2
        if count <= self.limit:
            return text
        if not self.truncates:
            raise problem(f"`inputs` must have less than {self.limit} tokens. Given: {count}", "validation")
        return first(text, self.limit - 2)

    def _embed(self, handler: Handler, body: Body) -> None:
        rows, _ = self._vectors(handler, texts_of(body, "inputs"))
        handler.json(200, rows)

    def _openai(self, handler: Handler, body: Body) -> None:
        try:
            rows, count = self._vectors(handler, texts_of(body))
        except Refused as refused:
            if isinstance(refused.body, dict):
                said = {
                    "message": refused.body["error"],
                    "code": refused.status,
                    "type": refused.body["error_type"],
                }
                raise Refused(refused.status, said) from None
            raise
        places = indexes(self, len(rows))
        data = [
            {"object": "embedding", "embedding": row, "index": at}
            for at, row in zip(places, rows, strict=True)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        handler.json(200, {"object": "list", "data": data, "model": self.served, "usage": usage})

    def _rerank(self, handler: Handler, body: Body) -> None:
        if not self.reranks:
            raise problem("model is not a re-ranker model", "backend")
        texts = texts_of(body, "texts")
        self._checked(texts, "`texts` cannot be empty")
        assert texts is not None
        self.trouble(handler)
        query = str(body.get("query", ""))
        for text in texts:
            self._cut(f"{query} {text}")
        raw = bool(body.get("raw_scores"))
        ranked = spoilt(self, [(at, one if raw else sigmoid(one)) for at, one in rank(query, texts)])
        told = {"text": texts} if body.get("return_text") else {}
        handler.json(
            200,
            [
                {"index": at, **{key: all_[at] for key, all_ in told.items()}, "score": one}
                for at, one in ranked
            ],
        )


def problem(text: str, kind: str) -> Refused:
    """Return an error as `ErrorResponse` is written (router/src/lib.rs)."""
    return Refused(STATUS[kind], {"error": text, "error_type": kind})


def parse(arguments: list[str], environment: dict[str, str]) -> dict[str, str]:
    """Read command line and variables, or end as clap does."""
    words = list(arguments)
    if "--auto-truncate" in words:  # its value may be left out
        at = words.index("--auto-truncate")
        if at + 1 == len(words) or words[at + 1].startswith("-"):
            words.insert(at + 1, "true")
    given, rest = flags(
        words, {**dict.fromkeys(OPTIONS, True), **dict.fromkeys(SWITCHES, False), "-p": True}, refuse
    )
    if rest:
        refuse("unknown", rest[0])
    for option in OPTIONS:
        variable = option.removeprefix("--").replace("-", "_").upper()
        if option not in given and variable in environment:
            given[option] = environment[variable]
    for name in NUMBERS:
        if name in given and not given[name].isdigit():
            bad(name, given[name], ": invalid digit found in string")
    if (dtype := given.get("--dtype", DTYPES[0])) not in DTYPES:
        bad("--dtype", dtype, f"\n  [possible values: {', '.join(DTYPES)}]")
    if (switch := given.get("--auto-truncate", "true")) not in {"true", "false"}:
        bad("--auto-truncate", switch, "\n  [possible values: true, false]")
    return given


def main() -> None:
    """Serve until told to stop."""
    given = parse(sys.argv[1:], dict(os.environ))
    Tei(given, Knobs.read(given, os.environ)).run()


if __name__ == "__main__":
    main()
