"""Containers on a real Docker engine: what they may do, how they end, and whose they are."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import httpx
import pytest

from tasks.contracts import ContainerState, GpuAccess, Mount
from tasks.effects.containers import EngineError
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import (
    NETWORK,
    ContainerGoneError,
    ImageMissingError,
    NameTakenError,
    NoGpuError,
    NotOursError,
    PortBusyError,
    spec_hash,
)
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import eventually, shell_spec
from tests.lab.environment import free_port

pytestmark = pytest.mark.real

LOOK = """
grep -E '^(Uid|CapBnd|CapEff|NoNewPrivs|Groups)' /proc/self/status
touch /in-root 2>&1; touch /weights/x 2>&1; touch /run/secrets/key 2>&1
echo weights: $(cat /weights/model); echo secret: $(cat /run/secrets/key)
grep ' /tmp ' /proc/mounts
echo $A; echo $NVIDIA_VISIBLE_DEVICES
cp /bin/busybox /tmp/true && /tmp/true 2>&1
echo done; exec sleep 600
"""


def ran(containers: Docker, image: str, script: str, **more: object) -> ContainerState:
    """Start a script in a container of its own."""
    made = containers.create(shell_spec(image, script, **more), host_port=free_port())
    containers.start(made.id)
    return made


def logged(containers: Docker, made: ContainerState, word: str) -> str:
    """Return a container's log, once it has that word."""

    def told() -> str:
        text = containers.logs(made.id)
        return text if word in text else ""

    return eventually(told)


def test_a_container_can_do_only_what_its_spec_says(
    containers: Docker, busybox_image: str, tmp_path: Path
) -> None:
    """Seen from inside: no capability, no new ones, nothing to write but the tmpfs, nothing to run there."""
    folder = tmp_path / "weights"
    folder.mkdir(mode=0o755)
    for path in (folder / "model", tmp_path / "key"):
        path.write_text(f"the {path.name}")

    made = ran(
        containers,
        busybox_image,
        LOOK,
        environment=(("A", "b=c"),),
        mounts=(Mount(str(folder), "/weights"),),
        secrets=(("key", str(tmp_path / "key")),),
        groups=("44",),
    )
    text = " ".join(logged(containers, made, "done").split())

    for fact in (
        "Uid: 10001 10001 10001 10001",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Groups: 44",
        "touch: /in-root: Read-only file system",
        "touch: /weights/x: Read-only file system",
        "touch: /run/secrets/key: Read-only file system",
        "weights: the model secret: the key",
        "tmpfs /tmp tmpfs rw,nosuid,nodev,noexec,relatime,size=1048576k",
        "b=c void",
        "/tmp/true: Permission denied",  # noqa: S108  # inside
    ):
        assert fact in text


