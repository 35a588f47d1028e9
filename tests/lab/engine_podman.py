"""Podman's service with Docker's interface, for tests: its own socket, storage and networks.

with PodmanLab(folder, registry_port=5000) as lab:
    ... lab.address ...

Runs containers with runc, because crun, Debian's default, refuses hosts that have both kinds of cgroups.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import docker

from tests.lab.engine import PATH, end_processes, interfaces_in, run, unmount_below
from tests.lab.environment import clean_environment

START_S = 20.0
POOL = ipaddress.ip_network("10.215.0.0/24")
PROGRAMS = ("podman", "runc", "conmon", "iptables")
CONTAINERS = """
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
default_subnet_pools = [{{"base" = "{pool}", "size" = 27}}]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""
REGISTRIES = """
[[registry]]
location = "127.0.0.1:{port}"
insecure = true
"""


def missing() -> str:
    """Return what keeps podman from running here; "" for nothing."""
    if os.geteuid() != 0:
        return "a podman service of one's own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"{', '.join(absent)} is not installed; .ci/run installs it" if absent else ""


class PodmanLab:
    """The service. Used as a context manager; `address` is where it answers."""

    def __init__(self, folder: Path, *, registry_port: int) -> None:
        self._folder = folder
        self._port = registry_port

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        containers, registries = self._folder / "containers.conf", self._folder / "registries.conf"
        containers.write_text(CONTAINERS.format(folder=self._folder, pool=POOL))
        registries.write_text(REGISTRIES.format(port=self._port))
        environment = clean_environment(
            PATH=PATH,
            HOME=str(self._folder),
            CONTAINERS_CONF=str(containers),
            CONTAINERS_REGISTRIES_CONF=str(registries),
        )
        places = [f"--{one}={self._folder}/{one}" for one in ("root", "runroot", "tmpdir")]
        command = [
            "setpriv",
            "--pdeathsig=TERM",
            "podman",
            *places,
            "system",
            "service",
            "--time=0",
            self.address,
        ]
        with (self._folder / "podman.log").open("ab") as log:
            self._service = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._await_answer()
        return self

    def __exit__(self, *_error: object) -> None:
        self._service.terminate()
        self._service.wait()
        end_processes(self._folder)
        unmount_below(self._folder)
        for name in interfaces_in(POOL):
            run("ip", "link", "delete", name, check=False)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"unix://{self._folder}/podman.sock"

    def _await_answer(self) -> None:
        ends = time.monotonic() + START_S
        while time.monotonic() < ends and self._service.poll() is None:
            with contextlib.suppress(docker.errors.DockerException):
                docker.APIClient(base_url=self.address, version="auto").close()
                return
            time.sleep(0.1)
        self.__exit__()
        raise AssertionError(f"podman did not come up: {(self._folder / 'podman.log').read_text()[-2000:]}")
