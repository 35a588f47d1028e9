"""A pinned tag is brought to an Ollama server, or left alone when it is there and whole."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest

from tasks.contracts import OllamaTag
from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    PullError,
    SourceRefusedError,
    SourceUnavailableError,
)
from tasks.pull.ollama.api import Api
from tasks.pull.ollama.names import blob_path, parse_name
from tasks.pull.ollama.pull import PulledTag, Server, pull_tag
from tasks.pull.ollama.registry import origin
from tasks.pull.ollama.transfer import Retry
from tasks.pull.sources import PullContext
from tests.lab.ollama import OllamaLab
from tests.lab.ollama_registry import BIG_BYTES, OllamaRegistry, Tag, What, digest_of, lab_tag
from tests.lab.weights import Watcher

pytestmark = pytest.mark.real

FIRST, SECOND = lab_tag(1), lab_tag(2)
BIG = digest_of(FIRST.blobs[0])
QUICK = Retry(lost=4, waited=2, first_s=0.01, most_s=0.05)
GONE = "http://127.0.0.1:9/v2/"


@pytest.fixture
def registry() -> Iterator[OllamaRegistry]:
    """Return a registry that holds the lab's model."""
    with OllamaRegistry({"library/lab:1": FIRST, "user/repo:Q4_0": SECOND}) as lab:
        yield lab


@pytest.fixture
def ollama(tmp_path: Path, registry: OllamaRegistry) -> Iterator[OllamaLab]:
    """Return an Ollama server without a model."""
    with OllamaLab(tmp_path / "models", registry.base) as lab:
        yield lab


def pin(tag: Tag = FIRST, name: str = "lab:1") -> OllamaTag:
    """Return the catalogue's entry of a tag."""
    return OllamaTag(tag=name, size_bytes=tag.size_bytes, digest=tag.digest)


def bring(
    ollama: OllamaLab, registry: str, tag: OllamaTag | None = None, ctx: PullContext | None = None
) -> PulledTag:
    """Pull with the folder of the server at hand."""
    server = Server(ollama.url, ollama.models, QUICK)
    return pull_tag(tag or pin(), "lab", server, registry, ctx or PullContext(quiet_s=30.0))


def asking(ollama: OllamaLab) -> Api:
    """Return the requests of the server's API."""
    return Api(f"{ollama.url}/", "lab:1", Event(), quiet_s=5.0)


def listed(ollama: OllamaLab) -> dict[str, str]:
    """Return what the server lists."""
    return {str(row["name"]): str(row["digest"]) for row in ollama.store.listed()}


def big_blob(ollama: OllamaLab) -> Path:
    """Return the path of the largest blob."""
    return blob_path(ollama.models, BIG)


# --- bringing --------------------------------------------------------------------------------


