"""What is to be fetched, from the hub's own listing and Ollama's own manifest, before byte one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import PlannedModel, Reach, UnpinnedRepo, Weights
from tasks.errors import CatalogueError, PullError, SourceRefusedError, SourceUnavailableError
from tasks.pull.download import pull
from tasks.pull.resolve.listing import listing
from tasks.pull.resolve.lock import Pins
from tasks.pull.resolve.resolve import Places, resolve, resolve_all, update
from tasks.pull.sources import PullContext
from tests.lab.hub import REVISION, HubLab, Repo
from tests.lab.hub_faults import Lie
from tests.lab.weights import BIG, FILES, REPO, SIZE_BYTES, Watcher, contents, pinned, planned

pytestmark = pytest.mark.real

EXTRA = {"README.md": b"# lab\n", "onnx/model.onnx": bytes(500_000), "pytorch_model.bin": bytes(500_000)}
DOWN = Reach("hub", "", answers=False, detail="down")


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub whose repository holds more than a runtime needs."""
    with HubLab({REPO: Repo(FILES | EXTRA)}) as lab:
        yield lab


def unpinned(*, size_bytes: int = SIZE_BYTES) -> PlannedModel:
    """Return a planned model that the catalogue knows by its repository alone."""
    repo = UnpinnedRepo(repo=REPO, size_bytes=size_bytes, unpinned="not known yet")
    return replace(planned(pinned()), weights=None, repo=repo, runtime="tei", quantisation="fp32")


def pins(tmp_path: Path) -> Pins:
    """Return the pins of a host."""
    return Pins(tmp_path / "shipped.json", tmp_path / "host.json")


def places(tmp_path: Path) -> Places:
    """Return where weights go."""
    return Places(tmp_path / "store", None, "http://127.0.0.1:1/v2/")


def resolved(tmp_path: Path, hub: HubLab, planned: PlannedModel | None = None) -> Weights:
    """Resolve a model and return its files."""
    known = pins(tmp_path)
    one = resolve(planned or unpinned(), known, places(tmp_path), PullContext(endpoint=hub.endpoint))
    known.save()
    assert one.planned.weights is not None
    return one.planned.weights


def test_exact_files_before_byte_one(tmp_path: Path, hub: HubLab) -> None:
    """The listing gives a revision, and only the files that the runtime needs, each with a digest."""
    found = resolved(tmp_path, hub)

    assert (found.repo, found.revision) == (REPO, REVISION)
    assert {file.path: file.size_bytes for file in found.files} == {n: len(d) for n, d in FILES.items()}
    assert {file.path: file.digest.partition(":")[0] for file in found.files} == {
        "config.json": "git",
        "1_Pooling/config.json": "git",
        BIG: "sha256",
    }
    assert hub.sent_bytes == 0


def test_what_was_resolved_is_what_is_fetched(tmp_path: Path, hub: HubLab) -> None:
    """Files that are pinned by git's name of them are checked by it, and a second pull asks nobody."""
    weights = resolved(tmp_path, hub)
    pull(planned(weights), tmp_path / "store", PullContext(endpoint=hub.endpoint))
    asked = hub.requests.total()

    again = pull(planned(weights), tmp_path / "store", PullContext(endpoint=hub.endpoint))

    assert contents(tmp_path / f"store/models--org--name/snapshots/{REVISION}") == FILES
    assert again.change.kind == "keep"
    assert hub.requests.total() == asked


def test_the_next_run_asks_nobody(tmp_path: Path, hub: HubLab) -> None:
    """What was resolved once is pinned on this host, also when the hub has gone on or away."""
    first = resolved(tmp_path, hub)
    hub.repos[REPO] = Repo(FILES | {"config.json": b"{}"}, revision="c" * 40)

    assert resolved(tmp_path, hub) == first
    one = resolve(unpinned(), pins(tmp_path), places(tmp_path), PullContext(hub=DOWN))
    assert one.planned.weights == first
    assert one.missing_bytes == SIZE_BYTES


def test_update_moves_the_pin_and_says_what_moved(tmp_path: Path, hub: HubLab) -> None:
    """`lock --update` pins what the hub has now; a second time nothing moves."""
    resolved(tmp_path, hub)
    hub.repos[REPO] = Repo(FILES | {"config.json": b"{}"}, revision="c" * 40)
    known, ctx = pins(tmp_path), PullContext(endpoint=hub.endpoint)

    moved = update(unpinned(), known, places(tmp_path), ctx)

    assert moved is not None
    assert (moved.name, moved.before, moved.after) == ("lab:fp32", REVISION, "c" * 40)
    assert moved.size_after_bytes - moved.size_before_bytes == 2 - len(FILES["config.json"])
    assert update(unpinned(), known, places(tmp_path), ctx) is None
    assert known.weights(unpinned()) is not None


