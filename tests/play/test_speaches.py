"""The play speaches, pinned against speaches-ai/speaches, src/speaches.

config.py, hf_utils.py, routers/{misc,models,stt}.py.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.effects.http import Httpx
from tasks.effects.transcribe import transcribe
from tests.conftest import ROOT
from tests.lab.play.starting import Playing
from tests.play.conftest import CARD, Start

pytestmark = pytest.mark.real
NAME = "Systran/faster-whisper-tiny"
SPEECH = ROOT / "profiles/probes/assets/speech-en.wav"
PLANNED = {"WHISPER__COMPUTE_TYPE": "float16", "WHISPER__INFERENCE_DEVICE": "cuda", "STT_MODEL_TTL": "-1"}


@pytest.fixture
def speaches(start: Start, hub: Path) -> Playing:
    """Return one with the settings of a plan."""
    return start("speaches", HF_HUB_CACHE=hub, **PLANNED)


def heard(playing: Playing, wav: bytes, model: str = NAME) -> str:
    """Return what is heard."""
    with Httpx() as http:
        return transcribe(http, f"{playing.url}/v1", model, wav, language="en", timeout_s=20).text


def test_health_and_list(speaches: Playing) -> None:
    """misc.py and models.py."""
    _, body = speaches.ask("GET", "/v1/models")
    row = body["data"][0]

    assert (200, {"message": "OK"}) == speaches.ask("GET", "/health")
    assert (NAME, "model", "Systran", "automatic-speech-recognition") == tuple(
        row[key] for key in ("id", "object", "owned_by", "task")
    )
    assert NAME == speaches.ask("GET", f"/v1/models/{NAME}")[1]["id"]
    assert 404 == speaches.ask("GET", "/v1/models/a/b")[0]


def test_loading_and_letting_go(speaches: Playing) -> None:
    """misc.py: 201, then 409; 200, then 404; and what is not there is a 404."""
    load = [speaches.ask("POST", f"/api/ps/{NAME}", {}) for _ in range(2)]
    there = speaches.ask("GET", "/api/ps")
    gone = [speaches.ask("DELETE", f"/api/ps/{NAME}") for _ in range(2)]

    assert [
        (201, {"message": f"Model '{NAME}' loaded."}),
        (409, {"message": f"Model '{NAME}' is already loaded."}),
    ] == load
    assert (200, {"models": [NAME]}) == there
    assert [
        (200, {"message": f"Model {NAME} unloaded."}),
        (404, {"message": f"Model {NAME} is not loaded."}),
    ] == gone
    assert 404 == speaches.ask("POST", "/api/ps/a/b", {})[0]


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda folder: (folder / "README.md").unlink(), 500),
        (lambda folder: (folder / "README.md").write_text("no card"), 404),
        (lambda folder: (folder / "README.md").write_text(CARD.replace("ctranslate2", "transformers")), 404),
        (lambda folder: (folder.parent / "def").mkdir(), 500),
        (lambda folder: (folder / "model.bin").unlink(), 500),
    ],
)
def test_what_it_needs_of_a_cache(
    start: Start, hub: Path, spoil: Callable[[Path], object], status: int
) -> None:
    """hf_utils.py: a card that names library and task, and of several revisions one that `main` points to."""
    spoil(next(hub.glob("models--*/snapshots/abc")))
    playing = start("speaches", HF_HUB_CACHE=hub)

    assert status == playing.ask("POST", f"/api/ps/{NAME}", {})[0]


def test_what_is_said(speaches: Playing) -> None:
    """stt.py: the recording, its first part, another one, silence; and what is no sound."""
    wav = SPEECH.read_bytes()
    other = wav[:44] + bytes(byte ^ 1 for byte in wav[44:])
    silence = wav[:44] + bytes(len(wav) - 44)

    assert "My brother has three green apples, and seven yellow flowers." == heard(speaches, wav)
    assert heard(speaches, other).startswith("The quick brown fox")
    assert "" == heard(speaches, silence)
    assert (200, {"models": [NAME]}) == speaches.ask("GET", "/api/ps")
    with pytest.raises(Exception, match="415"):
        heard(speaches, b"no sound at all")
    with pytest.raises(Exception, match="404"):
        heard(speaches, wav, "a/b")


def test_a_form_without_a_file(speaches: Playing) -> None:
    """FastAPI says which field it misses."""
    data = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'
    asked = urllib.request.Request(  # noqa: S310  # loopback
        f"{speaches.url}/v1/audio/transcriptions", data, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked)  # noqa: S310  # loopback

    assert 422 == caught.value.code
    assert b'"loc": ["body", "file"]' in caught.value.read()


def test_a_model_leaves_after_its_time(start: Start, hub: Path) -> None:
    """config.py, stt_model_ttl: 0 unloads at once, -1 never."""
    playing = start("speaches", HF_HUB_CACHE=hub, STT_MODEL_TTL="0")
    playing.ask("POST", f"/api/ps/{NAME}", {})

    assert (200, {"models": []}) == playing.ask("GET", "/api/ps")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WHISPER__COMPUTE_TYPE", "int4"),
        ("WHISPER__INFERENCE_DEVICE", "gpu"),
        ("STT_MODEL_TTL", "-2"),
        ("STT_MODEL_TTL", "5m"),
    ],
)
def test_settings_that_do_not_fit(start: Start, hub: Path, name: str, value: str) -> None:
    """config.py: pydantic ends the program with 1 and names the field."""
    playing = start("speaches", HF_HUB_CACHE=hub, waits=False, **{name: value})

    assert 1 == playing.ends()
    assert name.lower().replace("__", ".") in playing.log()


def test_a_card_that_is_not_there(start: Start, hub: Path) -> None:
    """CTranslate2 does not fall back when it was told "cuda"."""
    playing = start("speaches", HF_HUB_CACHE=hub, PLAY_GPU="none", **PLANNED)
    status, _ = playing.ask("POST", f"/api/ps/{NAME}", {})

    assert 500 == status
    assert "no CUDA-capable device" in playing.end()
