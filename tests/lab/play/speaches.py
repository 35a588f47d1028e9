"""speaches (speaches-ai/speaches, src/speaches: config.py, hf_utils.py, routers/{misc,models,stt}.py).

All settings are variables, and what is no setting is ignored. It lists what a Hugging Face cache holds, and
of that only what has a model card that names the library and the task. `UVICORN_PORT=8000 HF_HUB_CACHE=/hub
python3 speaches.py`
"""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import io
import os
import re
import struct
import sys
import time
import wave
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

if not __package__:  # run as a file: its folder is the package
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = Path(__file__).resolve().parent.name  # what relative imports start from

from .command import die, flags, say
from .common import Body, Handler, Play
from .faults import Knobs, Refused

LITERALS = {
    "WHISPER__INFERENCE_DEVICE": ("cpu", "cuda", "auto"),
    "WHISPER__COMPUTE_TYPE": (
        "int8",
        "int8_float16",
        "int8_bfloat16",
        "int8_float32",
        "int16",
        "float16",
        "bfloat16",
        "float32",
        "default",
    ),
}
WHOLE = {
    "STT_MODEL_TTL": -1,
    "TTS_MODEL_TTL": -1,
    "VAD_MODEL_TTL": -1,
    "WHISPER__CPU_THREADS": -(10**9),
    "UVICORN_PORT": 0,
}
TASK = "automatic-speech-recognition"
FORMATS = ("text", "json", "verbose_json", "srt", "vtt")
NO_CARD = (
    "The model repository does not contain a valid model card. This is likely due to the"
    " breaking change introduce"
    " v0.8.0 release. You should try to delete the model and re-download it using"
    " `DELETE /v1/models/{model_id}` and"
    " then `POST /v1/models`."
)
KNOWN = "84b1e41f2b19fd02a3fea18772804ec31e97b71e6eb0c7b39ef9c25ac039dcc5"
"""The sha256 of the first second of profiles/probes/assets/speech-en.wav, without its header."""
SPOKEN = (
    (2.8, "My brother has three green apples."),
    (1e9, "My brother has three green apples, and seven yellow flowers."),
)
"""What is said in it, up to which second."""
SILENT = 300
"""About a hundredth of full scale."""
STRANGE = "The quick brown fox jumps over the lazy dog."
"""What is heard in any other recording."""


