"""Captured hosts, replayed through the real probes, the real pynvml and the real child process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows import doctor
from flows.cli import app
from flows.settings import load
from tasks.contracts import Unknown
from tasks.detect import capture
from tasks.detect.accelerators import nvidia
from tasks.detect.look import Where, look
from tasks.detect.root import Root
from tests.lab import fake_nvml
from tests.lab.cases import HOSTS, part, plant, replay_planted

FEWEST = 30


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_a_captured_host_is_seen_as_what_it_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files below the root and NVML's answers give the facts that the case names."""
    case = json.loads(path.read_text())

    seen = replay_planted(case, tmp_path, monkeypatch)

    assert case["want"] == part(seen, case["want"])


def test_there_are_many_hosts() -> None:
    """A folder that is not found must not pass for one that is right."""
    assert len(HOSTS) >= FEWEST


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"stall": "init"}, "did not answer within 2 s"),
        ({"stall": "memory"}, "did not answer within 2 s"),
        ({"crash": "init"}, "ended with SIGSEGV"),
        ({"crash": "memory"}, "ended with SIGSEGV"),
    ],
    ids=str,
)
def test_a_library_in_trouble_does_not_take_the_program_down(
    trouble: dict[str, str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself hangs or crashes, and the program names what happened."""
    card = {"name": "NVIDIA X", "memory": {"total": 1, "reserved": 0, "free": 1, "used": 0}}
    fake_nvml.answer_with({**trouble, "driver": "1", "devices": [card]}, tmp_path, monkeypatch)
    monkeypatch.setattr(nvidia, "TIMEOUT_S", 2.0 if "stall" in trouble else 30.0)

    seen = nvidia.probe(Root(plant(tmp_path / "root", {"dev/nvidiactl": None})))

    assert Unknown(f"an NVIDIA driver is loaded, but NVML {why}") == seen


def test_a_capture_of_this_host_replays_to_the_same_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What doctor writes is a case: the same host is seen again from it."""
    here = replace(load(), hub="none", ollama_library="none", ollama="")
    found, root = doctor.examine(here)
    doctor.write_capture(tmp_path / "case.json", found, root)
    case = json.loads((tmp_path / "case.json").read_text())

    assert case["want"] == replay_planted(case, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "name",
    ["dual-rtx-3090-one-in-use", "h100-with-mig-slices-and-a-whole-one", "dual-rtx-3090-one-lost",
     "jetson-nano-4g", "strix-halo-gtt-120g", "pod-limited-above-itself"],
)  # fmt: skip
def test_a_capture_of_a_captured_host_is_the_same_host(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing a capture loses nothing that the probes need, NVML's answers included."""
    one = json.loads((HOSTS[0].parent / f"{name}.json").read_text())
    path = plant(tmp_path / "first", one["files"])
    if one["nvml"] or (path / "dev/nvmap").exists():
        fake_nvml.answer_with(one["nvml"], tmp_path, monkeypatch)
    root = Root(path)
    facts = look(
        Where("lab", "lab", Path("/"), Path("/"), f"unix://{tmp_path}/none", "none", "none", path), root
    )

    again = capture.case(facts, root)

    assert again["want"] == replay_planted(again, tmp_path, monkeypatch)


def test_a_capture_holds_no_names(tmp_path: Path) -> None:
    """Host name, addresses, ids and values of variables stay at home; what a fact needs stays in."""
    files = {
        "proc/cpuinfo": "processor : 0\nSerial : 10000000abcdef12\nflags : avx2 secret\n",
        "proc/self/cgroup": "0::/kubepods/pod6f1c2d3e-aaaa-bbbb-cccc-0123456789ab/" + "ab" * 32 + "\n",
        "proc/self/mountinfo": "1 1 0:1 / /home/alice rw - nfs4 10.1.2.3:/export rw,addr=10.1.2.3\n",
        "proc/sys/kernel/osrelease": "6.1-nightingale",
        "etc/os-release": "PRETTY_NAME=X\nBUILD=02:42:ac:11:00:02\n",
    }
    env = {"HTTPS_PROXY": "http://bob:hunter2@proxy.example:3128", "HOME": "/home/alice"}
    settings = load(env)
    root = Root(plant(tmp_path / "root", files))
    facts = look(
        Where("nightingale", "nightingale", Path("/home/alice/s"), Path("/home/alice/h"), "unix:///none",
              "none", "none", root.path, proxies=settings.proxies),
        root,
    )  # fmt: skip

    text = json.dumps(capture.case(facts, root))

    for secret in ("nightingale", "alice", "10.1.2.3", "6f1c2d3e", "abab", "02:42", "10000000abcdef12",
                   "bob", "hunter2", "proxy.example", "secret"):  # fmt: skip
        assert secret not in text
    assert "HTTPS_PROXY" in text
    assert "avx2" in text


def test_a_password_is_not_in_the_facts() -> None:
    """A proxy is named with its address, never with its credentials."""
    proxies = load({"http_proxy": "http://bob:hunter2@proxy.example:3128", "NO_PROXY": "localhost"}).proxies

    assert [("NO_PROXY", "localhost"), ("http_proxy", "http://proxy.example:3128")] == [
        (one.variable, one.address) for one in proxies
    ]


def test_doctor_is_a_command() -> None:
    """It stands beside detect."""
    assert "doctor" in {str(one.callback.__name__) for one in app.registered_commands if one.callback}
