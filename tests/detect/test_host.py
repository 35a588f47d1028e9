"""What the kernel says, parsed from captured text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.contracts import Unknown
from tasks.detect import host

CASES = sorted((Path(__file__).parent.parent / "cases/detect").glob("*.json"))


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write captured files below a root, as /proc and /etc would hold them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_captured_host(case: Path, tmp_path: Path) -> None:
    """A captured host is seen as what it was."""
    captured = json.loads(case.read_text())
    root = plant(tmp_path, captured["files"])
    want = captured["want"]

    cpu, memory, board = host.cpu(root), host.memory(root), host.board(root)

    assert want["vendor"] == (cpu.vendor if isinstance(cpu.vendor, str) else None)
    assert want["logical_cores"] == cpu.logical_cores
    assert tuple(want["flags"]) == cpu.flags
    assert want["memory_total_bytes"] == memory.total_bytes
    assert want["memory_available_bytes"] == memory.available_bytes
    assert want["board"] == (board if isinstance(board, str) else None)
    assert want["os"] == host.system(root, "any").os


def test_nothing_to_read_is_unknown_with_a_reason(tmp_path: Path) -> None:
    """A root without /proc gives no guess."""
    memory, cpu = host.memory(tmp_path), host.cpu(tmp_path)

    assert Unknown("meminfo has no line MemTotal") == memory.total_bytes
    assert Unknown("cpuinfo names no vendor") == cpu.vendor
    assert Unknown("no os-release names it") == host.system(tmp_path, "any").os


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("/data/hub", ("/data", "xfs")),
        ("/home/a", ("/", "ext4")),
        ("/mnt/my disk/x", ("/mnt/my disk", "btrfs")),
    ],
)
def test_mount_of_a_path(path: str, want: tuple[str, str]) -> None:
    """The longest mount point that holds a path is the one that counts."""
    mountinfo = (
        "22 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n"
        "90 22 254:2 / /data rw shared:2 - xfs /dev/vdb rw\n"
        "91 22 254:3 / /mnt/my\\040disk rw - btrfs /dev/vdc rw\n"
    )

    assert want == host.parse_mount(mountinfo, Path(path))


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """A store that will be created is measured where it will be."""
    seen = host.disk(Path("/"), "store", tmp_path / "a/b/c")

    assert seen.free_bytes > 0
    assert str(tmp_path / "a/b/c") == seen.path