def test_with_the_hosts_network_it_listens_on_the_hosts_loopback(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Nothing is published, no network of ours is made for it, and its entrypoint is the spec's."""
    client = engine_lab.client()
    with contextlib.suppress(docker.errors.NotFound):
        client.remove_network(NETWORK)
    port = free_port()
    script = f"cd /tmp && echo here > it && exec httpd -f -p 127.0.0.1:{port}"
    made = ran(
        containers,
        busybox_image,
        script,
        host_network=True,
        entrypoint=("sh", "-c", 'echo wrapped; exec "$@"', "sh"),
        port=port,
    )

    def answer() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/it", timeout=5, trust_env=False).text
        except httpx.HTTPError:
            return ""

    assert "here\n" == eventually(answer)
    seen, others = client.inspect_container(made.id), client.networks(names=[NETWORK])
    client.close()
    assert [] == others
    assert ["host"] == list(seen["NetworkSettings"]["Networks"])
    assert "wrapped\n" == containers.logs(made.id)
    containers.stop(made.id, timeout_s=0)
    containers.start(made.id)
    assert "here\n" == eventually(answer)


def test_limits_are_those_of_the_kernel(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Of the container's own groups, and of what the engine keeps of its log."""
    made = ran(containers, busybox_image, "exec sleep 600", memory_bytes=64 << 20, pids=40, shm_bytes=8 << 20)
    containers.start(made.id)
    pid = containers.pids(made.id)[0]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    groups = {line.split(":")[1]: line.split(":")[2] for line in lines}
    limits = engine_lab.client().inspect_container(made.id)["HostConfig"]

    if "memory" in groups:
        assert "67108864" == _limit("memory", groups, "memory.limit_in_bytes")
        assert "40" == _limit("pids", groups, "pids.max")
    else:
        assert "67108864" == _limit("", groups, "memory.max")
        assert "40" == _limit("", groups, "pids.max")
    assert (64 << 20, 64 << 20, 8 << 20) == (limits["Memory"], limits["MemorySwap"], limits["ShmSize"])
    assert {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "3"}} == limits["LogConfig"]


def _limit(controller: str, groups: dict[str, str], name: str) -> str:
    return (Path("/sys/fs/cgroup") / controller / groups[controller].lstrip("/") / name).read_text().strip()


def test_it_is_published_on_loopback_alone(containers: Docker, busybox_image: str) -> None:
    """On the port that was asked for, and on no other address of the host."""
    made = ran(containers, busybox_image, "mkdir /tmp/w; echo hello > /tmp/w/a; httpd -f -p 8080 -h /tmp/w")

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", made.published), 2) as client:
                client.sendall(b"GET /a HTTP/1.0\r\n\r\n")
                return client.recv(4096)
        except OSError:
            return b""

    eventually(answer)
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listeners = [local for _number, local, _peer, state, *_rest in sockets if state == "0A"]

    assert [f"0100007F:{made.published:04X}"] == [
        one for one in listeners if one.endswith(f":{made.published:04X}")
    ]
    assert f":{made.published:04X}" not in Path("/proc/net/tcp6").read_text()


def test_containers_do_not_reach_each_other(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """What one of them hears on its port comes from this host."""
    server = ran(containers, busybox_image, "mkdir /tmp/w; httpd -f -p 8080 -h /tmp/w")
    told = engine_lab.client().inspect_container(server.id)["NetworkSettings"]["Networks"]["pmoves"]
    address = told["IPAddress"]
    with socket.create_connection((address, 8080), 5):
        pass

    other = ran(containers, busybox_image, f"nc -w 2 {address} 8080 </dev/null; echo ended $?; sleep 600")

    assert "ended 1" in logged(containers, other, "ended")


def test_what_is_listed_is_what_is_inspected(containers: Docker, busybox_image: str) -> None:
    """A listing tells no process, no time and no end; stopped ones keep their port."""
    spec = shell_spec(busybox_image, "exec sleep 600", devices=("gpu0", "gpu1"))
    made = containers.create(spec, host_port=free_port())
    assert ("created", spec_hash(spec)) == (made.state, made.spec_hash)
    containers.start(made.id)

    (seen,), full = containers.containers(), containers.inspect(made.id)

    assert full is not None
    assert seen == ContainerState(
        spec.name,
        made.id,
        "running",
        owner=made.owner,
        server=spec.server,
        spec_hash=spec_hash(spec),
        image=busybox_image,
        published=made.published,
        devices=("gpu0", "gpu1"),
    )
    assert full.running
    assert full.pid in containers.pids(made.id)
    assert full.started_at > 1_700_000_000
    containers.stop(made.id, timeout_s=5)
    ((stopped,), ended) = containers.containers(), containers.inspect(made.id)
    assert (("exited", made.published), ()) == ((stopped.state, stopped.published), containers.pids(made.id))
    assert ended is not None
    assert (0, made.published) == (ended.pid, ended.published)


def test_pids_are_the_hosts(containers: Docker, busybox_image: str) -> None:
    """Every process that the host shows in the container's own space of processes."""
    made = ran(containers, busybox_image, "sleep 601 & sleep 602 & echo up; wait")
    logged(containers, made, "up")

    names = {Path(f"/proc/{pid}/cmdline").read_bytes() for pid in containers.pids(made.id)}

    assert {b"sleep\x00601\x00", b"sleep\x00602\x00"} <= names


def test_a_container_that_ends_is_started_again_and_counted(containers: Docker, busybox_image: str) -> None:
    """A crash loop shows, and its log stays."""
    made = ran(containers, busybox_image, "echo no such model >&2; exit 7")

    def looped() -> ContainerState | None:
        seen = containers.inspect(made.id)
        return seen if seen is not None and seen.restarts >= 2 and seen.state == "restarting" else None

    seen = eventually(looped)

    assert 7 == seen.exit_code  # type: ignore[union-attr]
    assert containers.logs(made.id).startswith("no such model\nno such model\n")
    containers.stop(made.id, timeout_s=1)
    assert "exited" == containers.inspect(made.id).state  # type: ignore[union-attr]


def test_running_out_of_memory_shows(containers: Docker, busybox_image: str) -> None:
    """The kernel ends it, and the engine says so."""
    made = ran(containers, busybox_image, "tail /dev/zero", memory_bytes=16 << 20)

    def killed() -> bool:
        seen = containers.inspect(made.id)
        return seen is not None and seen.oom_killed

    assert eventually(killed)


def test_garbage_in_a_log_is_text(containers: Docker, busybox_image: str) -> None:
    """Both streams, in order, cut to the lines asked for, whatever the bytes are."""
    script = (
        r"printf 'first\n'; sleep 0.2; printf '\377\376 bad \000 zero\n' >&2; sleep 0.2; echo last; sleep 600"
    )
    made = ran(containers, busybox_image, script)

    assert "first\n\ufffd\ufffd bad \ufffd zero\nlast\n" == logged(containers, made, "last")
    assert "last\n" == containers.logs(made.id, lines=1)
    assert "" == containers.logs("0" * 64)


def test_a_long_log_is_cut(containers: Docker, busybox_image: str) -> None:
    """To what a person may read; the end of it counts."""
    script = (
        "i=0; while [ $i -lt 9 ]; do head -c 60000 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo; echo end"
    )
    made = ran(containers, busybox_image, f"{script}; sleep 600", command=("busybox", "sh", "-c", script))
    text = logged(containers, made, "end\n")

    assert 256 * 1024 == len(text)
    assert text.endswith("x\nend\n")


def test_a_port_that_a_container_has_is_busy(containers: Docker, busybox_image: str) -> None:
    """The one that does not start stays, and can be removed."""
    first = ran(containers, busybox_image, "exec sleep 600")
    second = containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=first.published)

    with pytest.raises(PortBusyError, match=r"^the port on 127\.0\.0\.1 is taken$"):
        containers.start(second.id)

    assert "created" == containers.inspect(second.id).state  # type: ignore[union-attr]
    containers.remove(second.id)
    assert containers.inspect(second.id) is None
    assert containers.inspect(first.id).running  # type: ignore[union-attr]


def test_a_port_that_a_process_has_is_busy(containers: Docker, busybox_image: str) -> None:
    """And free again once that has ended."""
    with socket.create_server(("127.0.0.1", 0)) as process:
        made = containers.create(
            shell_spec(busybox_image, "exec sleep 600"), host_port=process.getsockname()[1]
        )
        with pytest.raises(PortBusyError):
            containers.start(made.id)

    containers.start(made.id)
    assert containers.inspect(made.id).running  # type: ignore[union-attr]


@pytest.fixture
def stranger(engine_lab: EngineLab, busybox_image: str) -> Iterator[str]:
    """Return the name of a running container that another program made."""
    client = engine_lab.client()
    client.create_container(busybox_image, ["sleep", "600"], name="stranger")
    client.start("stranger")
    yield "stranger"
    client.remove_container("stranger", force=True)


def test_a_strangers_container_is_left_alone(
    engine_lab: EngineLab, containers: Docker, busybox_image: str, stranger: str
) -> None:
    """Whatever is asked; it is found, and not listed, and its name is taken."""
    seen = containers.find(stranger)
    assert seen is not None
    changes: tuple[Callable[[], None], ...] = (
        lambda: containers.stop(seen.id, timeout_s=0),
        lambda: containers.remove(seen.id),
        lambda: containers.remove(stranger),
        lambda: containers.rename(seen.id, "mine-now"),
        lambda: containers.start(seen.id),
    )

    for change in changes:
        with pytest.raises(NotOursError, match="the container stranger was not made by"):
            change()
    with pytest.raises(NameTakenError, match=r"the name stranger is taken by somebody else's container"):
        containers.create(shell_spec(busybox_image, "exec sleep 600", name=stranger), host_port=free_port())

    after = engine_lab.client().inspect_container(stranger)
    assert (seen.id, True, "/stranger") == (after["Id"], after["State"]["Running"], after["Name"])
    assert ("", "") == (seen.owner, seen.spec_hash)
    assert () == containers.containers()


def test_another_owners_container_is_a_strangers(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Two state folders on one host do not touch each other's."""
    made = ran(containers, busybox_image, "exec sleep 600")
    other = Docker(engine_lab.address, "somebody-else")

    with pytest.raises(NotOursError):
        other.remove(made.id)

    assert () == other.containers()
    assert other.find(made.name).owner == made.owner  # type: ignore[union-attr]
    other.close()


def test_a_name_of_our_own_is_taken_too(containers: Docker, busybox_image: str) -> None:
    """A rename does not help itself either; and an id's beginning is no name."""
    first = containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())
    second = containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())

    with pytest.raises(NameTakenError, match=r"this host's own container"):
        containers.rename(second.id, first.name)
    containers.rename(second.id, "renamed")

    assert second.id == containers.find("renamed").id  # type: ignore[union-attr]
    assert containers.find(first.id[:12]) is None


