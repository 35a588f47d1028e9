"""Layers of images, made of what this machine has: busybox, and this Python. Nothing is downloaded.

busybox_layer()      a shell and its tools
python_layer(...)    this interpreter, its standard library and the shared libraries that they need
packages_layer(...)  packages of this environment, with what they need
files_layer({...})   files of a test

Big ones are kept as .cache/lab-layer-<key>.tar, where the key says what went in: raise LAYOUT when this
module puts in something else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import certifi
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
LAYOUT = 1
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
TOOLS = (
    "sh cat ls id sleep echo head tail dd grep wget nc httpd mkdir touch rm ps kill true false env test yes"
)
FOLDERS = ("tmp", "proc", "sys", "dev", "etc", "run", "run/secrets", "root", "weights")
UNUSED = frozenset({"sympy", "mpmath", "hf-xet", "coloredlogs", "humanfriendly", "protobuf", "flatbuffers"})
NOT_NEEDED = re.compile(
    r"/(?:test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|__pycache__|site-packages|dist-packages"
    r"|config-[^/]*|pydoc_data)(?:/|$)"
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nserver:x:10001:10001:server:/tmp:/bin/sh\n"
PYTHON_ENVIRONMENT = (
    "PATH=/usr/bin:/bin",
    "PYTHONPATH=/opt/packages:/opt/program",
    "PYTHONDONTWRITEBYTECODE=1",
)
SERVE_EMBEDDED = """
import runpy
from tasks.serve.embedded import options
options.HOST = "0.0.0.0"
runpy.run_module("tasks.serve.embedded", run_name="__main__")
"""
GROUP = "root:x:0:\nserver:x:10001:\n"


def missing() -> str:
    """Return what keeps images from being made here; "" for nothing."""
    found = shutil.which("busybox")
    return (
        ""
        if found and not list(_libraries(Path(found)))
        else "busybox-static is not installed; .ci/run installs it"
    )


def busybox_layer() -> bytes:
    """Return a layer with busybox under the names of its tools, and the folders every image has."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for folder in ("bin", *FOLDERS):
            _folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
        tar.add(str(shutil.which("busybox")), "bin/busybox", filter=_plain)
        for tool in TOOLS.split():
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _file(tar, "etc/passwd", PASSWD.encode())
        _file(tar, "etc/group", GROUP.encode())
    return made.getvalue()


def files_layer(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with these files; those below bin/ can be run."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, data in files.items():
            _file(tar, name, data, 0o755 if "bin/" in name else 0o644)
    return made.getvalue()


def python_layer() -> Path:
    """Return a layer with this Python as /usr/bin/python3 (through its real place)."""
    real = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    key = f"python-{sys.version}-{real}"
    return _kept(key, lambda tar: _add_python(tar, real, library))


def packages_layer(*names: str) -> Path:
    """Return a layer with packages of this environment and all they need, in /opt/packages."""
    found = sorted(closure(names))
    versions = [f"{name}-{importlib.metadata.version(name)}" for name in found]
    return _kept(f"packages {versions}", lambda tar: _add_packages(tar, found))


def program_layer() -> bytes:
    """Return a layer with this program's tasks, in /opt/program, and `python3 -m serve_embedded`.

    The embedded server listens on loopback, which in a container is the container's own.
    """
    found = sorted((ROOT / "tasks").rglob("*.py"))
    files = {f"opt/program/{one.relative_to(ROOT)}": one.read_bytes() for one in found}
    return files_layer({**files, "opt/program/serve_embedded.py": SERVE_EMBEDDED.encode()})


def closure(names: Iterable[str]) -> set[str]:
    """Return the packages, with what they need here; without what servers never import."""
    todo, seen = [canonicalize_name(one) for one in names], set(UNUSED)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in importlib.metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(wanted.name))
    return seen - UNUSED


def _add_python(tar: tarfile.TarFile, real: Path, library: Path) -> None:
    objects = [real]
    for path in sorted(library.rglob("*")):
        if path.is_file() and not NOT_NEEDED.search(str(path)[len(str(library)) :]):
            tar.add(path.resolve(), str(path).lstrip("/"), filter=_plain)
            objects += [path] if ".so" in path.suffixes else []
    tar.add(real, str(real).lstrip("/"), filter=_plain)
    if str(real) != "/usr/bin/python3":
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(real)
        tar.addfile(link)
    _add_libraries(tar, objects)


def _add_packages(tar: tarfile.TarFile, names: Iterable[str]) -> None:
    objects: list[Path] = []
    for name in names:
        for file in importlib.metadata.files(name) or ():
            path = Path(str(file.locate()))
            if ".." in file.parts or "__pycache__" in file.parts or not path.is_file():
                continue
            tar.add(path, f"opt/packages/{file}", filter=_plain)
            objects += [path] if ".so" in path.name else []
    # The model server makes an HTTPS client before it sees that it needs none, which fails without these.
    tar.add(certifi.where(), AUTHORITIES, filter=_plain)
    _add_libraries(tar, objects)


def _add_libraries(tar: tarfile.TarFile, objects: Iterable[Path]) -> None:
    """Add the system's shared libraries that these need, where the loader looks for them."""
    wanted = set[str]()
    for path in objects:
        wanted |= set(_libraries(path))
    for name in sorted(wanted):
        tar.add(Path(name).resolve(), name.lstrip("/"), filter=_plain)


def _libraries(path: Path) -> Iterator[str]:
    told = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    for line in told.splitlines():
        found = re.search(r"(?:=>\s*)?(/\S+) \(0x", line)
        if found and "/site-packages/" not in found[1]:
            yield found[1]


def _kept(key: str, fill: object) -> Path:
    """Return the layer of that key, made when it is not there."""
    path = CACHE / f"lab-layer-{hashlib.sha256(f'{LAYOUT} {key}'.encode()).hexdigest()[:16]}.tar"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with tarfile.open(part, "w") as tar:
            fill(tar)  # type: ignore[operator]
        part.replace(path)
    return path


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make equal files equal members: a layer's digest depends on nothing else."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


def _folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))
