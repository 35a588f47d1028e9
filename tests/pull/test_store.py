"""The weight store is a Hugging Face cache that holds only what has the pinned digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts import Model, Variant, Weights
from tasks.errors import CatalogueError, DigestMismatchError
from tasks.pull import store
from tasks.pull.claim import staging
from tests.lab.hub import REVISION, git_sha1
from tests.lab.weights import BIG, FILES, REPO, contents, fill, pin, pinned

SNAPSHOT = f"models--org--name/snapshots/{REVISION}"


def install_all(cache: Path, files: dict[str, bytes] = FILES) -> None:
    """Install every file, as a pull does."""
    weights = pinned(files)
    with staging(cache, REPO) as folder:
        for file in weights.files:
            staged = folder / "staged"
            staged.write_bytes(files[file.path])
            store.install(cache, weights, file, staged)


def test_layout(tmp_path: Path) -> None:
    """Files lie in blobs/ under their etag, and relative links in snapshots/ lead to them."""
    install_all(tmp_path)

    links = {name: str((tmp_path / SNAPSHOT / name).readlink()) for name in FILES}
    assert links == {
        "config.json": f"../../blobs/{git_sha1(FILES['config.json'])}",
        "1_Pooling/config.json": f"../../../blobs/{git_sha1(FILES['1_Pooling/config.json'])}",
        BIG: f"../../blobs/{hashlib.sha256(FILES[BIG]).hexdigest()}",
    }
    assert contents(tmp_path / SNAPSHOT) == FILES


def test_hub_client_finds_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own client returns each installed file without asking the network."""
    # With telemetry on, the client asks the hub for a list even when told to stay local.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    install_all(tmp_path)

    found = {
        name: hf_hub_download(REPO, name, revision=REVISION, cache_dir=tmp_path, local_files_only=True)
        for name in FILES
    }
    assert found == {name: str(tmp_path / SNAPSHOT / name) for name in FILES}


def test_hub_client_scans_the_cache_without_a_warning(tmp_path: Path) -> None:
    """A scan of the cache sees one revision, and does not mind a staging folder."""
    install_all(tmp_path)

    with staging(tmp_path, REPO) as folder:
        (folder / "half").write_bytes(b"half")
        scan = scan_cache_dir(tmp_path)

    assert not scan.warnings
    assert [(repo.repo_id, repo.nb_files) for repo in scan.repos] == [(REPO, 3)]


def test_nothing_else_is_written(tmp_path: Path) -> None:
    """There is no refs/main, and no staging is left."""
    install_all(tmp_path)

    assert sorted(path.name for path in (tmp_path / "models--org--name").iterdir()) == ["blobs", "snapshots"]


@pytest.mark.parametrize(
    ("path", "size_bytes", "large"),
    [
        ("config.json", 612, False),
        ("tokenizer.json", 10_000_000, False),
        ("tokenizer.json", 10_000_001, True),
        ("onnx/model.onnx", 10, True),
        ("model.gguf", 10, True),
    ],
)
def test_etag(tmp_path: Path, path: str, size_bytes: int, *, large: bool) -> None:
    """Large files are named by sha256, the others as git does."""
    data = bytes(size_bytes)
    staged = tmp_path / "staged"
    staged.write_bytes(data)

    etag = store.etag(staged, pin(path, data))

    assert etag == (hashlib.sha256(data).hexdigest() if large else git_sha1(data))


def test_complete_store_misses_nothing(tmp_path: Path) -> None:
    """Files with the right bytes are not missing, whoever put them there."""
    fill(tmp_path / SNAPSHOT)

    assert store.missing(tmp_path, pinned()) == ()


def test_empty_store_misses_all(tmp_path: Path) -> None:
    """Absent files are missing and not damaged."""
    gaps = store.missing(tmp_path, pinned())

    assert [(gap.file.path, gap.damage) for gap in gaps] == [(path, "") for path in FILES]


def test_flipped_bit_is_damage(tmp_path: Path) -> None:
    """A file of the right size with one wrong bit is missing, and says both digests."""
    flipped = FILES[BIG][:-1] + bytes([FILES[BIG][-1] ^ 1])
    fill(tmp_path / SNAPSHOT, FILES | {BIG: flipped})

    got, want = (hashlib.sha256(data).hexdigest()[:16] for data in (flipped, FILES[BIG]))
    assert store.missing(tmp_path, pinned()) == (
        store.Gap(pin(BIG, FILES[BIG]), f"sha256 {got}… instead of {want}…"),
    )


def test_cut_file_is_damage(tmp_path: Path) -> None:
    """A file that was cut short is missing, and says both sizes."""
    fill(tmp_path / SNAPSHOT, FILES | {BIG: b"12345"})

    gaps = store.missing(tmp_path, pinned())

    assert [gap.damage for gap in gaps] == ["5 bytes instead of 3000000"]


def test_link_without_blob_is_absent(tmp_path: Path) -> None:
    """A link whose blob was deleted counts as absent."""
    install_all(tmp_path)
    (tmp_path / SNAPSHOT / BIG).resolve().unlink()

    assert store.missing(tmp_path, pinned()) == (store.Gap(pin(BIG, FILES[BIG]), ""),)


