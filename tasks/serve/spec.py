"""A server of the plan -> the container that it is to be. Pure, but for who owns the host's folders.

Hardened by default: only what an image's entry in `profiles/images.yaml` says that it needs is given up.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tasks.contracts import ContainerSpec, GpuAccess, Image, PlannedModel, PlannedServer
from tasks.serve import inside
from tasks.serve.ledger import container_name
from tasks.serve.runtimes import Container
from tasks.serve.wanted import Places, Wanted

NOBODY = 10001
"""Who a server runs as where it reads only what everybody may read; a user that no host has."""

PIDS = 4096
"""Processes and threads: CUDA, OpenBLAS and tokenizers start some hundred each. Chosen."""

SPARE_BYTES = 1 << 30
SPARE_PERCENT = 25
"""What a container may take of main memory beyond the plan, before the kernel ends it. Chosen: a limit is to
save the host, not to enforce an estimate."""

OTHERS_READ, OTHERS_ENTER = 0o004, 0o005


def container_spec(
    server: PlannedServer,
    models: Sequence[PlannedModel],
    runtime: Container,
    *,
    image: str,
    gpu: GpuAccess,
    places: Places,
) -> ContainerSpec:
    """Return the wanted container; equal plans on equal hosts give equal specs."""
    entry = server.image
    assert entry is not None  # noqa: S101  # a container is made of an image
    wanted = runtime.wanted(server, models, places)
    return ContainerSpec(
        name=container_name(server.name),
        server=server.name,
        image=image,
        command=(*entry.command, *wanted.arguments),
        environment=tuple(sorted({**entry.environment, **dict(wanted.environment)}.items())),
        port=entry.port,
        mounts=wanted.mounts,
        tmpfs=entry.tmpfs,
        gpu=gpu,
        devices=server.devices,
        user=user_of(entry, wanted, pinned_files(models, places.store)),
        groups=device_groups(gpu),
        read_only_root=not entry.writable_root,
        memory_bytes=memory_limit(server.memory_bytes),
        shm_bytes=wanted.shm_bytes,
        pids=PIDS,
        health=entry.health,
    )


def memory_limit(planned_bytes: int) -> int:
    """Return the limit of main memory for what was planned; 0, none, where nothing was."""
    return planned_bytes + planned_bytes * SPARE_PERCENT // 100 + SPARE_BYTES if planned_bytes else 0


def pinned_files(models: Sequence[PlannedModel], store: Path) -> tuple[Path, ...]:
    """Return where the files of the models are in the store. Others there say nothing of these servers."""
    weights = [one.weights for one in models if one.weights is not None]
    return tuple(
        Path(store, inside.repo_folder(one.repo), "snapshots", one.revision, file.path)
        for one in weights
        for file in one.files
    )


def user_of(image: Image, wanted: Wanted, files: Sequence[Path] = ()) -> str:
    """Return whom a container runs as: whoever owns what it writes, else nobody, where everybody may read.

    Files that only their owner may read are read as their owner, root among them.

    Args:
        image: says whether it runs as any user.
        wanted: what is mounted, and what of it is written.
        files: what is read of the mounts.
    """
    if image.user != "any":
        return image.user
    if wanted.writes:
        return _owner(Path(wanted.writes)) or f"{os.getuid()}:{os.getgid()}"
    folders = [Path(one.source) for one in wanted.mounts]
    folders += [Path(folder, part) for folder in folders for part in ("blobs", "snapshots")]
    folders += [one.parent for one in files]
    closed = (_owner(path) for path in dict.fromkeys((*folders, *files)) if not _open(path))
    return next((owner for owner in closed if owner is not None), f"{NOBODY}:{NOBODY}")


def _owner(path: Path) -> str | None:
    try:
        there = path.stat()
    except OSError:
        return None
    return f"{there.st_uid}:{there.st_gid}"


def _open(path: Path) -> bool:
    """Tell whether everybody may read a file, or enter and list a folder; what is not there is open."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return True
    needed = OTHERS_ENTER if stat.S_ISDIR(mode) else OTHERS_READ
    return mode & needed == needed


def device_groups(gpu: GpuAccess) -> tuple[str, ...]:
    """Return the groups that own device files: an AMD card's belong to `render` and `video`."""
    groups: set[int] = set()
    for name in gpu.devices if gpu.style == "none" else ():
        path = Path(name)
        files = [path, *path.glob("renderD*")] if path.is_dir() else [path]
        for file in files:
            with contextlib.suppress(OSError):
                groups.add(file.stat().st_gid)
    return tuple(str(one) for one in sorted(groups - {0}))
