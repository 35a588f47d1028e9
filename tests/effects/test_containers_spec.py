"""What the engine is asked for: every hardening, and nothing that a spec does not say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import ContainerSpec, GpuAccess, GpuStyle, Mount
from tasks.effects.containers import EngineInfo
from tasks.effects.containers.docker_spec import container_body, has_init, unfit
from tasks.effects.containers.engine import labels, owner_of, spec_hash

ROOT = Path(__file__).parents[2]
IMAGE = f"ghcr.io/x/y@sha256:{'a' * 64}"
SPEC = ContainerSpec(
    name="pmoves-llm",
    server="llm",
    image=IMAGE,
    command=("--port", "8080"),
    environment=(("B", "2"), ("A", "1")),
    port=8080,
    mounts=(Mount("/store/m", "/weights/m"), Mount("/state/o", "/models", read_only=False)),
    tmpfs=("/tmp",),  # noqa: S108  # inside
    secrets=(("key", "/state/key"),),
    user="10001:10001",
    groups=("44",),
    memory_bytes=8 << 30,
    shm_bytes=1 << 30,
    pids=512,
    devices=("gpu0",),
)


def body(**changes: object) -> dict[str, object]:
    """Return the request for a changed spec."""
    return container_body(replace(SPEC, **changes), owner="me", host_port=18080)  # type: ignore[arg-type]


def host(**changes: object) -> dict[str, object]:
    """Return its part about the host."""
    return body(**changes)["HostConfig"]  # type: ignore[return-value]


def test_the_whole_request() -> None:
    """Read it once; it is what runs on people's machines."""
    assert {
        "Image": IMAGE,
        "Cmd": ["--port", "8080"],
        "Env": ["A=1", "B=2", "NVIDIA_VISIBLE_DEVICES=void"],
        "User": "10001:10001",
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {
            "ai.pmoves.owner": "me",
            "ai.pmoves.server": "llm",
            "ai.pmoves.spec-hash": spec_hash(SPEC),
            "ai.pmoves.spec-version": "1",
            "ai.pmoves.image": IMAGE,
            "ai.pmoves.devices": "gpu0",
            "ai.pmoves.port": "18080",
        },
        "Healthcheck": {"Test": ["NONE"]},
        "StopTimeout": 30,
        "HostConfig": {
            "NetworkMode": "pmoves",
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]},
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=1073741824"},  # noqa: S108  # inside
            "Mounts": [
                {"Type": "bind", "Source": "/store/m", "Target": "/weights/m", "ReadOnly": True},
                {"Type": "bind", "Source": "/state/o", "Target": "/models", "ReadOnly": False},
                {"Type": "bind", "Source": "/state/key", "Target": "/run/secrets/key", "ReadOnly": True},
            ],
            "GroupAdd": ["44"],
            "PidsLimit": 512,
            "Memory": 8 << 30,
            "MemorySwap": 8 << 30,
            "ShmSize": 1 << 30,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "3"}},
            "RestartPolicy": {"Name": "unless-stopped"},
            "Init": True,
            "Devices": [],
        },
        "NetworkingConfig": {"EndpointsConfig": {"pmoves": {}}},
    } == body()


def test_with_the_hosts_network_nothing_is_published() -> None:
    """And no other network is named; all the rest is as it was. The label has where it listens itself."""
    told = body(host_network=True)
    before = body()

    assert "host" == told["HostConfig"].pop("NetworkMode")  # type: ignore[attr-defined]
    assert {} == told["HostConfig"].pop("PortBindings")  # type: ignore[attr-defined]
    assert {} == told.pop("ExposedPorts")
    assert "18080" == told["Labels"]["ai.pmoves.port"]  # type: ignore[index]
    for one in ("NetworkMode", "PortBindings"):
        del before["HostConfig"][one]  # type: ignore[attr-defined]
    del before["ExposedPorts"], before["NetworkingConfig"]
    for each in (told, before):
        del each["Labels"]["ai.pmoves.spec-hash"]  # type: ignore[attr-defined]
    assert before == told


def test_an_entrypoint_stands_before_the_command() -> None:
    """In place of the image's own; what a spec does not say is left to the image."""
    told = body(entrypoint=("sh", "-c", "exec server", "server"))

    assert ["sh", "-c", "exec server", "server"] == told["Entrypoint"]
    assert ["--port", "8080"] == told["Cmd"]
    assert "Entrypoint" not in body()


def test_a_size_of_zero_sets_no_limit() -> None:
    """As the spec says."""
    free = host(memory_bytes=0, shm_bytes=0, pids=0)

    assert (0, 0, None, None) == tuple(free[one] for one in ("Memory", "MemorySwap", "ShmSize", "PidsLimit"))