def test_a_size_that_is_far_off_is_said(tmp_path: Path, hub: HubLab) -> None:
    """The plan counted on other bytes, so whoever watches hears of it."""
    watcher = Watcher()
    ctx = PullContext(endpoint=hub.endpoint, sink=watcher)

    resolve_all([unpinned(size_bytes=2 * SIZE_BYTES)], pins(tmp_path), places(tmp_path), ctx)

    assert watcher.messages == [
        "listing org/name",
        (
            "lab:fp32 is 2.9 MiB at its source, and the plan counted on 5.7 MiB;"
            " the footprint is measured when it runs"
        ),
    ]


def test_a_repository_without_the_weights(tmp_path: Path, hub: HubLab) -> None:
    """A repository that has nothing for the runtime is refused before byte one."""
    hub.repos[REPO] = Repo(EXTRA)
    wanted = replace(unpinned(), runtime="llama.cpp", quantisation="q8_0")

    with pytest.raises(SourceRefusedError, match=r"org/name has no files that llama.cpp could load as q8_0"):
        resolved(tmp_path, hub, wanted)


@pytest.mark.parametrize("name", ["../../escape.json", "/abs.json", "a/../../b.json"])
def test_a_name_that_climbs_out_is_not_needed(tmp_path: Path, hub: HubLab, name: str) -> None:
    """A name that leads out of the repository is none that a runtime asks for."""
    hub.fail("api", Lie(file="config.json", path=name))

    assert {file.path for file in resolved(tmp_path, hub).files} == {"1_Pooling/config.json", BIG}


@pytest.mark.parametrize("name", ["1_Pooling/../../../escape.json", "1_Pooling//config.json", "1_P/./x.json"])
def test_a_needed_name_that_climbs_out_is_refused(tmp_path: Path, hub: HubLab, name: str) -> None:
    """Where a name that leads out looks like one that is needed, nothing is fetched at all."""
    hub.fail("api", Lie(file="1_Pooling/config.json", path=name))

    with pytest.raises(CatalogueError, match="would leave its folder; nothing was written"):
        resolved(tmp_path, hub)

    assert hub.sent_bytes == 0


@pytest.mark.parametrize(
    ("token", "asked", "kind", "text"),
    [
        ("s3cret", None, SourceRefusedError, "org/name is gated; .*; accept its licence at http://127"),
        ("s3cret", "wrong", SourceRefusedError, "org/name is gated"),
    ],
)
def test_a_gate_is_said_before_byte_one(
    tmp_path: Path, hub: HubLab, token: str, asked: str | None, kind: type[PullError], text: str
) -> None:
    """A gated repository without the right token is refused, with where to accept its licence."""
    hub.repos[REPO] = Repo(FILES, token=token)

    with pytest.raises(kind, match=text):
        resolve(unpinned(), pins(tmp_path), places(tmp_path), PullContext(endpoint=hub.endpoint, token=asked))

    assert hub.sent_bytes == 0


def test_the_right_token_opens_the_gate(tmp_path: Path, hub: HubLab) -> None:
    """With its token the repository is listed; the token goes to the hub alone."""
    hub.repos[REPO] = Repo(FILES, token="s3cret")
    ctx = PullContext(endpoint=hub.endpoint, token="s3cret")

    assert resolve(unpinned(), pins(tmp_path), places(tmp_path), ctx).planned.weights is not None
    assert set(hub.tokens) == {"127.0.0.1"}


def test_a_hub_that_is_down(tmp_path: Path) -> None:
    """A hub that does not answer is one sentence, and another try may help."""
    with HubLab({}) as gone:
        endpoint = gone.endpoint

    with pytest.raises(SourceUnavailableError, match=r"the hub at http://127\S+ does not answer"):
        resolve(unpinned(), pins(tmp_path), places(tmp_path), PullContext(endpoint=endpoint))


def test_a_stumble_of_the_api_is_got_over(hub: HubLab) -> None:
    """One 503 of the listing does not fail it."""
    hub.fail("api", 503, times=1)

    assert listing(REPO, None, PullContext(endpoint=hub.endpoint)).revision == REVISION


def test_offline_nothing_is_asked(tmp_path: Path, hub: HubLab) -> None:
    """With an export to provision from, an unpinned model is refused and the hub hears nothing."""
    ctx = PullContext(endpoint=hub.endpoint, offline=True)

    with pytest.raises(SourceRefusedError, match="lab is not pinned, and no network is to be asked"):
        resolve(unpinned(), pins(tmp_path), places(tmp_path), ctx)

    assert hub.requests.total() == 0


@pytest.mark.parametrize(
    "lie", [Lie(file=BIG, sha256="../../x"), Lie(file=BIG, size=-1), Lie(file="config.json", oid="nonsense")]
)
def test_a_digest_or_size_that_is_none(hub: HubLab, lie: Lie) -> None:
    """A listing whose digests are none is refused in one sentence."""
    hub.fail("api", lie)

    with pytest.raises(SourceRefusedError, match=r"the hub's listing of org/name cannot be read"):
        listing(REPO, None, PullContext(endpoint=hub.endpoint))
