"""Files of ours become a model of Ollama's, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from tasks.errors import (
    CatalogueError,
    DigestMismatchError,
    NoRoomError,
    SourceRefusedError,
    SourceUnavailableError,
    StoppedError,
)
from tasks.pull.ollama.create import GgufFile, create_from_gguf
from tasks.pull.ollama.names import blob_path
from tasks.pull.ollama.pull import PulledTag, Server
from tasks.pull.sources import PullContext
from tests.lab.ollama import OllamaLab
from tests.lab.ollama_registry import digest_of, gguf
from tests.lab.weights import Watcher

pytestmark = pytest.mark.real

SIZE_BYTES = 2_000_000


@dataclass
class Lab:
    """A server and the files that it gets."""

    ollama: OllamaLab
    files: tuple[GgufFile, ...]

    def create(self, name: str = "mine:1", *, ctx: PullContext | None = None) -> PulledTag:
        """Make the model, with the server's folder at hand."""
        server = Server(self.ollama.url, self.ollama.models)
        return create_from_gguf(name, self.files, server, ctx or PullContext(quiet_s=30.0))

    @property
    def uploads(self) -> int:
        """How many files were uploaded."""
        return self.ollama.requests["POST /api/blobs"]

    def listed(self) -> dict[str, str]:
        """Return what the server lists."""
        return {str(row["name"]): str(row["digest"]) for row in self.ollama.store.listed()}


def saved(path: Path, data: bytes) -> tuple[Path, str]:
    """Write a file and return where it lies, and its digest."""
    path.write_bytes(data)
    return path, digest_of(data)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a server without a model, and a model in two files."""
    weights = saved(tmp_path / "weights.gguf", gguf(5, SIZE_BYTES))
    projector = saved(tmp_path / "projector.gguf", gguf(6, 1000))
    with OllamaLab(tmp_path / "models", "http://127.0.0.1:9/v2/") as ollama:
        yield Lab(ollama, (("model", *weights), ("projector", *projector)))


def test_fresh(lab: Lab) -> None:
    """Both files are uploaded once, and the model is listed."""
    watcher = Watcher()

    made = lab.create(ctx=PullContext(sink=watcher))

    assert lab.listed() == {"mine:1": made.digest}
    assert (made.tag, made.fetched_bytes, lab.uploads) == ("mine:1", SIZE_BYTES + 1000, 2)
    assert made.change.kind == "create"
    assert made.change.reason == f"made of 2 files, 1.9 MiB of them uploaded, at {made.digest[:12]}"
    assert any(event.total_bytes == SIZE_BYTES for event in watcher.events)


def test_again(lab: Lab) -> None:
    """A model that is there and made of these files is left alone, though Ollama wrote its weights anew."""
    first = lab.create()
    served = {path.name for path in (lab.ollama.models / "blobs").iterdir()}
    for _, _, sha256 in lab.files:
        blob_path(lab.ollama.models, sha256).unlink()  # Ollama prunes what no manifest names

    again = lab.create()

    assert (again.change.kind, again.digest, again.fetched_bytes) == ("keep", first.digest, 0)
    assert (lab.uploads, lab.ollama.requests["POST /api/create"]) == (2, 1)
    assert len(served) > len(lab.files)


def test_files_that_are_there(lab: Lab) -> None:
    """A blob that the server has is not uploaded again."""
    lab.create()

    made = lab.create("second:1")

    assert (made.change.kind, made.fetched_bytes, lab.uploads) == ("create", 0, 2)
    assert set(lab.listed()) == {"mine:1", "second:1"}


def test_other_files(lab: Lab, tmp_path: Path) -> None:
    """A model of the same name that is made of other files is replaced."""
    lab.create()
    lab.files = (("model", *saved(tmp_path / "new.gguf", gguf(7, 5000))),)

    made = lab.create()

    assert (made.change.kind, made.fetched_bytes) == ("replace", 5000)
    assert lab.listed() == {"mine:1": made.digest}


def test_damaged_upload_is_replaced(lab: Lab) -> None:
    """A damaged blob of the same name is not taken for the file."""
    blob_path(lab.ollama.models, lab.files[0][2]).write_bytes(bytes(SIZE_BYTES))

    made = lab.create()

    assert made.fetched_bytes == SIZE_BYTES + 1000
    assert "has the sha256" in made.change.reason


def test_damaged_model_is_made_again(lab: Lab) -> None:
    """What Ollama made is checked as well."""
    lab.create()
    manifest = json.loads(next((lab.ollama.models / "manifests").glob("*/*/mine/1")).read_text())
    path = blob_path(lab.ollama.models, manifest["layers"][0]["digest"].removeprefix("sha256:"))
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))

    made = lab.create()

    assert made.change.kind == "replace"
    assert path.read_bytes() == whole


def test_roles(lab: Lab, tmp_path: Path) -> None:
    """An adapter goes its own way."""
    lab.files = (*lab.files, ("adapter", *saved(tmp_path / "lora.gguf", gguf(8, 3000))))

    lab.create()

    manifest = json.loads(next((lab.ollama.models / "manifests").glob("*/*/mine/1")).read_text())
    kinds = [entry["mediaType"].rpartition(".")[2] for entry in manifest["layers"]]
    assert kinds == ["model", "model", "adapter", "license"]


def test_wrong_digest(lab: Lab) -> None:
    """A file that is not what it should be never becomes a model."""
    role, path, _ = lab.files[0]
    lab.files = ((role, path, "0" * 64),)

    with pytest.raises(DigestMismatchError, match=r"weights\.gguf does not have the sha256 000000000000"):
        lab.create()

    assert lab.listed() == {}


def test_no_gguf(lab: Lab, tmp_path: Path) -> None:
    """A file that Ollama does not take is a sentence."""
    lab.files = (("model", *saved(tmp_path / "x.gguf", b"no such thing")),)

    with pytest.raises(
        SourceRefusedError, match=r"cannot make mine:1 of these files .*; check that they are GGUF"
    ):
        lab.create()

    assert lab.listed() == {}


def test_unlisted(lab: Lab) -> None:
    """A model that Ollama does not list is none."""
    lab.ollama.pulls.append({})
    lab.ollama.fail("unlisted")

    with pytest.raises(SourceUnavailableError, match="says that it made mine:1 and does not list it so"):
        lab.create()

    assert lab.listed() == {}


@pytest.mark.parametrize("index", range(4))
def test_odd_files(lab: Lab, tmp_path: Path, index: int) -> None:
    """What cannot be a model is refused before anything is asked."""
    _, path, sha256 = lab.files[0]
    odd: tuple[tuple[GgufFile, ...], ...] = (
        (),
        (("projector", path, sha256),),
        (("model", path, "sha256:1"),),
        (("model", tmp_path / "none", sha256),),
    )
    lab.files = odd[index]

    with pytest.raises(CatalogueError, match="mine:1 cannot be made: "):
        lab.create()

    assert lab.ollama.requests.total() == 0


def test_room(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama writes the weights twice more while it makes a model, so that much is asked for."""
    usage = shutil.disk_usage(lab.ollama.models)._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(NoRoomError, match=r"needs 5\.7 MiB and has 4\.8 MiB free"):
        lab.create()

    assert lab.uploads == 0


def test_stop(lab: Lab) -> None:
    """A stop is heard during an upload."""
    stop = Event()

    with pytest.raises(StoppedError, match="stopped while pulling mine:1"):
        lab.create(ctx=PullContext(stop=stop, sink=lambda _event: stop.set()))

    assert lab.listed() == {}
