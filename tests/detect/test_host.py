"""What the kernel says, parsed from captured text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.contracts import Unknown
from tasks.detect import board, disks, host
from tasks.detect.root import Root

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
    root = Root(plant(tmp_path, captured["files"]))
    want = captured["want"]

    cpu, memory, named = host.cpu(root), host.memory(root), board.board(root)

    assert want["vendor"] == (cpu.vendor if isinstance(cpu.vendor, str) else None)
    assert want["logical_cores"] == cpu.logical_cores
    assert tuple(want["flags"]) == cpu.flags
    assert want["memory_total_bytes"] == memory.total_bytes
    assert want["memory_available_bytes"] == memory.available_bytes
    assert want["board"] == (named if isinstance(named, str) else None)
    assert want["os"] == host.system(root, "any").os


def test_nothing_to_read_is_unknown_with_a_reason(tmp_path: Path) -> None:
    """A root without /proc gives no guess."""
    root = Root(tmp_path)
    memory, cpu = host.memory(root), host.cpu(root)

    assert Unknown("meminfo has no line MemTotal") == memory.total_bytes
    assert Unknown("cpuinfo names no vendor") == cpu.vendor
    assert Unknown("no os-release names it") == host.system(root, "any").os


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t186ref, EABI: aarch64", "32.7.6"),
        ("# R39 (release), REVISION: 2.0, GCID: 1, DATE: Mon Jun  1 09:28:48 PM UTC 2026", "39.2.0"),
        ("", Unknown("there is no /etc/nv_tegra_release")),
        ("something else", Unknown("nv_tegra_release names no release")),
    ],
)
def test_release_of_a_jetson(line: str, want: str | Unknown) -> None:
    """The release is read from what stands before the date, whatever form that has."""
    assert want == board.parse_l4t(line)


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("/data/hub", ("/data", "xfs", "/dev/vdb")),
        ("/home/a", ("/", "ext4", "/dev/vda1")),
        ("/mnt/my disk/x", ("/mnt/my disk", "btrfs", "/dev/vdc")),
    ],
)
def test_mount_of_a_path(path: str, want: tuple[str, str, str]) -> None:
    """The longest mount point that holds a path is the one that counts."""
    mountinfo = (
        "22 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n"
        "90 22 254:2 / /data rw shared:2 - xfs /dev/vdb rw\n"
        "91 22 254:3 / /mnt/my\\040disk rw - btrfs /dev/vdc rw\n"
    )

    assert disks.Mount(*want) == disks.parse_mount(mountinfo, Path(path))


def test_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """A store that will be created is measured where it will be."""
    seen = disks.disk(Root(), "store", tmp_path / "a/b/c")

    assert seen.free_bytes > 0
    assert str(tmp_path / "a/b/c") == seen.path