def test_fresh(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Every byte crosses once, and the tag has its own name though another registry gave it."""
    watcher = Watcher()

    pulled = bring(ollama, registry.base, ctx=PullContext(sink=watcher))

    assert listed(ollama) == {"lab:1": FIRST.digest}
    assert big_blob(ollama).read_bytes() == FIRST.blobs[0]
    assert (pulled.tag, pulled.digest, pulled.repaired) == ("lab:1", FIRST.digest, ())
    assert (pulled.change.resource, pulled.change.kind) == ("weights lab", "create")
    assert pulled.change.reason == f"Ollama fetched 2.9 MiB and has it at {FIRST.digest[:12]}"
    assert pulled.fetched_bytes == registry.sent_bytes == FIRST.size_bytes
    assert ollama.pulls == [{"model": f"{registry.host}/library/lab:1", "insecure": True, "stream": True}]
    assert registry.accepts == {"application/vnd.docker.distribution.manifest.v2+json"}
    assert watcher.events[-1].message == pulled.change.reason
    assert {(event.stage, event.subject) for event in watcher.events} == {("pull", "lab")}


def test_progress(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Progress is counted over the whole manifest, only grows, and is told at most four times a second."""
    registry.fail("cdn", "slow")
    watcher = Watcher()
    begun = monotonic()

    bring(ollama, registry.base, ctx=PullContext(sink=watcher))

    counted = [event for event in watcher.events if event.total_bytes]
    done = [event.done_bytes for event in counted]
    assert {event.total_bytes for event in counted} == {FIRST.size_bytes}
    assert any(0 < count < FIRST.size_bytes for count in done)
    assert done == sorted(done)
    assert len(counted) <= (monotonic() - begun) * 4 + 1


def test_kept(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A tag that is there and whole is left alone, and no network is needed for that."""
    bring(ollama, registry.base)
    registry.requests.clear()

    kept = bring(ollama, GONE)

    assert (kept.change.kind, kept.fetched_bytes) == ("keep", 0)
    assert kept.change.reason == f"Ollama has lab:1 at {FIRST.digest[:12]}, every blob has its digest"
    assert registry.requests.total() == 0
    assert len(ollama.pulls) == 1


def test_kept_without_a_folder(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Where the folder cannot be read, the record says that nothing was hashed."""
    bring(ollama, registry.base)

    kept = pull_tag(pin(), "lab", Server(ollama.url), GONE, PullContext())

    assert kept.change.kind == "keep"
    assert "its blobs cannot be read here and were not hashed" in kept.change.reason


def test_without_a_folder(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A pull needs no folder; what comes is counted, when it takes long enough to be told of."""
    registry.fail("cdn", "slow")
    pulled = pull_tag(pin(), "lab", Server(ollama.url), registry.base, PullContext())

    assert (pulled.change.kind, pulled.fetched_bytes) == ("create", FIRST.size_bytes)
    assert listed(ollama) == {"lab:1": FIRST.digest}


def test_unpinned(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Without a pin the library decides what the tag is, and the record says so."""
    tag = OllamaTag(tag="lab:1", size_bytes=1, unpinned="nobody asked")

    pulled = bring(ollama, registry.base, tag)
    registry.tags["library/lab:1"] = SECOND
    moved = bring(ollama, registry.base, tag)

    assert pulled.change.reason.endswith("which is not pinned")
    assert (moved.digest, moved.change.kind) == (SECOND.digest, "replace")
    assert moved.change.reason.startswith(f"lab:1 was at {FIRST.digest[:12]}; ")


def test_new_pin(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A pin that moved with the library replaces the tag."""
    bring(ollama, registry.base)
    registry.tags["library/lab:1"] = SECOND

    pulled = bring(ollama, registry.base, pin(SECOND))

    assert (pulled.change.kind, listed(ollama)) == ("replace", {"lab:1": SECOND.digest})


def test_other_hosts(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A name with a host of its own keeps it, whoever stands in for that host."""
    name = "hf.co/user/repo:Q4_0"

    pulled = bring(ollama, registry.base, pin(SECOND, name))

    assert pulled.tag == name
    assert listed(ollama) == {name: SECOND.digest}


def test_two_at_once(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Two pulls of one tag fetch it once, and both succeed."""
    registry.fail("cdn", "slow")
    found: list[PulledTag] = []
    threads = [Thread(target=lambda: found.append(bring(ollama, registry.base))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.digest for one in found] == [FIRST.digest] * 2
    assert registry.sent_bytes == FIRST.size_bytes
    assert listed(ollama) == {"lab:1": FIRST.digest}


# --- the library -----------------------------------------------------------------------------


def test_changed_tag_is_refused_before_byte_one(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A tag that the library changed is refused with both digests, and Ollama is not asked."""
    registry.tags["library/lab:1"] = SECOND

    with pytest.raises(DigestMismatchError) as caught:
        bring(ollama, registry.base)

    assert str(caught.value) == (
        f"the Ollama library changed lab:1: it is {SECOND.digest[:12]} there now,"
        f" and {FIRST.digest[:12]} is pinned; "
        "nothing was fetched, and what Ollama holds stays; "
        "accept the new one with `pmoves lock --update`, or pin another tag."
    )
    assert (ollama.pulls, registry.sent_bytes) == ([], 0)


def test_changed_tag_does_not_disturb_the_pinned_one(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """What is pinned and there stays, whatever the library says now."""
    bring(ollama, registry.base)
    registry.tags["library/lab:1"] = SECOND

    assert bring(ollama, registry.base).change.kind == "keep"


def test_tag_changes_during_the_pull(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """What was pulled after the library changed is deleted again."""
    registry.changes["library/lab:1"] = SECOND

    with pytest.raises(DigestMismatchError, match=rf"as {SECOND.digest[:12]} instead of {FIRST.digest[:12]}"):
        bring(ollama, registry.base)

    assert listed(ollama) == {}


def test_unlisted(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A success that Ollama does not list is none."""
    ollama.fail("unlisted")

    with pytest.raises(
        SourceUnavailableError, match="says that it pulled lab:1 and does not list it; it was del"
    ):
        bring(ollama, registry.base)

    assert listed(ollama) == {}


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        (404, SourceRefusedError, "the Ollama library has no lab:1; .*; correct the tag in the catalogue"),
        (429, SourceUnavailableError, "answered 429 Too Many Requests for lab:1; .*; wait a little"),
        (503, SourceUnavailableError, "answered 503 Service Unavailable for lab:1"),
        (401, SourceRefusedError, "answered 401 Unauthorized for lab:1"),
        (599, SourceUnavailableError, "answered 599 for lab:1"),
        ("odd", SourceRefusedError, "is not a model's manifest: it begins '<html>log in</html>'"),
    ],
)
def test_library_fails(
    ollama: OllamaLab, registry: OllamaRegistry, what: What, error: type[PullError], text: str
) -> None:
    """What the library answers instead of a manifest is one sentence, and Ollama is not asked."""
    registry.fail("manifest", what)

    with pytest.raises(error, match=text):
        bring(ollama, registry.base)

    assert ollama.pulls == []


def test_library_is_down(ollama: OllamaLab) -> None:
    """A library that does not answer may answer later."""
    with pytest.raises(
        SourceUnavailableError, match=r"at 127\.0\.0\.1:9 does not answer \(the connection is ref"
    ):
        bring(ollama, GONE)


# --- damage ----------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Leave five bytes."""
    path.write_bytes(path.read_bytes()[:5])


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(flip, "has the sha256"), (cut, f"has 5 bytes instead of {BIG_BYTES}"), (Path.unlink, "is missing")],
    ids=["flipped", "cut", "deleted"],
)
def test_damaged_blob_is_healed(
    ollama: OllamaLab, registry: OllamaRegistry, damage: object, fault: str
) -> None:
    """A blob that Ollama would serve as it is, is found, and only that one crosses again."""
    bring(ollama, registry.base)
    assert callable(damage)
    damage(big_blob(ollama))
    registry.sent.clear()

    pulled = bring(ollama, registry.base)

    assert big_blob(ollama).read_bytes() == FIRST.blobs[0]
    assert pulled.change.kind == "replace"
    assert pulled.change.reason.startswith(f"blob {BIG[:12]} {fault}")
    assert pulled.repaired == (BIG,)
    assert pulled.fetched_bytes == registry.sent_bytes == BIG_BYTES
    assert listed(ollama) == {"lab:1": FIRST.digest}


def test_damage_without_a_library(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Damage that cannot be repaired now is said, and nothing is deleted."""
    bring(ollama, registry.base)
    cut(big_blob(ollama))

    with pytest.raises(
        SourceUnavailableError, match=r"lab:1 is damaged in Ollama \(blob \w+ has 5 bytes.*cannot be"
    ):
        bring(ollama, GONE)

    assert big_blob(ollama).exists()


def test_damage_that_only_ollama_can_delete(
    ollama: OllamaLab, registry: OllamaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this user may not delete the blob, Ollama deletes it with the tag."""
    bring(ollama, registry.base)
    flip(big_blob(ollama))
    monkeypatch.setattr("tasks.pull.ollama.blobs.remove", lambda damaged: damaged)

    pulled = bring(ollama, registry.base)

    assert pulled.repaired == (BIG,)
    assert big_blob(ollama).read_bytes() == FIRST.blobs[0]


def test_damage_that_nobody_can_delete(
    ollama: OllamaLab, registry: OllamaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blob that another model has too is named with its path."""
    bring(ollama, registry.base)
    with asking(ollama) as api:
        api.copy("lab:1", "other:1")
    flip(big_blob(ollama))
    monkeypatch.setattr("tasks.pull.ollama.blobs.remove", lambda damaged: damaged)

    with pytest.raises(
        DigestMismatchError, match=f"Ollama keeps it for another model; .*; delete {big_blob(ollama)},"
    ):
        bring(ollama, registry.base)


def test_unlistable_model_is_healed(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Ollama does not list a model whose config is gone, and pulling it heals it."""
    bring(ollama, registry.base)
    blob_path(ollama.models, digest_of(FIRST.config)).unlink()

    pulled = bring(ollama, registry.base)

    assert listed(ollama) == {"lab:1": FIRST.digest}
    assert pulled.fetched_bytes == len(FIRST.config)


def test_damage_found_after_the_pull(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A blob that lay there damaged without a model is not taken over."""
    big_blob(ollama).write_bytes(bytes(BIG_BYTES))

    pulled = bring(ollama, registry.base)

    assert pulled.repaired == (BIG,)
    assert big_blob(ollama).read_bytes() == FIRST.blobs[0]
    assert listed(ollama) == {"lab:1": FIRST.digest}


def test_wrong_bytes(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Bytes that the library sends wrong never become a model."""
    registry.fail("cdn", "corrupt")

    with pytest.raises(DigestMismatchError, match="sent other bytes for lab:1 than its manifest names"):
        bring(ollama, registry.base)

    assert listed(ollama) == {}


def test_trusted(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """A caller who knows the blobs saves the hashing."""
    bring(ollama, registry.base)
    flip(big_blob(ollama))
    server = Server(ollama.url, ollama.models, QUICK)

    kept = pull_tag(pin(), "lab", server, GONE, PullContext(), trusted=lambda _path, _digest: True)

    assert kept.change.kind == "keep"


# --- room ------------------------------------------------------------------------------------


def test_no_room(ollama: OllamaLab, registry: OllamaRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is too small is refused before Ollama is asked, which does not look itself."""
    usage = shutil.disk_usage(ollama.models)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(NoRoomError, match=rf"{ollama.models} needs 2\.9 MiB and has 1\.0 MiB free"):
        bring(ollama, registry.base)

    assert ollama.pulls == []


# --- the api ---------------------------------------------------------------------------------


def test_api(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """The small requests say what is there."""
    bring(ollama, registry.base)
    with asking(ollama) as api:
        assert api.version() == "0.33.0"
        assert api.tags() == {"lab:1": FIRST.digest}
        assert BIG in api.show("lab:1")["modelfile"]
        assert api.show("none:1") == {}
        assert api.has_blob(BIG)
        assert not api.has_blob("0" * 64)
        assert api.copy("lab:1", "second:1")
        assert not api.copy("none:1", "second:2")
        assert api.delete("lab:1")
        assert not api.delete("lab:1")
        assert api.tags() == {"second:1": FIRST.digest}
        assert api.has_blob(BIG)


def test_upload_of_other_bytes(ollama: OllamaLab, tmp_path: Path) -> None:
    """The server hashes what it gets; a file that is not what it should be is named."""
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF")
    wanted = hashlib.sha256(b"other").hexdigest()
    with (
        asking(ollama) as api,
        pytest.raises(
            DigestMismatchError, match=rf"weights\.gguf does not have the sha256 {wanted[:12]} \(digest"
        ),
    ):
        api.upload(file, wanted, lambda _sent: None)


def test_another_server(registry: OllamaRegistry) -> None:
    """A server that is not Ollama is said to be none."""
    with pytest.raises(SourceRefusedError, match="does not speak Ollama's API"):
        pull_tag(pin(), "lab", Server(f"http://{registry.host}"), registry.base, PullContext())


def test_no_server(registry: OllamaRegistry) -> None:
    """A server that is down is named with its address."""
    with pytest.raises(
        SourceUnavailableError, match=r"Ollama at http://127\.0\.0\.1:9 does not answer \(the conn"
    ):
        pull_tag(pin(), "lab", Server("http://127.0.0.1:9"), registry.base, PullContext())


@pytest.mark.parametrize("url", ["http://", "nonsense", "http://[::1", "http://127.0.0.1:99999", "ftp://h"])
def test_odd_addresses(url: str, registry: OllamaRegistry) -> None:
    """An address that is none is a sentence too."""
    with pytest.raises(ProvisionError):
        pull_tag(pin(), "lab", Server(url), registry.base, PullContext())
    with pytest.raises(ProvisionError):
        pull_tag(pin(), "lab", Server(f"http://{registry.host}"), url, PullContext())


def test_names_are_compared_as_ollama_does(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Ollama does not tell upper from lower case, so neither is pulled twice."""
    bring(ollama, registry.base, pin(SECOND, "hf.co/user/repo:Q4_0"))

    kept = pull_tag(pin(SECOND, "hf.co/user/repo:q4_0"), "lab", Server(ollama.url), GONE, PullContext())

    assert parse_name("HF.co/a/b").key == "hf.co/a/b:latest"
    assert kept.change.kind == "keep"


def test_garbage_between_the_lines(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """Lines that say nothing do not disturb a pull."""
    ollama.fail("garbage")

    assert bring(ollama, registry.base).change.kind == "create"


def test_real_library_names(ollama: OllamaLab, registry: OllamaRegistry) -> None:
    """With the library itself, Ollama is asked for the plain name, by https."""
    where = origin(parse_name("lab:1"), "https://registry.ollama.ai/v2/")
    assert (str(where.remote), where.insecure) == ("lab:1", False)
    with asking(ollama) as api:
        lines = [line for line in api.pull("lab:1", insecure=False) if line]

    assert lines[-1] == b'{"status":"success"}'
    assert registry.sent_bytes == FIRST.size_bytes
    assert replace(where.remote, tag="2").key == "lab:2"