def test_changing_what_is_gone(containers: Docker, busybox_image: str) -> None:
    """To remove it is done; the rest says so."""
    made = containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())
    containers.remove(made.id)
    containers.remove(made.id)

    with pytest.raises(ContainerGoneError):
        containers.start(made.id)
    assert containers.inspect(made.id) is None
    assert () == containers.pids(made.id)


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (GpuAccess("cdi", ("nvidia.com/gpu=all",)), "the engine does not hand out CDI devices"),
        (GpuAccess("runtime", ("all",)), "the engine has no runtime nvidia"),
        (GpuAccess("unknown", ("GPU-1",)), "it is not known how the engine would hand out GPU-1"),
    ],
    ids=lambda value: value.style if isinstance(value, GpuAccess) else "",
)
def test_a_gpu_that_the_engine_does_not_know_is_refused(
    containers: Docker, busybox_image: str, gpu: GpuAccess, why: str
) -> None:
    """Before anything is made."""
    with pytest.raises(NoGpuError, match=f"^{why}"):
        containers.create(shell_spec(busybox_image, "exec sleep 600", gpu=gpu), host_port=free_port())

    assert () == containers.containers()


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (GpuAccess("gpus", ("GPU-1",)), "the engine cannot hand out GPUs"),
        (GpuAccess("gpus", ("all",)), "the engine cannot hand out GPUs"),
        (GpuAccess("none", ("/dev/kfd-not-here",)), "the host has no device /dev/kfd-not-here"),
    ],
    ids=("uuid", "all", "file"),
)
def test_a_gpu_that_is_not_there_is_told_at_the_start(
    containers: Docker, busybox_image: str, gpu: GpuAccess, why: str
) -> None:
    """The engine finds out no sooner; what was made can be removed."""
    made = containers.create(shell_spec(busybox_image, "exec sleep 600", gpu=gpu), host_port=free_port())

    with pytest.raises(NoGpuError, match=f"^{why}$"):
        containers.start(made.id)

    containers.remove(made.id)


