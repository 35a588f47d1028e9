"""A planned model comes the way that its pins say, and what was verified is not read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from tasks.contracts import OllamaTag, PlannedModel
from tasks.errors import SourceRefusedError
from tasks.pull import origins
from tasks.pull.ollama import blobs
from tasks.pull.ollama.names import blob_path
from tasks.pull.ollama.pull import Server
from tasks.pull.resolve.resolve import Places
from tasks.pull.sources import PullContext
from tests.lab.hub import HubLab, Repo
from tests.lab.ollama import OllamaLab
from tests.lab.ollama_registry import OllamaRegistry, Tag, digest_of, gguf, lab_tag
from tests.lab.weights import REPO, pinned, planned

pytestmark = pytest.mark.real


@pytest.fixture
def registry() -> Iterator[OllamaRegistry]:
    """Return a registry with one tag."""
    with OllamaRegistry({"library/lab:1": lab_tag(1)}) as lab:
        yield lab


def wanted(tag: Tag) -> PlannedModel:
    """Return a planned model that Ollama is to serve."""
    pin = OllamaTag(tag="lab:1", size_bytes=tag.size_bytes, digest=tag.digest)
    return replace(planned(pinned()), weights=None, ollama=pin, runtime="ollama")


def test_a_tag_comes_through_ollama_and_is_hashed_once(
    tmp_path: Path, registry: OllamaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pull of a tag trusts what the first one verified; a rehash reads, and finds rot."""
    read: list[str] = []
    hashed = blobs._sha256

    def counted(path: Path, stop: Event, subject: str) -> str:
        read.append(path.name)
        return hashed(path, stop, subject)

    monkeypatch.setattr(blobs, "_sha256", counted)
    with OllamaLab(tmp_path / "models", registry.base) as lab:
        server, places = Server(lab.url, tmp_path / "models"), Places(tmp_path / "store", None, registry.base)
        first = origins.pull(wanted(lab_tag(1)), places, server, PullContext())
        read.clear()
        second = origins.pull(wanted(lab_tag(1)), places, server, PullContext())
        assert read == []
        third = origins.pull(wanted(lab_tag(1)), places, server, PullContext(rehash=True))
        assert read != []
        path = blob_path(tmp_path / "models", digest_of(lab_tag(1).blobs[0]))
        path.write_bytes(b"X" + path.read_bytes()[1:])
        fourth = origins.pull(wanted(lab_tag(1)), places, server, PullContext())

    assert [one.change.kind for one in (first, second, third, fourth)] == [
        "create",
        "keep",
        "keep",
        "replace",
    ]
    assert (first.source, first.snapshot, second.source) == ("ollama", "lab:1", "")


def test_a_model_without_pins_has_no_way(tmp_path: Path) -> None:
    """What is neither pinned files nor a tag cannot be fetched, and says so."""
    bare = replace(planned(pinned()), weights=None)

    with pytest.raises(SourceRefusedError, match="lab has no pinned files, so nothing is fetched for it"):
        origins.pull(bare, Places(tmp_path, None, ""), Server("http://127.0.0.1:1"), PullContext())


def test_gguf_files_become_a_model_of_ollama(tmp_path: Path) -> None:
    """Files from a hub are fetched as any weights, made into a model once, and then kept."""
    files = {"model-q8_0.gguf": gguf(5, 1_500_000)}
    model = replace(planned(pinned(files)), runtime="ollama", quantisation="q8_0")
    with (
        HubLab({REPO: Repo(files)}) as hub,
        OllamaRegistry({}) as registry,
        OllamaLab(tmp_path / "models", registry.base) as lab,
    ):
        server, places = Server(lab.url), Places(tmp_path / "store", None, registry.base)
        first = origins.pull(model, places, server, PullContext(endpoint=hub.endpoint))
        second = origins.pull(model, places, server, PullContext(endpoint=hub.endpoint))

    assert (first.change.kind, second.change.kind) == ("create", "keep")
    assert first.snapshot == "lab:q8_0"
    assert hub.sent_bytes == len(files["model-q8_0.gguf"])
