"""What engines answer about containers and images, and what is made of it."""

from __future__ import annotations

import pytest

from tasks.contracts import ContainerState
from tasks.effects.containers.docker_state import holds, inspected, listed, moment, processes

MARKS = {
    "ai.pmoves.owner": "me",
    "ai.pmoves.server": "llm",
    "ai.pmoves.spec-hash": "h",
    "ai.pmoves.image": "r@sha256:1",
    "ai.pmoves.devices": "gpu0 gpu1",
    "ai.pmoves.port": "18080",
}


def test_an_entry_of_a_listing() -> None:
    """The port is there even when it does not run."""
    answer = {
        "Id": "i",
        "Names": ["/link/x", "/a"],
        "State": "exited",
        "Image": "r",
        "Labels": MARKS,
        "Ports": [],
    }

    assert ContainerState(
        "a", "i", "exited", "me", "llm", "h", "r@sha256:1", published=18080, devices=("gpu0", "gpu1")
    ) == listed(answer)


def test_a_strangers_entry() -> None:
    """No labels, podman's names without a slash, and ports on several addresses."""
    ports = [
        {"IP": "::", "PrivatePort": 80, "PublicPort": 1, "Type": "tcp"},
        {"PrivatePort": 81, "Type": "tcp"},
        {"IP": "192.0.2.1", "PublicPort": 2},
        {"IP": "0.0.0.0", "PublicPort": 3},
    ]

    seen = listed(
        {"Id": "i", "Names": ["a"], "State": "running", "Image": "x:1", "Labels": None, "Ports": ports}
    )

    assert ContainerState("a", "i", "running", image="x:1", published=3) == seen


def test_an_inspection() -> None:
    """Everything that only it tells."""
    answer = {
        "Id": "i",
        "Name": "/a",
        "RestartCount": 4,
        "Config": {"Labels": MARKS, "Image": "r@sha256:1"},
        "State": {
            "Status": "restarting",
            "Pid": 0,
            "ExitCode": 137,
            "OOMKilled": True,
            "StartedAt": "2026-11-25T14:11:20.960987082Z",
        },
    }

    seen = inspected(answer)

    assert ("a", "restarting", 0, 137, True, 4) == (
        seen.name,
        seen.state,
        seen.pid,
        seen.exit_code,
        seen.oom_killed,
        seen.restarts,
    )
    assert 1795615880.960987 == pytest.approx(seen.started_at, abs=1e-6)
    assert 18080 == seen.published


@pytest.mark.parametrize(
    ("bindings", "port"),
    [
        ({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5"}]}, 5),
        ({"80/tcp": [{"HostIp": "", "HostPort": "6"}]}, 6),
        ({"80/tcp": [{"HostIp": "192.0.2.1", "HostPort": "7"}]}, 0),
        ({"80/tcp": None}, 0),
        ({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, 0),
        (None, 0),
    ],
)
def test_a_strangers_port(bindings: object, port: int) -> None:
    """As far as it is on 127.0.0.1."""
    assert port == inspected({"Id": "i", "HostConfig": {"PortBindings": bindings}}).published


def test_an_answer_with_nothing_in_it() -> None:
    """Is a container of which nothing is known."""
    assert ContainerState("", "i", "") == inspected({"Id": "i"}) == listed({"Id": "i"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T01:00:01.123456789+01:00", 1.123456),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    """With nine decimals, in any zone, or never."""
    assert seconds == pytest.approx(moment(text), abs=1e-6)


@pytest.mark.parametrize(
    ("image", "there"),
    [
        ("ollama/ollama@sha256:1", True),
        ("docker.io/ollama/ollama@sha256:1", True),
        ("ghcr.io/ollama/ollama@sha256:1", False),
        ("ollama/ollama@sha256:2", False),
        ("busybox@sha256:3", True),
        ("docker.io/library/busybox@sha256:3", True),
    ],
)
def test_an_image_is_known_by_its_digest(image: str, *, there: bool) -> None:
    """Under the repository's full name, and its short one."""
    answer = {"RepoDigests": ["ollama/ollama@sha256:1", "docker.io/library/busybox@sha256:3"]}

    assert there == holds(answer, image)
    assert not holds({"RepoDigests": None}, image)


def test_processes() -> None:
    """By Docker's column, and by podman's; what has neither has none."""
    rows = [["root", "12", "sh"], ["root", "14", "sleep"]]

    assert (12, 14) == processes({"Titles": ["UID", "PID", "CMD"], "Processes": rows})
    assert (7,) == processes({"Titles": ["HPID"], "Processes": [["7"]]})
    assert () == processes({"Titles": ["PID   USER     COMMAND"], "Processes": [["1 root sh"]]})
    assert () == processes({"Titles": ["PID"], "Processes": None})