def test_a_device_file_is_handed_out(containers: Docker, busybox_image: str) -> None:
    """Under its own name."""
    made = ran(
        containers, busybox_image, "ls -l /dev/kmsg; exec sleep 600", gpu=GpuAccess("none", ("/dev/kmsg",))
    )

    assert logged(containers, made, "kmsg").startswith("crw")


def test_what_cannot_be_mounted_is_not_made_up(
    containers: Docker, busybox_image: str, tmp_path: Path
) -> None:
    """A missing folder is an error, and no empty folder of root's appears."""
    absent = tmp_path / "absent"
    spec = shell_spec(busybox_image, "exec sleep 600", mounts=(Mount(str(absent), "/weights"),))

    with pytest.raises(EngineError, match=rf"^the host has no {absent} to mount$"):
        containers.create(spec, host_port=free_port())

    assert not absent.exists()
    assert () == containers.containers()


def test_an_image_that_is_not_here_is_not_pulled(containers: Docker, busybox_image: str) -> None:
    """Nothing is left behind."""
    spec = shell_spec(f"{busybox_image[:-4]}0000", "exec sleep 600")

    with pytest.raises(ImageMissingError, match=r"^the engine does not have the image$"):
        containers.create(spec, host_port=free_port())

    assert () == containers.containers()