class Speaches(Play):
    """All models of a cache."""

    broken = (500, "Internal Server Error")
    overloaded = (503, "Service Unavailable")

    def __init__(self, environment: dict[str, str], knobs: Knobs) -> None:
        super().__init__(
            knobs, environment.get("UVICORN_HOST", "0.0.0.0"), int(environment.get("UVICORN_PORT", 8000))
        )
        home = Path(environment.get("HF_HOME") or Path(environment.get("HOME", "/")) / ".cache/huggingface")
        self.cache = Path(environment.get("HF_HUB_CACHE") or home / "hub")
        self.ttl_s = int(environment.get("STT_MODEL_TTL", 300))
        self.device = environment.get("WHISPER__INFERENCE_DEVICE", "auto")
        self.compute = environment.get("WHISPER__COMPUTE_TYPE", "default")
        self.loaded: dict[str, float] = {}
        self.routes |= {
            "GET /health": lambda handler, _: handler.json(200, {"message": "OK"}),
            "GET /v1/models": self._models,
            "GET /v1/models/*": self._model,
            "GET /api/ps": self._ps,
            "POST /api/ps/*": self._load_model,
            "DELETE /api/ps/*": self._unload,
            "POST /v1/audio/transcriptions": self._transcribe,
        }

    def load(self) -> None:
        """Log what the real one logs; models come later."""
        say(
            "INFO:     Started server process [1]",
            "INFO:     Application startup complete.",
            f"INFO:     Uvicorn running on http://{self.host} (Press CTRL+C to quit)",
        )

    def cannot_listen(self, error: OSError) -> NoReturn:
        """End as uvicorn does when its port is taken."""
        die(
            f"ERROR:    [Errno {error.errno}] error while attempting to bind on address:"
            " address already in use",
            1,
        )

    # --- the cache ---------------------------------------------------------------------------------

    def known(self) -> dict[str, Path]:
        """Return the models that it lists: those with a card that fits."""
        found = {}
        for repo in sorted(self.cache.glob("models--*")):
            snapshot = _snapshot(repo)
            card = snapshot / "README.md" if snapshot else None
            if snapshot and card and card.is_file() and _fits(card.read_text()):
                found[repo.name.removeprefix("models--").replace("--", "/")] = snapshot
        return found

    def _installed(self, model: str) -> Path:
        repo = self.cache / f"models--{model.replace('/', '--')}"
        if not repo.is_dir():
            detail = (
                f"Model '{model}' is not installed locally. You can download the model using"
                " `POST /v1/models`"
            )
            raise Refused(404, {"detail": detail})
        snapshot = _snapshot(repo)
        if snapshot is None or not (snapshot / "README.md").is_file():
            raise Refused(500, {"detail": NO_CARD})
        if model not in self.known():
            detail = (
                f"Model '{model}' is not supported. If you think this is a mistake, please open an issue."
            )
            raise Refused(404, {"detail": detail})
        return snapshot

    def _bring(self, model: str) -> None:
        """Load a model, as faster-whisper does: from a file that must be there."""
        snapshot = self._installed(model)
        if model in self.loaded:
            self.loaded[model] = time.monotonic()
            return
        if not (snapshot / "model.bin").is_file():
            say(f"RuntimeError: Unable to open file 'model.bin' in model '{snapshot}'")
            raise Refused(*self.broken)
        if self.device == "cuda" and (not self.knobs.gpu or self.faults.has("cpu")):
            say("RuntimeError: CUDA failed with error no CUDA-capable device is detected")
            raise Refused(*self.broken)
        if self.faults.has("cuda-oom"):
            say("RuntimeError: CUDA failed with error out of memory")
            raise Refused(*self.broken)
        say(
            f"INFO speaches.executors: Model {model} loaded (device {self.device},"
            f" compute type {self.compute})"
        )
        self.loaded[model] = time.monotonic()

    def _expire(self) -> None:
        now = time.monotonic()
        for model, used in list(self.loaded.items()):
            if 0 <= self.ttl_s <= now - used:
                del self.loaded[model]

    # --- answering ---------------------------------------------------------------------------------

    def missing(self, _method: str, _path: str) -> Refused:
        """Say that there is no such path (FastAPI)."""
        return Refused(404, {"detail": "Not Found"})

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Say that a body is no JSON."""
        return Refused(422, {"detail": [{"type": "json_invalid", "msg": f"JSON decode error: {problem}"}]})

    def _rows(self) -> list[Body]:
        names = ["another/model"] if self.faults.has("unlisted") else list(self.known())
        return [
            {
                "id": name,
                "created": int(self.started_s),
                "object": "model",
                "owned_by": name.split("/")[0],
                "language": ["en"],
                "task": TASK,
            }
            for name in names
        ]

    def _models(self, handler: Handler, _body: Body) -> None:
        handler.json(200, {"data": self._rows(), "object": "list"})

    def _model(self, handler: Handler, _body: Body) -> None:
        name = named(handler, "/v1/models/")
        row = next((row for row in self._rows() if row["id"] == name), None)
        if row is None:
            raise Refused(404, {"detail": f"Model '{name}' not found"})
        handler.json(200, row)

    def _ps(self, handler: Handler, _body: Body) -> None:
        self._expire()
        handler.json(200, {"models": list(self.loaded)})

    def _load_model(self, handler: Handler, _body: Body) -> None:
        self._expire()
        name = named(handler, "/api/ps/")
        if name in self.loaded:
            raise Refused(409, {"message": f"Model '{name}' is already loaded."})
        self._bring(name)
        handler.json(201, {"message": f"Model '{name}' loaded."})

    def _unload(self, handler: Handler, _body: Body) -> None:
        self._expire()
        name = named(handler, "/api/ps/")
        if self.loaded.pop(name, None) is None:
            raise Refused(404, {"message": f"Model {name} is not loaded."})
        handler.json(200, {"message": f"Model {name} unloaded."})

    def _transcribe(self, handler: Handler, _body: Body) -> None:
        form = form_of(handler)
        absent = [name for name in ("file", "model") if name not in form]
        if absent:
            rows = [
                {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": None}
                for name in absent
            ]
            raise Refused(422, {"detail": rows})
        kind = form.get("response_format", b"json").decode()
        if kind not in FORMATS:
            said = "Input should be 'text', 'json', 'verbose_json', 'srt' or 'vtt'"
            raise Refused(
                422, {"detail": [{"type": "literal_error", "loc": ["body", "response_format"], "msg": said}]}
            )
        self.trouble(handler)
        self._expire()
        self._bring(form["model"].decode())
        seconds, right = heard(form["file"])
        text = self.said(self.knobs.transcript or right if right else "")
        if form.get("stream", b"").lower() in {b"true", b"1"}:
            handler.events(
                ({"type": "transcript.text.delta", "delta": piece} for piece in self.pieces(text)), done=False
            )
        elif kind in {"json", "verbose_json"}:
            handler.json(200, {"text": text} if kind == "json" else verbose(text, seconds))
        else:
            handler.send(200, captions(kind, text, seconds).encode(), "text/plain")


def named(handler: Handler, before: str) -> str:
    """Return the model that a path names."""
    return unquote(urlsplit(handler.path).path).removeprefix(before)


def _snapshot(repo: Path) -> Path | None:
    """Return the one revision, or of several that which `main` points to."""
    revisions = [one for one in repo.glob("snapshots/*") if one.is_dir()]
    if len(revisions) == 1:
        return revisions[0]
    ref = repo / "refs/main"
    main = repo / "snapshots" / ref.read_text().strip() if ref.is_file() else None
    return main if main and main.is_dir() else None


def _fits(card: str) -> bool:
    head = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    text = head[1] if head else ""
    return "ctranslate2" in text and TASK in text


def form_of(handler: Handler) -> dict[str, bytes]:
    """Return the fields of a form."""
    kind = handler.headers.get("Content-Type", "")
    if "multipart/form-data" not in kind:
        return {}
    raw = b"Content-Type: " + kind.encode() + b"\r\n\r\n" + handler.raw
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(raw)
    found: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        found[str(name)] = content if isinstance(content, bytes) else b""
    return found


def heard(data: bytes) -> tuple[float, str]:
    """Return how many seconds a recording has, and what is said in it; what is no sound is refused."""
    if data[:3] in {b"ID3", b"fLa", b"Ogg"} or data[:2] == b"\xff\xfb":
        return 1.0, STRANGE
    try:
        with wave.open(io.BytesIO(data)) as recording:
            per_s, count = recording.getframerate(), recording.getnframes()
            frames = recording.readframes(count)
    except (wave.Error, EOFError):
        detail = "Failed to decode audio. The provided file is likely not an audio file."
        raise Refused(415, {"detail": detail}) from None
    loudest = max(
        (abs(one) for (one,) in struct.iter_unpack("<h", frames[: len(frames) // 2 * 2])), default=0
    )
    if loudest < SILENT:
        return count / per_s, ""
    first = hashlib.sha256(frames[: 2 * per_s]).hexdigest()
    known = next(text for until, text in SPOKEN if count / per_s <= until)
    return count / per_s, known if first == KNOWN else STRANGE


def verbose(text: str, seconds: float) -> Body:
    """Return the answer with segments."""
    segment = {
        "id": 1,
        "seek": 0,
        "start": 0.0,
        "end": seconds,
        "text": f" {text}",
        "tokens": [50364],
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }
    return {
        "task": "transcribe",
        "language": "en",
        "duration": seconds,
        "text": text,
        "segments": [segment] if text else [],
        "words": None,
    }


def captions(kind: str, text: str, seconds: float) -> str:
    """Return the answer as a text, with times or without."""
    if kind == "text":
        return text
    end = f"00:00:{seconds:06.3f}"
    if kind == "vtt":
        return f"WEBVTT\n\n00:00:00.000 --> {end}\n{text}\n\n"
    return f"1\n00:00:00,000 --> {end.replace('.', ',')}\n{text}\n\n"


def check(environment: dict[str, str]) -> None:
    """End as pydantic does where a setting does not fit."""
    wrong = []
    for name, choices in LITERALS.items():
        value = environment.get(name)
        if value is not None and value not in choices:
            listed = " or ".join([", ".join(f"'{one}'" for one in choices[:-1]), f"'{choices[-1]}'"])
            wrong.append(
                f"{name.lower().replace('__', '.')}\n  Input should be {listed} [type=literal_error]"
            )
    for name, least in WHOLE.items():
        value = environment.get(name)
        if value is not None and not re.fullmatch(r"-?\d+", value):
            wrong.append(
                f"{name.lower()}\n  Input should be a valid integer, unable to parse string as an integer"
            )
        elif value is not None and int(value) < least:
            wrong.append(
                f"{name.lower()}\n  Input should be greater than or equal to {least}"
                " [type=greater_than_equal]"
            )
    if wrong:
        count = f"{len(wrong)} validation error{'s' * (len(wrong) > 1)} for Config"
        die("\n".join([f"pydantic_core._pydantic_core.ValidationError: {count}", *wrong]), 1)


def refuse(_why: str, flag: str) -> NoReturn:
    """End as uvicorn's command line does (click)."""
    die(f"Usage: uvicorn [OPTIONS] APP\nTry 'uvicorn --help' for help.\n\nError: No such option: {flag}", 2)


def main() -> None:
    """Serve until told to stop."""
    known = {"--factory": False, "--host": True, "--port": True}
    given, _ = flags(sys.argv[1:], known, refuse)
    environment = {
        **os.environ,
        **{f"UVICORN_{name[2:].upper()}": given[name] for name in ("--host", "--port") if name in given},
    }
    check(environment)
    Speaches(environment, Knobs.read(given, os.environ)).run()


if __name__ == "__main__":
    main()