@pytest.mark.parametrize(
    ("style", "devices", "wanted", "variable"),
    [
        (
            "cdi",
            ("nvidia.com/gpu=0",),
            {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}]},
            [],
        ),
        (
            "gpus",
            ("GPU-1", "GPU-2"),
            {"DeviceRequests": [{"DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}]},
            [],
        ),
        ("gpus", ("all",), {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}, []),
        ("runtime", ("GPU-1", "GPU-2"), {"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=GPU-1,GPU-2"]),
        (
            "none",
            ("/dev/kfd",),
            {
                "Devices": [
                    {"PathOnHost": "/dev/kfd", "PathInContainer": "/dev/kfd", "CgroupPermissions": "rwm"}
                ]
            },
            ["NVIDIA_VISIBLE_DEVICES=void"],
        ),
    ],
)
def test_each_style_asks_for_its_devices_alone(
    style: GpuStyle, devices: tuple[str, ...], wanted: dict[str, object], variable: list[str]
) -> None:
    """Nothing of another style is in the request."""
    gpu = GpuAccess(style, devices)
    asked = {key: host(gpu=gpu).get(key) for key in ("DeviceRequests", "Runtime", "Devices")}
    set_here = [one for one in body(gpu=gpu)["Env"] if one.startswith("NVIDIA")]  # type: ignore[attr-defined]

    assert wanted == {key: value for key, value in asked.items() if value}
    assert variable == set_here


@pytest.mark.parametrize(
    ("text", "folder", "options"),
    [
        ("/tmp", "/tmp", "rw,noexec,nosuid,nodev,size=1073741824"),  # noqa: S108  # inside
        ("/c:size=64m", "/c", "rw,noexec,nosuid,nodev,size=64m"),
        ("/c:exec,mode=0700", "/c", "rw,nosuid,nodev,size=1073741824,exec,mode=0700"),
        ("/c:noexec", "/c", "rw,nosuid,nodev,size=1073741824,noexec"),
    ],
)
def test_a_tmpfs_says_only_what_is_different(text: str, folder: str, options: str) -> None:
    """Compilers need to run what they wrote, and can say so."""
    assert {folder: options} == host(tmpfs=(text,))["Tmpfs"]


def test_a_health_command_has_time_to_load() -> None:
    """Two minutes, in the engine's nanoseconds."""
    health = body(health=("curl", "-f", "x"))["Healthcheck"]

    assert {
        "Test": ["CMD", "curl", "-f", "x"],
        "Interval": 10_000_000_000,
        "Timeout": 5_000_000_000,
        "StartPeriod": 120_000_000_000,
        "Retries": 3,
    } == health


DOCKER = EngineInfo("28", runtimes=("nvidia", "runc"), cdi_folders=("/etc/cdi",))


@pytest.mark.parametrize("style", ["cdi", "gpus", "runtime"])
def test_podman_is_asked_for_no_gpu(style: GpuStyle) -> None:
    """It would say yes and hand out none; files it does hand out."""
    podman = EngineInfo("4.3.1", podman=True, runtimes=("nvidia",), cdi_folders=("/etc/cdi",))

    assert "" == unfit(GpuAccess(style, ("x",)), DOCKER)
    assert "podman takes a request" in unfit(GpuAccess(style, ("x",)), podman)
    assert "" == unfit(GpuAccess("none", ("/dev/kfd",)), podman)


def test_an_engine_that_tells_it_before_is_asked_before() -> None:
    """Of CDI and of runtimes; of device requests it does not tell."""
    plain = EngineInfo("20.10", runtimes=("runc",))

    assert "does not hand out CDI devices" in unfit(GpuAccess("cdi", ("x",)), plain)
    assert "no runtime nvidia" in unfit(GpuAccess("runtime", ("x",)), plain)
    assert "" == unfit(GpuAccess("gpus", ("x",)), plain)
    assert "not known how" in unfit(GpuAccess("unknown", ("GPU-1",)), DOCKER)
    assert "" == unfit(GpuAccess("unknown"), DOCKER)


@pytest.mark.parametrize(
    ("answer", "podman", "there"),
    [
        ({"InitCommit": {"ID": "de40ad0"}}, False, True),
        ({"InitCommit": {"ID": ""}}, False, True),
        ({"InitCommit": {"ID": "N/A"}}, False, False),
        ({}, False, False),
        ({"InitCommit": {"ID": ""}}, True, False),
    ],
)
def test_an_init_program_is_used_where_there_is_one(
    answer: dict[str, object], *, podman: bool, there: bool
) -> None:
    """An engine without it would refuse to start the container."""
    assert there == has_init(answer, EngineInfo("1", podman=podman))


def test_the_hash_is_of_all_but_name_and_memory() -> None:
    """Two names of one spec are equal, and two limits; anything else is not."""
    assert spec_hash(SPEC) == spec_hash(replace(SPEC, name="pmoves-llm-next", memory_bytes=1))
    for changed in (
        replace(SPEC, image=f"{IMAGE[:-1]}b"),
        replace(SPEC, environment=()),
        replace(SPEC, secrets_digest="x"),
        replace(SPEC, gpu=GpuAccess("gpus", ("GPU-1",))),
        replace(SPEC, host_network=True),
        replace(SPEC, entrypoint=("sh",)),
    ):
        assert spec_hash(SPEC) != spec_hash(changed)
    assert labels(SPEC, "me")["ai.pmoves.spec-hash"] == spec_hash(SPEC)


def test_a_later_field_replaces_no_container() -> None:
    """The hash of a spec that does not use it is that of the releases before: what runs stays."""
    before = "23ca0c2c983bdc2234fd267be6e18bad5bf521c7aaf1054f9ac50c66053ecbcf"

    assert before == spec_hash(SPEC)


def test_two_state_folders_are_two_owners() -> None:
    """On one host, or with one folder's name on two."""
    assert 3 == len({owner_of("a", Path("/x")), owner_of("a", Path("/y")), owner_of("b", Path("/x"))})


def test_the_sdk_is_loaded_when_an_engine_is_asked() -> None:
    """Not before: it takes half a second that most commands need not pay."""
    look = (
        "import sys; from tasks.effects.containers import memory; "
        "from tasks.effects.containers.docker import Docker; "
        "Docker('unix:///x', 'me').close(); print(sorted({'docker', 'requests'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "[]\n" == told.stdout
