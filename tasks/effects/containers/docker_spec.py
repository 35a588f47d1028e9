"""ContainerSpec → the body of POST /containers/create. Pure; every hardening of a container is here.

root            read-only, but for the tmpfs folders of the spec
privileges      no capability, and none to be gained
network         a bridge of its own; published on 127.0.0.1 alone. Or the host's, where the spec asks for that
memory          no swap beyond the limit; a limit on processes
log             three files of 5 MB
restarts        until it is stopped. A server must survive a reboot, which `on-failure:N` does not, and
one that falls at once is not hidden: the engine waits longer each time, up to a
minute, and counts (`ContainerState.restarts`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.contracts import ContainerSpec, GpuAccess, GpuStyle
from tasks.effects.containers.engine import HOST, LABEL, NETWORK, labels
from tasks.effects.containers.info import EngineInfo

TMPFS_BYTES = 1 << 30
TMPFS_FLAGS = ("noexec", "nosuid", "nodev")
SECRETS = "/run/secrets"
SECOND_NS = 1_000_000_000

# "void" tells the NVIDIA runtime to hand out nothing, should it be the engine's default while the image says
# "all": docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html
NO_GPU = "void"
NO_INIT = "N/A"
VISIBLE = "NVIDIA_VISIBLE_DEVICES"

ON_DEMAND: tuple[GpuStyle, ...] = ("cdi", "gpus", "runtime")
"""The styles by which an engine is asked for GPUs, rather than for files below /dev."""


def container_body(spec: ContainerSpec, *, owner: str, host_port: int, init: bool = True) -> dict[str, Any]:
    """Return the body of the request that makes a container.

    Args:
        spec: What is wanted.
        owner: Who makes it.
        host_port: Where it is published on 127.0.0.1.
        init: Whether the engine has a program that reaps the server's dead children.
    """
    return {
        "Image": spec.image,
        **({"Entrypoint": list(spec.entrypoint)} if spec.entrypoint else {}),
        "Cmd": list(spec.command) or None,
        "Env": _environment(spec),
        "User": spec.user,
        "ExposedPorts": {} if spec.host_network else {f"{spec.port}/tcp": {}},
        "Labels": labels(spec, owner) | {f"{LABEL}.port": str(host_port)},
        "Healthcheck": _health(spec.health),
        "StopTimeout": spec.stop_timeout_s,
        "HostConfig": _host(spec, host_port, init=init),
        **({} if spec.host_network else {"NetworkingConfig": {"EndpointsConfig": {NETWORK: {}}}}),
    }


def has_init(answer: Mapping[str, Any], info: EngineInfo) -> bool:
    """Tell from the answer of GET /info whether the engine has an init program; podman does not say."""
    return not info.podman and (answer.get("InitCommit") or {}).get("ID", NO_INIT) != NO_INIT


def unfit(gpu: GpuAccess, info: EngineInfo) -> str:
    """Return why an engine cannot hand out what a container asks for, as far as it tells before; else ""."""
    by_engine = [one for one in gpu.devices if not one.startswith("/")]
    if gpu.style in ON_DEMAND and info.podman:
        return "podman takes a request for GPUs without a word and hands out none"
    if gpu.style == "cdi" and not info.cdi_folders:
        return "the engine does not hand out CDI devices; Docker does from release 25 on"
    if gpu.style == "runtime" and "nvidia" not in info.runtimes:
        return "the engine has no runtime nvidia"
    if gpu.style not in ON_DEMAND and by_engine:
        return f"it is not known how the engine would hand out {by_engine[0]}"
    return ""


def _host(spec: ContainerSpec, host_port: int, *, init: bool) -> dict[str, Any]:
    published = [{"HostIp": "127.0.0.1", "HostPort": str(host_port)}]
    return {
        "NetworkMode": HOST if spec.host_network else NETWORK,
        "PortBindings": {} if spec.host_network else {f"{spec.port}/tcp": published},
        "ReadonlyRootfs": spec.read_only_root,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": dict(_tmpfs(one) for one in spec.tmpfs),
        "Mounts": _mounts(spec),
        "GroupAdd": list(spec.groups),
        "PidsLimit": spec.pids or None,
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,
        "ShmSize": spec.shm_bytes or None,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "3"}},
        "RestartPolicy": {"Name": "unless-stopped"},
        "Init": init,
        **_gpu(spec.gpu),
    }


def _environment(spec: ContainerSpec) -> list[str]:
    named = dict(spec.environment)
    if spec.gpu.style == "runtime":
        named[VISIBLE] = ",".join(spec.gpu.devices) or NO_GPU
    elif spec.gpu.style not in ON_DEMAND:
        named.setdefault(VISIBLE, NO_GPU)
    return [f"{name}={value}" for name, value in sorted(named.items())]


def _gpu(gpu: GpuAccess) -> dict[str, Any]:
    return GPU_STYLES[gpu.style](list(gpu.devices))


def _cdi(devices: list[str]) -> dict[str, Any]:
    return {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": devices}]}


def _gpus(devices: list[str]) -> dict[str, Any]:
    which: dict[str, Any] = {"Count": -1} if devices == ["all"] else {"DeviceIDs": devices}
    return {"DeviceRequests": [{**which, "Capabilities": [["gpu"]]}]}


def _runtime(_devices: list[str]) -> dict[str, Any]:
    return {"Runtime": "nvidia"}


def _files(devices: list[str]) -> dict[str, Any]:
    return {
        "Devices": [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"} for path in devices
        ]
    }


GPU_STYLES = {"cdi": _cdi, "gpus": _gpus, "runtime": _runtime, "none": _files, "unknown": _files}


def _tmpfs(text: str) -> tuple[str, str]:
    """Turn "/tmp" or "/tmp:size=64m,exec" into a folder and its options; what the text says is kept."""
    folder, _, given = text.partition(":")
    options = [one for one in given.split(",") if one]
    flags = [one for one in TMPFS_FLAGS if one not in options and one.removeprefix("no") not in options]
    size = [] if any(one.startswith("size=") for one in options) else [f"size={TMPFS_BYTES}"]
    return folder, ",".join(["rw", *flags, *size, *options])


def _mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    """Return binds that fail when their source is not there; the older kind of bind would make folders."""
    wanted = [(one.source, one.target, one.read_only) for one in spec.mounts]
    wanted += [(source, f"{SECRETS}/{name}", True) for name, source in spec.secrets]
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in wanted
    ]


def _health(command: tuple[str, ...]) -> dict[str, Any]:
    if not command:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", *command],
        "Interval": 10 * SECOND_NS,
        "Timeout": 5 * SECOND_NS,
        "StartPeriod": 120 * SECOND_NS,
        "Retries": 3,
    }
