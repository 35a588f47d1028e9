"""A server of the plan as the container that it is to be."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import ContainerSpec, GpuAccess, Image, Mount, PlannedModel
from tasks.effects.containers.engine import spec_hash
from tasks.errors import ServeError
from tasks.serve import apply, runtimes
from tasks.serve.spec import NOBODY, PIDS, container_spec, device_groups, memory_limit, user_of
from tasks.serve.wanted import Places, Wanted
from tests.serve.serving import GIB, Lab, containers, image, pulled, server_of

IMAGE = "lab/llama.cpp@sha256:0"
ME = f"{os.getuid()}:{os.getgid()}"
AS_NOBODY = f"{NOBODY}:{NOBODY}"


def spec(lab: Lab, planned: PlannedModel, made_of: Image | None = None, **changes: object) -> ContainerSpec:
    """Return the container of one model."""
    server = server_of(planned, image=made_of or image(planned.runtime), **changes)
    runtime = next(one for one in runtimes.CONTAINERS if one.name == planned.runtime)
    return container_spec(server, (planned,), runtime, image=IMAGE, gpu=GpuAccess(), places=lab.places)


def test_hardened_unless_the_image_says_otherwise(lab: Lab) -> None:
    """Each exception stands in the image's entry."""
    plain = spec(lab, lab.model())
    given = spec(lab, lab.model(), image(writable_root=True, user="root", tmpfs=("/cache",), health=("ok",)))

    assert (True, AS_NOBODY, ()) == (plain.read_only_root, plain.user, plain.health)
    assert image().tmpfs == plain.tmpfs
    assert (False, "root", ("/cache",), ("ok",)) == (
        given.read_only_root,
        given.user,
        given.tmpfs,
        given.health,
    )
    assert PIDS == plain.pids
    assert all(one.read_only for one in plain.mounts)
    assert ((), "") == (plain.secrets, plain.secrets_digest)


