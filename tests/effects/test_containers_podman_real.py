"""The same seam over podman, as far as it goes: ordinary containers, and no GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tasks.contracts import GpuAccess
from tasks.effects.containers import EngineError
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import ImageMissingError, NameTakenError, NoGpuError
from tests.lab import engine_podman, images
from tests.lab.engine_fixtures import eventually, nothing, shell_spec
from tests.lab.engine_podman import PodmanLab
from tests.lab.engine_registry import RegistryLab
from tests.lab.environment import free_port

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def podman(registry_lab: RegistryLab) -> Iterator[Docker]:
    """Return the seam over a podman of the tests' own."""
    why = engine_podman.missing()
    if why:
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="pmoves-lab-podman-") as folder,
        PodmanLab(Path(folder), registry_port=registry_lab.port) as lab,
    ):
        docker = Docker(lab.address, "lab-podman")
        yield docker
        for one in docker.containers():
            docker.remove(one.id)
        docker.close()


@pytest.fixture(scope="module")
def image(podman: Docker, registry_lab: RegistryLab) -> str:
    """Return a pinned image that podman has pulled."""
    pinned = registry_lab.push("lab/podman", [images.busybox_layer()], environment=("PATH=/bin",))
    assert not podman.has_image(pinned)
    podman.pull(pinned, on_bytes=nothing)
    assert podman.has_image(pinned)
    return pinned


def test_a_container_lives_as_in_docker(podman: Docker, image: str) -> None:
    """Hardened, listed, looked into, renamed, stopped and removed."""
    assert podman.info().podman
    script = (
        "grep -E 'CapBnd|NoNewPrivs' /proc/self/status; touch /x 2>&1; echo end >&2; sleep 601 & sleep 602"
    )
    spec = shell_spec(image, script, memory_bytes=64 << 20, pids=50, health=("true",))
    made = podman.create(spec, host_port=free_port())
    podman.start(made.id)

    text = eventually(lambda: podman.logs(made.id) if "end" in podman.logs(made.id) else "")

    assert "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\ntouch: /x: Read-only file system\nend\n" == text
    (seen,) = podman.containers()
    assert (made.id, "running", made.published) == (seen.id, seen.state, seen.published)
    names = {Path(f"/proc/{pid}/cmdline").read_bytes() for pid in podman.pids(made.id)}
    assert {b"sleep\x00601\x00", b"sleep\x00602\x00"} <= names
    with pytest.raises(NameTakenError):
        podman.create(spec, host_port=free_port())
    podman.rename(made.id, "other-name")
    podman.stop(made.id, timeout_s=0)
    assert ("exited", ()) == (podman.find("other-name").state, podman.pids(made.id))  # type: ignore[union-attr]
    podman.remove(made.id)
    podman.remove(made.id)
    assert podman.inspect(made.id) is None


def test_a_container_has_the_hosts_network(podman: Docker, image: str) -> None:
    """It listens on the host's loopback, and needs no network of ours."""
    port = free_port()
    script = f"cd /tmp && echo here > it && exec httpd -f -p 127.0.0.1:{port}"
    spec = shell_spec(image, script, host_network=True, entrypoint=("sh", "-c", 'exec "$@"', "sh"))
    made = podman.create(spec, host_port=port)
    podman.start(made.id)

    def answer() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/it", timeout=5, trust_env=False).text
        except httpx.HTTPError:
            return ""

    assert "here\n" == eventually(answer)
    assert port == made.published
    podman.remove(made.id)


@pytest.mark.parametrize("style", ["cdi", "gpus", "runtime"])
def test_a_gpu_is_refused(podman: Docker, image: str, style: str) -> None:
    """It would run the container without one, and say nothing."""
    spec = shell_spec(image, "exec sleep 600", gpu=GpuAccess(style, ("all",)))  # type: ignore[arg-type]

    with pytest.raises(NoGpuError, match=r"^podman takes a request for GPUs without a word"):
        podman.create(spec, host_port=free_port())

    assert podman.find(spec.name) is None


def test_what_it_cannot_do_is_said(podman: Docker, image: str) -> None:
    """It asks no registry for a digest; what a registry does not have is missing, as ever."""
    with pytest.raises(EngineError, match=r"podman, for one, asks no registry for a digest"):
        podman.digest_of(f"{image.partition('@')[0]}:1")
    with pytest.raises(ImageMissingError):
        podman.pull(f"{image[:-4]}0000", on_bytes=nothing)