def test_a_program_that_the_image_does_not_have(containers: Docker, busybox_image: str) -> None:
    """Ends as a shell would say it, in a loop, with a reason in the log."""
    made = ran(containers, busybox_image, "", command=("no-such-program",))

    def ended() -> bool:
        seen = containers.inspect(made.id)
        return seen is not None and 127 == seen.exit_code

    assert eventually(ended)
    assert "no-such-program" in containers.logs(made.id)


def test_a_network_that_was_pruned_is_made_again(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Engines take it away when nothing runs in it, and then start nothing that was in it."""
    fresh = containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())
    used = ran(containers, busybox_image, "exec sleep 600")
    containers.stop(used.id, timeout_s=1)
    engine_lab.client().prune_networks()  # type: ignore[no-untyped-call]
    assert [] == engine_lab.client().networks(names=["pmoves"])

    for one in (fresh, used):
        containers.start(one.id)

        assert containers.inspect(one.id).running  # type: ignore[union-attr]


def test_two_clients_at_once_get_one_container_and_one_network(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """The other is told that the name is taken."""
    client = engine_lab.client()
    for one in client.networks(names=["pmoves"]):
        client.remove_network(one["Id"])
    spec = shell_spec(busybox_image, "exec sleep 600")
    owner = containers.create(shell_spec(busybox_image, ""), host_port=free_port()).owner
    results: list[str] = []
    together = threading.Barrier(4)

    def make() -> None:
        mine = Docker(engine_lab.address, owner)
        mine.info()
        together.wait()
        try:
            results.append(mine.create(spec, host_port=free_port()).state)
        except NameTakenError:
            results.append("taken")
        mine.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert ["created", "taken", "taken", "taken"] == sorted(results)
    assert 1 == len(client.networks(names=["pmoves"]))


def test_a_network_that_another_makes_first_is_used(
    engine_lab: EngineLab, containers: Docker, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the making."""
    client = engine_lab.client()
    for one in client.networks(names=["pmoves"]):
        client.remove_network(one["Id"])
    real = docker.APIClient.create_network

    def twice(self: docker.APIClient, *args: object, **named: object) -> object:
        real(self, *args, **named)  # type: ignore[arg-type]
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(docker.APIClient, "create_network", twice)

    assert containers.create(shell_spec(busybox_image, ""), host_port=free_port())
    assert 1 == len(client.networks(names=["pmoves"]))


def test_a_strangers_network_is_not_used(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Who made it may listen in it."""
    client = engine_lab.client()
    for one in client.networks(names=["pmoves"]):
        client.remove_network(one["Id"])
    made = client.create_network("pmoves")
    try:
        with pytest.raises(NotOursError, match="a network pmoves that this program did not make"):
            containers.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())
    finally:
        client.remove_network(made["Id"])
    assert () == containers.containers()


def test_a_health_command_is_run_inside(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """And none is run when the spec has none."""
    with_one = ran(containers, busybox_image, "exec sleep 600", health=("test", "-d", "/weights"))
    without = ran(containers, busybox_image, "exec sleep 600")
    client = engine_lab.client()

    test = client.inspect_container(with_one.id)["Config"]["Healthcheck"]["Test"]

    assert ["CMD", "test", "-d", "/weights"] == test
    assert "Health" in client.inspect_container(with_one.id)["State"]
    assert "Health" not in client.inspect_container(without.id)["State"]
