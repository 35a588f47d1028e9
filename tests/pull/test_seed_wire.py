"""What a neighbour asks for is read from the path as it was sent, and ranges as HTTP has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pull.seed import wire
from tasks.pull.seed.wire import Blob, File, Info, Manifest, Part, Tree, part_of

REVISION = "a" * 40


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/org/name/resolve/main/config.json", File("org/name", "main", "config.json")),
        ("/org/name/resolve/main/1_Pooling/config.json", File("org/name", "main", "1_Pooling/config.json")),
        ("/gpt2/resolve/main/a%20b.bin", File("gpt2", "main", "a b.bin")),
        ("/org/name/resolve/refs%2Fpr%2F1/a", File("org/name", "refs/pr/1", "a")),
        ("/org/name/resolve/main/resolve/main/x", File("org/name", "main", "resolve/main/x")),
        ("/org/name/resolve/main/%2e%2e%2f%2e%2e%2fx", File("org/name", "main", "../../x")),
        ("/org/name/resolve/main/%252e%252e", File("org/name", "main", "%2e%2e")),
        ("/org/name/resolve/main/", None),
        ("/org/name/resolve/main/%ff", None),
        ("/api/models/org/name", Info("org/name")),
        ("/api/models/gpt2", Info("gpt2")),
        ("/api/models/gpt2/revision/v1", Info("gpt2", "v1")),
        (f"/api/models/org/name/revision/{REVISION}", Info("org/name", REVISION)),
        ("/api/models/org/name/tree/main", Tree("org/name", "main")),
        ("/api/models/gpt2/tree/main/onnx/deep", Tree("gpt2", "main", "onnx/deep")),
        ("/v2/library/qwen2.5/manifests/7b", Manifest("library", "qwen2.5", "7b")),
        ("/v2/library/qwen2.5/blobs/sha256:00", Blob("sha256:00")),
        ("/", None),
        ("/api/datasets/org/name", None),
        ("http://elsewhere/org/name/resolve/main/x", None),
        ("/a/b/c/resolve/main/x", None),
    ],
)
def test_paths(path: str, asked: wire.Asked | None) -> None:
    """A path means one thing; what is encoded twice is decoded once."""
    assert wire.parse(path) == asked


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("", None),
        ("bytes=0-", Part(0, 10)),
        ("bytes=3-5", Part(3, 6)),
        (" bytes=9-9 ", Part(9, 10)),
        ("bytes=3-99999", Part(3, 10)),
        ("bytes=-4", Part(6, 10)),
        ("bytes=-99", Part(0, 10)),
        ("bytes=10-", Part(10, 10)),
        ("bytes=10-11", Part(10, 10)),
        ("bytes=999999999999999999-", Part(10, 10)),
        ("bytes=-0", Part(10, 10)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_ranges(header: str | None, part: Part | None) -> None:
    """A range that is not understood means all; one behind the end is empty."""
    assert part_of(header, 10) == part


@given(header=st.text(alphabet="bytes=-0123456789, ", max_size=20), size=st.integers(0, 40))
def test_no_range_leaves_the_file(header: str, size: int) -> None:
    """Whatever is asked for, it lies in the file."""
    part = part_of(header, size)

    assert part is None or 0 <= part.first <= part.end <= size


@given(path=st.text(alphabet="ab./\\%\0", max_size=12))
def test_no_plain_path_climbs(path: str) -> None:
    """A plain path has no part that means another folder."""
    parts = path.split("/")

    assert not wire.is_plain(path) or all(part not in {"", ".", ".."} for part in parts)
