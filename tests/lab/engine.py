"""A Docker engine of its own, for tests: its own socket, data, bridge and networks, and nobody else's.

with EngineLab() as lab:
    ... lab.address ... lab.kill() ... lab.start() ...

Needs root and dockerd (docs.docker.com/reference/cli/dockerd, "Run multiple daemons"). Each engine takes a
slot, /tmp/pmoves-lab-engine-N, whose lock the kernel drops when its process dies; what was left there is
cleared away by the next one. What it adds to the host, and takes away again: bridges, and iptables rules
that name them.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import docker

from tests.lab.environment import clean_environment

SLOTS = 16
START_S = 30.0
END_S = 20.0
PROGRAMS = ("dockerd", "containerd", "runc", "docker-init", "iptables", "ip")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Return what keeps an engine from running here; "" for nothing."""
    if os.geteuid() != 0:
        return "a container engine of one's own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"{', '.join(absent)} is not installed; .ci/run installs it" if absent else ""


class EngineLab:
    """The engine. Used as a context manager; `address` is where it answers.

    With `data_bytes`, its data is on a file system of that size.
    """

    def __init__(self, *, data_bytes: int = 0) -> None:
        self._data_bytes = data_bytes
        self._engine: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._slot, self._lock = _take_slot()
        self.folder = Path(f"/tmp/pmoves-lab-engine-{self._slot}")  # noqa: S108  # sockets need short paths
        self.bridge = f"pml{self._slot}"
        self.pool = ipaddress.ip_network(f"10.213.{self._slot}.0/24")
        try:
            self._clear()
            self.folder.mkdir(mode=0o711)
            if self._data_bytes:
                (self.folder / "data").mkdir()
                size = f"size={self._data_bytes}"
                run("mount", "-t", "tmpfs", "-o", size, "tmpfs", f"{self.folder}/data")
            self._add_bridge()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._end()
        self._clear()
        os.close(self._lock)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"unix://{self.folder}/docker.sock"

    @property
    def log(self) -> str:
        """What it said, for a test that failed."""
        return (self.folder / "dockerd.log").read_text(errors="replace")

    def client(self) -> docker.APIClient:
        """Return a client of the SDK, for what a test wants to see or break."""
        return docker.APIClient(base_url=self.address, version="auto", timeout=60)

    def start(self) -> None:
        """Start it, again after `kill`, and wait until it answers."""
        (self.folder / "pid").unlink(missing_ok=True)
        command = [
            "setpriv",
            "--pdeathsig=TERM",
            "dockerd",
            f"--host={self.address}",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            f"--bridge={self.bridge}",
            f"--config-file={self._write_config()}",
        ]
        with (self.folder / "dockerd.log").open("ab") as log:
            environment = clean_environment(PATH=PATH, HOME=str(self.folder))
            self._engine = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._await_answer()

    def kill(self) -> None:
        """End it as a crash would: nothing is stopped, nothing is said."""
        if self._engine is not None:
            self._engine.kill()
            self._engine.wait()
        # Its containerd dies with it. Until somebody reaps that one, its number seems to be in use, and the
        # next engine would wait for it.
        number = self.folder / "exec/containerd/containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(number.read_text()), signal.SIGKILL)
        number.unlink(missing_ok=True)

    def _write_config(self) -> Path:
        path = self.folder / "daemon.json"
        pools = [{"base": str(self.pool), "size": 27}]
        config = {"default-address-pools": pools, "ip-forward": False, "shutdown-timeout": 2}
        path.write_text(json.dumps(config))
        return path

    def _await_answer(self) -> None:
        ends = time.monotonic() + START_S
        while time.monotonic() < ends:
            with contextlib.suppress(docker.errors.DockerException):
                self.client().close()
                return
            if self._engine is None or self._engine.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"dockerd did not come up: {self.log[-2000:]}")

    def _add_bridge(self) -> None:
        gateway = next(ipaddress.ip_network(f"10.214.{self._slot}.0/24").hosts())
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{gateway}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def _end(self) -> None:
        if self._engine is None:
            return
        self._engine.terminate()
        try:
            self._engine.wait(END_S)
        except subprocess.TimeoutExpired:
            self._engine.kill()
            self._engine.wait()

    def _clear(self) -> None:
        """Take away whatever an engine in this slot left, however it ended."""
        end_processes(self.folder)
        unmount_below(self.folder)
        for name in [*interfaces_in(self.pool), self.bridge]:
            _drop_rules(name)
            run("ip", "link", "delete", name, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _take_slot() -> tuple[int, int]:
    for slot in range(SLOTS):
        path = f"/tmp/pmoves-lab-engine-{slot}.lock"  # noqa: S108  # the same
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return slot, lock
    raise AssertionError(f"{SLOTS} engines run already")


def end_processes(folder: Path) -> None:
    """Kill what still names the folder on its command line: an engine, its containerd, the shims."""
    for _again in range(50):
        left = list(_processes_of(folder))
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _processes_of(folder: Path) -> Iterator[int]:
    mark = f"{folder}/".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            named = mark in (path / "cmdline").read_bytes()
            parent = (path / "stat").read_text().rpartition(")")[2].split()
            if named and parent[0] != "Z":
                yield from _children(path.name)
                yield int(path.name)


def _children(pid: str) -> Iterator[int]:
    """Yield a shim's containers: they outlive it."""
    with contextlib.suppress(OSError):
        for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _children(one)
            yield int(one)


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, the innermost first."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([one for one in mounts if Path(one).is_relative_to(folder)]):
        run("umount", "--lazy", mount, check=False)


def interfaces_in(pool: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    """Return the network interfaces whose address is in a pool."""
    found = run("ip", "-j", "-4", "address", check=False).stdout or "[]"
    return [
        one["ifname"]
        for one in json.loads(found)
        for address in one.get("addr_info", ())
        if ipaddress.ip_address(address["local"]) in pool
    ]


def _drop_rules(interface: str) -> None:
    for table in ("nat", "filter"):
        for line in run("iptables", "-w", "-t", table, "-S", check=False).stdout.splitlines():
            words = line.split()
            if interface in words and words[0] == "-A":
                run("iptables", "-w", "-t", table, "-D", *words[1:], check=False)


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command, and keep what it prints."""
    return subprocess.run(
        command, capture_output=True, text=True, check=check, env=clean_environment(PATH=PATH)
    )