def test_the_runtime_goes_before_the_image(lab: Lab) -> None:
    """And its settings before what its image gives; what must be so goes before both."""
    planned = lab.model(runtime="vllm")
    made = image("vllm", environment={"BOTH": "image", "GIVEN": "image", "HF_HUB_OFFLINE": "0"})

    found = spec(
        lab, planned, made, settings=(("BOTH", "setting"), ("VLLM_NO_USAGE_STATS", "0"), ("--flag", "x"))
    )

    environment = dict(found.environment)
    assert ("setting", "image") == (environment["BOTH"], environment["GIVEN"])
    assert ("1", "1") == (environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"])
    assert "--flag" not in environment


def test_the_images_command_stands_before_the_arguments(lab: Lab) -> None:
    """Some images have no entry point."""
    assert ("serve", "--model") == spec(lab, lab.model(), image(command=("serve",))).command[:2]


@pytest.mark.parametrize(("planned", "limit"), [(0, 0), (4 * GIB, 6 * GIB), (100, 125 + GIB)])
def test_limits_of_memory(planned: int, limit: int) -> None:
    """A quarter and 1 GiB more than planned; none where nothing was planned."""
    assert limit == memory_limit(planned)


def test_equal_plans_give_equal_hashes(lab: Lab) -> None:
    """In whatever order variables came, whatever the container is called, and whatever it may take: that is
    measured anew with each run.
    """
    one = spec(lab, lab.model(), image(environment={"A": "1", "B": "2"}))
    two = spec(lab, lab.model(), image(environment={"B": "2", "A": "1"}))

    assert spec_hash(one) == spec_hash(two) == spec_hash(replace(two, name="pmoves-else", memory_bytes=7))


@pytest.mark.parametrize(
    "change",
    [
        {"image": "lab/llama.cpp@sha256:1"},
        {"command": ("x",)},
        {"environment": (("A", "2"),)},
        {"mounts": ()},
        {"user": "1:1"},
        {"secrets_digest": "x"},
        {"gpu": GpuAccess("gpus", ("GPU-1",))},
        {"devices": ("gpu0",)},
    ],
    ids=lambda one: next(iter(one)),
)
def test_whatever_is_wanted_counts(lab: Lab, change: dict[str, object]) -> None:
    """Another want, another hash."""
    one = spec(lab, lab.model())

    assert spec_hash(one) != spec_hash(replace(one, **change))  # type: ignore[arg-type]


# --- whom it runs as -----------------------------------------------------------------------------


def test_what_everybody_may_read_is_read_by_nobody(lab: Lab) -> None:
    """A user that no host has."""
    assert AS_NOBODY == spec(lab, lab.model()).user


@pytest.mark.parametrize("part", ["", "snapshots", "snapshots/{r}", "snapshots/{r}/model.gguf"])
def test_what_only_its_owner_may_read_is_read_by_its_owner(lab: Lab, part: str) -> None:
    """A folder or a file; one that can be listed and not entered is as closed."""
    planned = lab.model()
    there = lab.places.store / "models--maker--qwen" / part.format(r="a" * 40)
    there.chmod(0o744 if there.is_dir() else 0o600)

    assert ME == spec(lab, planned).user


def test_files_of_others_in_the_same_repository_do_not_count(lab: Lab) -> None:
    """Another variant that is being downloaded must not replace a healthy server."""
    planned = lab.model()
    before = spec(lab, planned)
    blobs = lab.places.store / "models--maker--qwen" / "blobs"
    blobs.mkdir()
    (blobs / "other.part").touch(mode=0o600)

    assert spec_hash(before) == spec_hash(spec(lab, planned))


def test_what_is_written_is_written_by_its_owner(tmp_path: Path) -> None:
    """Ollama's folder, and where there is none yet, whoever will make it."""
    there, missing = Wanted(writes=str(tmp_path)), Wanted(writes=str(tmp_path / "missing"))

    assert {ME} == {user_of(image(), there), user_of(image(), missing)}


def test_an_image_with_a_user_of_its_own_keeps_it(tmp_path: Path) -> None:
    """Whoever owns the files."""
    tmp_path.chmod(0o700)

    assert "1000" == user_of(image(user="1000"), Wanted(mounts=(Mount(str(tmp_path), "/x"),)))


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("runtime", ["ollama", "speaches", "llama.cpp"])
def test_a_second_run_wants_the_same(lab: Lab, runtime: str, umask: int) -> None:
    """Though the first one made the folders: nothing healthy is replaced."""
    planned = lab.model(runtime=runtime)
    before = os.umask(umask)
    try:
        lab.bring_up(planned)
        (second,) = lab.finish(lab.run(planned), planned)
    finally:
        os.umask(before)

    assert "keep" == second.change.kind


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_mounted_is_there_and_open_before_it_is_made(lab: Lab, umask: int) -> None:
    """An engine refuses a folder that is not there, and nobody must be able to read the small cache."""
    planned = lab.model(runtime="speaches", server="speaches-cpu")
    before = os.umask(umask)
    missing: list[str] = []
    lab.engine.on_start = lambda made, _port: missing.extend(
        one.source for one in made.mounts if not Path(one.source).is_dir()
    )
    try:
        apply.serve(pulled(planned), lab.run(planned))
    finally:
        os.umask(before)

    hub = lab.places.state / "hubs" / "speaches-cpu"
    closed = [
        one for one in (hub, *hub.rglob("*")) if not one.is_symlink() and not one.stat().st_mode & 0o004
    ]
    assert ([], []) == (missing, closed)
    found = lab.engine.spec_of("pmoves-speaches-cpu-next")
    assert found is not None
    assert AS_NOBODY == found.user


def test_ollamas_folder_is_made_for_it(lab: Lab) -> None:
    """Before the first pull comes through it."""
    planned = lab.model(runtime="ollama", server="ollama-cpu")

    apply.prepare(planned, lab.run(planned))

    assert lab.places.ollama.is_dir()


def test_a_folder_that_cannot_be_made_is_named(lab: Lab) -> None:
    """Nothing is stopped for it."""
    planned = lab.model(runtime="ollama", server="ollama-cpu")
    lab.places.ollama.write_text("a file")
    ctx = lab.run(planned)

    with pytest.raises(
        ServeError, match=r"ollama, which ollama-cpu needs, cannot be written \(File exists\)"
    ):
        apply.prepare(planned, ctx)

    assert containers(ctx).ledger.entries == {}


def test_groups_of_an_amd_cards_files(tmp_path: Path) -> None:
    """Those of the files, not of root; none for what the engine hands out."""
    (tmp_path / "renderD128").touch()
    os.chown(tmp_path / "renderD128", -1, 44) if os.getuid() == 0 else None

    expected = ("44",) if os.getuid() == 0 else (str(os.getgid()),)
    assert expected == device_groups(GpuAccess("none", (str(tmp_path), "/missing")))
    assert () == device_groups(GpuAccess("gpus", (str(tmp_path),)))


def test_places_of_the_plan_are_what_is_mounted(lab: Lab) -> None:
    """Of the store, only the folders of the models' repositories."""
    found = spec(lab, lab.model())

    assert Places(lab.tmp / "store", lab.tmp / "ollama", lab.tmp / "state") == lab.places
    assert (
        Mount(str(lab.tmp / "store/models--maker--qwen"), "/weights/models--maker--qwen"),
    ) == found.mounts
