"""The index of an export is checked before anything in it becomes a path or a sum."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tasks.errors import (
    UsageError,
)
from tasks.pull.export import read_index
from tests.lab.exporting import MANIFEST, Lab, visible
from tests.lab.hub import REVISION
from tests.lab.weights import REPO


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a host to export from."""
    return Lab(tmp_path)


def test_no_index(tmp_path: Path) -> None:
    """A folder without an index is no export."""
    with pytest.raises(
        UsageError, match=r"is no export: it has no index\.json; nothing was copied; name the folder"
    ):
        read_index(tmp_path)


def tag_index(**changed: object) -> dict[str, object]:
    """Return an index of one tag, with something changed in it; "manifest" is beside the tag."""
    tag = {"tag": "lab:1", "size_bytes": 1, "digest": "0" * 64}
    item = {"key": "a", "ollama": tag, "manifest": changed.pop("manifest", MANIFEST)}
    return {"version": 1, "items": [{**item, "ollama": {**tag, **changed}}]}


def weights_index(**changed: object) -> dict[str, object]:
    """Return an index of one model, with something changed in its only file or its weights."""
    file = {"path": "a.json", "size_bytes": 1, "sha256": "0" * 64}
    weights: dict[str, object] = {"repo": REPO, "revision": REVISION, "files": [file]}
    for name, value in changed.items():
        (file if name in {"path", "size_bytes", "sha256", "git_sha1"} else weights)[name] = value  # type: ignore[index]
    return {"version": 1, "items": [{"key": "a:b", "weights": weights}]}


def both_index() -> dict[str, object]:
    """Return an index of one model that has files and a tag."""
    (item,), (other,) = tag_index()["items"], weights_index()["items"]  # type: ignore[misc]
    return {"version": 1, "items": [{**other, **item}]}


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (b"", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[]", "is damaged"),
        ({}, "is damaged"),
        ({"version": 2, "items": {}}, "is of version 2, and this program reads version 1"),
        ({"version": 1, "items": [{"key": "a"}]}, "'a' has not just one of weights and tag"),
        ({"version": 1, "extra": 1}, "unknown field `extra`"),
        ({"version": 1, "items": tag_index()["items"] * 2}, "names a model twice"),  # type: ignore[operator]
        (weights_index(path="../x"), "would leave its folder"),
        (weights_index(repo="../x"), "not written as org/name"),
        (weights_index(revision="main"), "not 40 hex digits"),
        (weights_index(sha256="0" * 63), "by something that is no digest"),
        (weights_index(sha256="../../../../etc/passwd"), "by something that is no digest"),
        (weights_index(sha256="", git_sha1="x"), "by something that is no digest"),
        (weights_index(size_bytes=-1), "gives 'a.json' no size"),
        (weights_index(size_bytes=1 << 60), "gives 'a.json' no size"),
        (weights_index(files=[]), "has no files"),
        (tag_index(weights=weights_index()), "unknown field `weights`"),
        (both_index(), "'a' has not just one of weights and tag"),
        (tag_index(manifest="../../x"), "names another manifest"),
        (tag_index(tag="../x"), "not a name that Ollama takes"),
        (tag_index(digest=None), "pins its tag by something that is no digest"),
    ],
)
def test_bad_index(lab: Lab, index: object, text: str) -> None:
    """An index that no export wrote is one sentence, and no export writes over it."""
    lab.target.mkdir()
    raw = index if isinstance(index, bytes) else msgspec.json.encode(index)
    (lab.target / "index.json").write_bytes(raw)

    for act in (lambda: read_index(lab.target), lab.export):
        with pytest.raises(UsageError, match=text) as caught:
            act()
        assert str(caught.value).startswith(f"the index {lab.target}/index.json is ")
        assert "\n" not in str(caught.value)
    assert visible(lab.target) == {"index.json"}
    assert (lab.target / "index.json").read_bytes() == raw


def test_index_of_endless_length(tmp_path: Path) -> None:
    """A file that is much too long is not read."""
    with (tmp_path / "index.json").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(UsageError, match="is longer than"):
        read_index(tmp_path)
