"""Names are read as Ollama reads them, and manifests are checked before anything in them is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import CatalogueError, SourceRefusedError
from tasks.pull.ollama.exchange import is_loopback
from tasks.pull.ollama.names import Name, blob_path, parse_name
from tasks.pull.ollama.registry import LARGEST_MANIFEST_BYTES, Layer, origin, parse_manifest
from tests.lab.ollama_registry import digest_of, lab_tag

LIBRARY = "https://registry.ollama.ai/v2/"
LAB = parse_name("lab:1")


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("qwen2.5:32b", Name("registry.ollama.ai", "library", "qwen2.5", "32b"), "qwen2.5:32b"),
        ("qwen2.5", Name("registry.ollama.ai", "library", "qwen2.5", "latest"), "qwen2.5:latest"),
        ("library/qwen2.5:32b", Name("registry.ollama.ai", "library", "qwen2.5", "32b"), "qwen2.5:32b"),
        ("user/model", Name("registry.ollama.ai", "user", "model", "latest"), "user/model:latest"),
        (
            "hf.co/user/repo-GGUF:Q4_K_M",
            Name("hf.co", "user", "repo-GGUF", "Q4_K_M"),
            "hf.co/user/repo-GGUF:Q4_K_M",
        ),
        (
            "127.0.0.1:5000/library/lab",
            Name("127.0.0.1:5000", "library", "lab", "latest"),
            "127.0.0.1:5000/library/lab:latest",
        ),
    ],
)
def test_names(text: str, name: Name, shown: str) -> None:
    """What is left out is filled in, and shown as short as Ollama shows it."""
    assert (parse_name(text), str(parse_name(text))) == (name, shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        "a:",
        ":a",
        "a b",
        "a@sha256:" + "0" * 64,
        "../x",
        "a/../b",
        "../n/m",
        ".h/n/m:t",
        "x/y/z/w",
        "a//b",
        "http://h/n/m:t",
        ".a",
        "a:.b",
        "n.s/m",
        "a:" + "t" * 81,
        "ä:1",
        "a:1\n",
        "a\0",
    ],
)
def test_bad_names(text: str) -> None:
    """A name that Ollama would refuse is one sentence."""
    with pytest.raises(CatalogueError, match=r"is not a name that Ollama takes: .*; write it as model:tag"):
        parse_name(text)


@given(st.text(alphabet="ab./:-_\0 ", max_size=20))
def test_no_name_leaves_the_folder(text: str) -> None:
    """Whatever is taken for a name lies below the folder, and means itself when it is read again."""
    try:
        name = parse_name(text)
    except CatalogueError:
        return

    path = name.manifest_path(Path("/m"))
    assert path.is_relative_to("/m/manifests")
    assert ".." not in path.parts
    assert parse_name(str(name)) == name


def test_paths() -> None:
    """Manifests and blobs lie where Ollama puts them."""
    assert parse_name("qwen2.5:32b").manifest_path(Path("/m")) == Path(
        "/m/manifests/registry.ollama.ai/library/qwen2.5/32b"
    )
    assert blob_path(Path("/m"), "a" * 64) == Path(f"/m/blobs/sha256-{'a' * 64}")


@pytest.mark.parametrize(
    ("text", "registry", "url", "remote", "insecure"),
    [
        ("a:1", LIBRARY, "https://registry.ollama.ai/v2/library/a/manifests/1", "a:1", False),
        ("hf.co/u/r:Q4_0", LIBRARY, "https://hf.co/v2/u/r/manifests/Q4_0", "hf.co/u/r:Q4_0", False),
        ("a:1", "http://h:5/v2", "http://h:5/v2/library/a/manifests/1", "h:5/library/a:1", True),
        ("hf.co/u/r:Q4_0", "https://h/", "https://h/v2/u/r/manifests/Q4_0", "h/u/r:Q4_0", False),
    ],
)
def test_origins(text: str, registry: str, url: str, remote: str, insecure: bool) -> None:  # noqa: FBT001
    """A registry that stands in for the library is asked in its place, and named to Ollama."""
    where = origin(parse_name(text), registry)

    assert (where.manifest_url, str(where.remote), where.insecure) == (url, remote, insecure)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("ollama.lan", False),
        ("10.0.0.2", False),
        ("", False),
    ],
)
def test_loopback(host: str, ours: bool) -> None:  # noqa: FBT001
    """Only this host's own servers are asked past the proxy."""
    assert is_loopback(host) is ours


def test_manifest() -> None:
    """The digest is that of the raw bytes, and the config is the last blob."""
    tag = lab_tag()

    manifest = parse_manifest(LAB, tag.manifest)

    assert manifest.digest == hashlib.sha256(tag.manifest).hexdigest()
    assert manifest.size_bytes == tag.size_bytes
    assert manifest.layers[0] == Layer(
        "application/vnd.ollama.image.model", digest_of(tag.blobs[0]), len(tag.blobs[0])
    )
    assert [layer.digest for layer in manifest.layers] == [digest_of(data) for data in tag.blobs]


def changed(**entry: object) -> bytes:
    """Return a manifest with one odd layer."""
    body = json.loads(lab_tag().manifest)
    body["layers"][0] |= entry
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>log in</html>",
        b"[]",
        b"{}",
        b'{"layers":[]}',
        b'{"layers":{}}',
        b'{"layers":[7]}',
        b'{"layers":[null]}',
        b'{"manifests":[]}',
        changed(digest="sha256:../../etc/passwd"),
        changed(digest="a" * 64),
        changed(digest="sha256:" + "A" * 64),
        changed(digest="sha256:" + "a" * 65),
        changed(digest="sha512:" + "a" * 64),
        changed(digest=None),
        changed(size=-1),
        changed(size=1.5),
        changed(size=True),
        changed(size="7"),
        changed(size=1 << 60),
        changed(digest=f"sha256:{digest_of(lab_tag().blobs[1])}"),
        b" " * (LARGEST_MANIFEST_BYTES + 1),
    ],
    ids=range(22),
)
def test_odd_manifests(raw: bytes) -> None:
    """A manifest that is none is one sentence, and nothing in it becomes a path."""
    with pytest.raises(
        SourceRefusedError, match=r"for lab:1 is not a model's manifest: .*; check the registry"
    ):
        parse_manifest(LAB, raw)


@given(st.binary())
def test_any_manifest(raw: bytes) -> None:
    """Any bytes are refused in one sentence."""
    with pytest.raises(SourceRefusedError, match="is not a model's manifest"):
        parse_manifest(LAB, raw)