def test_wrong_bytes_never_become_visible(tmp_path: Path) -> None:
    """A staged file with wrong bytes is refused and removed, and the store stays as it was."""
    install_all(tmp_path)
    before = contents(tmp_path)
    staged = tmp_path / "staged"
    staged.write_bytes(b"X" * len(FILES[BIG]))

    with pytest.raises(DigestMismatchError, match=r"model.safetensors came with sha256 \w+… instead of"):
        store.install(tmp_path, pinned(), pin(BIG, FILES[BIG]), staged)

    assert contents(tmp_path) == before


def test_install_replaces_damage(tmp_path: Path) -> None:
    """Installing over a damaged file makes it right again."""
    install_all(tmp_path)
    (tmp_path / SNAPSHOT / BIG).resolve().write_bytes(b"damaged")

    install_all(tmp_path)

    assert contents(tmp_path / SNAPSHOT) == FILES


def test_install_leaves_refs_alone(tmp_path: Path) -> None:
    """A refs/main of the hub's client keeps its content."""
    main = tmp_path / "models--org--name/refs/main"
    main.parent.mkdir(parents=True)
    main.write_text("f" * 40)

    install_all(tmp_path)

    assert main.read_text() == "f" * 40


def test_adopt_links_what_another_revision_has(tmp_path: Path) -> None:
    """A large file that another revision brought is linked, not asked for again."""
    install_all(tmp_path)
    newer = pinned(revision="a" * 40)

    adopted = {file.path: store.adopt(tmp_path, newer, file) for file in newer.files}

    assert adopted == {"config.json": False, "1_Pooling/config.json": False, BIG: True}
    assert (store.snapshot_folder(tmp_path, newer) / BIG).read_bytes() == FILES[BIG]


def test_adopt_refuses_a_damaged_blob(tmp_path: Path) -> None:
    """A damaged blob is not linked into a new revision."""
    install_all(tmp_path)
    (tmp_path / SNAPSHOT / BIG).resolve().write_bytes(b"X" * len(FILES[BIG]))
    newer = pinned(revision="a" * 40)

    assert not store.adopt(tmp_path, newer, newer.files[2])
    assert not store.snapshot_folder(tmp_path, newer).exists()


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a//b", "a/./b", "a\\..\\b", "a\0b"]
)
def test_climbing_path_is_refused(tmp_path: Path, path: str) -> None:
    """A weight path that leaves the snapshot, or is not in its plain form, is refused."""
    with pytest.raises(CatalogueError, match="would leave its folder; nothing was written"):
        store.link_path(tmp_path, pinned(), pin(path, b""))


@given(path=st.text(alphabet="ab./\\", min_size=1, max_size=12))
def test_no_path_leaves_the_snapshot(path: str) -> None:
    """Whatever the path, it is refused or lies below the snapshot."""
    cache = Path("/cache")
    weights = pinned({})
    try:
        place = store.link_path(cache, weights, pin(path, b""))
    except CatalogueError:
        return

    assert place.is_relative_to(store.snapshot_folder(cache, weights) / path.partition("/")[0])
    assert ".." not in place.parts


@pytest.mark.parametrize("repo", ["../x", "a/b/c", "a/..", "/a", "a/", "", "a..b/c"])
def test_odd_repository_is_refused(tmp_path: Path, repo: str) -> None:
    """A repository name that is none is refused."""
    with pytest.raises(CatalogueError, match="not written as org/name"):
        store.repo_folder(tmp_path, repo)


@pytest.mark.parametrize("revision", ["main", "../x", "A" * 40, "a" * 39])
def test_unpinned_revision_is_refused(tmp_path: Path, revision: str) -> None:
    """A revision that is not 40 hex digits is refused."""
    with pytest.raises(CatalogueError, match="not 40 hex digits"):
        store.snapshot_folder(tmp_path, pinned(revision=revision))


def model(name: str, weights: Weights | None) -> Model:
    """Return a catalogue entry."""
    return Model(
        name=name,
        title=name,
        roles=("embeddings",),
        licence="mit",
        sources=(),
        variants=(
            Variant(name="fp32", runtimes=("embedded",), weights=weights),
            Variant(name="int8", runtimes=("embedded",), weights=weights),
        ),
    )


def test_view(tmp_path: Path) -> None:
    """The view says what each variant misses, the same for two of the same bytes."""
    fill(tmp_path / SNAPSHOT, FILES | {BIG: b"damaged"})
    models = (model("part", pinned()), model("none", pinned(revision="a" * 40)), model("tag", None))

    view = store.view(tmp_path, models)

    assert view.path == str(tmp_path)
    assert view.missing_bytes == {
        "part fp32": 3_000_000,
        "part int8": 3_000_000,
        "none fp32": pinned().size_bytes,
        "none int8": pinned().size_bytes,
    }


def test_other_tools_load_it_offline_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for a repository without a revision finds ours, where no other tool brought one."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    install_all(tmp_path)
    store.settle(tmp_path, pinned())

    assert snapshot_download(REPO, cache_dir=tmp_path, local_files_only=True) == str(tmp_path / SNAPSHOT)
    scan = scan_cache_dir(tmp_path)
    assert not scan.warnings
    assert [sorted(one.refs) for repo in scan.repos for one in repo.revisions] == [
        ["main", f"pmoves/{REVISION[:8]}"]
    ]


def test_a_ref_of_another_tool_is_left_alone(tmp_path: Path) -> None:
    """What `main` means to others does not change."""
    install_all(tmp_path)
    main = tmp_path / "models--org--name/refs/main"
    main.parent.mkdir()
    main.write_text("b" * 40)

    store.settle(tmp_path, pinned())

    assert main.read_text() == "b" * 40
