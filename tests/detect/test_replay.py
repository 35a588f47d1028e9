"""Hosts that are not here: from a capture in memory, and from a profile's example."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import doctor
from flows.settings import load
from tasks.contracts import Example, ExampleDevice, HostFacts, Match, Profile, Unknown
from tasks.detect import capture, case_file, host
from tasks.detect.accelerators import accelerators, nvidia
from tasks.detect.example import ASSUMED_FREE_BYTES, from_example
from tasks.detect.look import Where, look
from tasks.detect.replay import NO_LIBRARY, read_case, replay
from tasks.detect.root import CapturedRoot, Root
from tasks.errors import UsageError
from tests.lab.cases import HOSTS, part, plant, replay_planted

BUDGET_S = 2.0
CASES = {path.stem: json.loads(path.read_text()) for path in HOSTS}
BARE: dict[str, str | None] = {
    "proc/sys/kernel/arch": "x86_64",
    "proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n",
}
GPU: dict[str, str | None] = {**BARE, "dev/nvidiactl": None}
CARD = {
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-1",
    "bus_id": "00000000:01:00.0",
    "memory": {"total": 24 << 30, "reserved": 0, "free": 24 << 30, "used": 0},
    "capability": [8, 9],
    "processes": [],
    "mig": 0,
    "slices": [],
}


def seen(facts: HostFacts) -> dict[str, Any]:
    """Return what a case's `want` may speak of."""
    return {**capture.seen(facts), "engine_gpu": msgspec.to_builtins(facts.engine_gpu)}


def read(name: str) -> dict[str, Any]:
    """Return a case of tests/cases/hosts."""
    return read_case(HOSTS[0].parent / f"{name}.json")


def one_card(**change: object) -> dict[str, Any]:
    """Return what NVML's child printed on a host with one card."""
    return {"driver": "580.1", "cuda": 13000, "devices": [{**CARD, **change}]}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every process, socket and file that is opened fail."""

    def refuse(*arguments: object, **_named: object) -> NoReturn:
        raise AssertionError(f"a replay reached outside: {arguments[:2]}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    for name in ("open", "listdir", "stat", "access", "posix_spawn", "mkdir", "cpu_count"):
        monkeypatch.setattr(os, name, refuse)


@pytest.mark.parametrize("path", HOSTS, ids=lambda path: path.stem)
def test_a_capture_in_memory_is_seen_as_what_it_is(path: Path) -> None:
    """Without a planted root and without NVML, each case gives the facts that it names."""
    case = read_case(path)

    found = seen(replay(case, host="lab"))

    assert case["want"] == part(found, case["want"])


@pytest.mark.parametrize(
    "name",
    ["h100-with-mig-slices-and-a-whole-one", "dual-rtx-3090-one-lost", "jetson-nano-4g",
     "strix-halo-gtt-120g", "pod-limited-above-itself", "spinning-disk-and-a-network-share",
     "podman-with-cdi-in-both-folders",
     "gb10-success-with-wrong-figures"],
)  # fmt: skip
def test_memory_and_a_planted_root_give_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of what is seen is the same as through the real files, the real child and the real pynvml."""
    case = read(name)

    planted = replay_planted(case, tmp_path, monkeypatch)

    assert planted == part(seen(replay(case, host="lab")), planted)


def test_what_doctor_writes_of_this_host_replays(tmp_path: Path) -> None:
    """A capture of this host gives in memory what was seen here, all of it."""
    found, root = doctor.examine(replace(load(), hub="none", ollama_library="none", ollama=""))
    doctor.write_capture(tmp_path / "case.json", found, root)
    case = read_case(tmp_path / "case.json")

    assert case["want"] == part(seen(replay(case, host="lab")), case["want"])


@pytest.mark.parametrize("name", ["dual-rtx-3090-one-in-use", "jetson-nano-4g", "docker-28-with-cdi"])
@pytest.mark.usefixtures("closed")
def test_a_replay_reaches_nothing_outside(name: str) -> None:
    """No process, no socket, no file: what is not in the capture is not looked up here."""
    assert isinstance(replay(CASES[name], host="lab").accelerators, tuple)


def test_a_hundred_hosts_are_replayed_in_a_moment() -> None:
    """What plans for a hundred hosts spends its two seconds on planning."""
    cases = [case for case in CASES.values() for _ in range(2)][:100]
    start = perf_counter()

    for case in cases:
        replay(case, host="lab")

    assert perf_counter() - start < BUDGET_S


def test_a_captured_root_answers_as_a_planted_one(tmp_path: Path) -> None:
    """Texts, folders, names in order and what was noted are the same from memory as from a disk."""
    held = {f"a/b/{name}": name for name in "zxkcmqd"} | {"a/e": None, "n": "12\n", "l": "x\nKEY 1\n"}
    planted, captured = Root(plant(tmp_path, held)), CapturedRoot(held=held)

    for root in (planted, captured):
        assert root.names("a/b") == ("c", "d", "k", "m", "q", "x", "z")
        assert root.names("a", "b*", note=False) == ("b",)
        assert root.names("n") == root.names("none") == ()
        assert (root.exists("a/b"), root.exists("a/e"), root.exists("a")) == (True, True, True)
        assert (root.exists("a/bb"), root.exists("b")) == (False, False)
        assert (root.text("a/b/z"), root.text("a/b"), root.text("none")) == ("z", "", "")
        assert (root.number("n"), root.line("l", "key")) == (12, "KEY 1")

    assert planted.files == captured.files


# --- what a capture does not tell ----------------------------------------------------------------


def test_what_a_capture_does_not_tell_is_assumed_and_says_so() -> None:
    """Sizes of disks, engine, hub and library are assumed; names and addresses are not this host's."""
    facts = replay({"files": BARE, "proxies": ["HTTPS_PROXY"]}, host="there")

    assert ("there", "there", "", "not known") == (
        facts.host, facts.system.hostname, facts.seen_at, facts.system.python,
    )  # fmt: skip
    assert facts.system.kernel == "not known"
    assert [("store", ASSUMED_FREE_BYTES), ("state", ASSUMED_FREE_BYTES)] == [
        (disk.purpose, disk.free_bytes) for disk in facts.disks
    ]
    assert facts.container_engine.answers
    assert facts.container_engine.detail == "assumed: the capture does not tell"
    assert ("unknown", "assumed: the capture does not tell") == (facts.engine_gpu.style, facts.engine_gpu.why)
    assert ["assumed", "assumed"] == [one.detail for one in (facts.hub, facts.ollama_library) if one.answers]
    assert [("HTTPS_PROXY", "not known")] == [(one.variable, one.address) for one in facts.proxies]
    assert facts.accelerators == ()


def test_the_assumed_size_of_disks_is_the_callers() -> None:
    """A caller can plan for less room."""
    facts = replay({"files": BARE}, host="lab", assumed_free_bytes=7)

    assert {7} == {size for disk in facts.disks for size in (disk.free_bytes, disk.total_bytes)}


def test_an_engine_that_did_not_answer_is_not_assumed_to() -> None:
    """A capture whose engine is null was written where none answered."""
    facts = replay({"files": BARE, "engine": None}, host="lab")

    assert not facts.container_engine.answers
    assert facts.container_engine.detail == "no engine answered when the capture was written"


def test_an_engine_is_named_with_its_version() -> None:
    """The engine's own answer gives its version and how it hands out a GPU."""
    facts = replay(
        {"files": BARE, "engine": {"version": "5.4", "podman": True, "devices": ["nvidia.com/gpu=0"]}},
        host="lab",
    )

    assert facts.container_engine.detail == "podman version 5.4"
    assert facts.engine_gpu.style == "cdi"


@pytest.mark.parametrize(
    ("nvml", "why"),
    [
        ({}, "the capture does not tell what was answered"),
        ({"nvml": {"unknown": "it hung"}}, "it hung"),
        ({"nvml": None}, "an NVIDIA driver is loaded, but NVML cannot be asked: NVML says:"),
        ({"nvml": {"code": 18, "says": "mismatch"}}, "NVML says: mismatch"),
        ({"nvml": {"driver": "1"}}, "NVML's child printed something else than expected"),
    ],
    ids=str,
)
def test_a_driver_whose_answer_is_missing_is_unknown(nvml: dict[str, Any], why: str) -> None:
    """A card is never taken for absent because the capture says nothing of it."""
    facts = replay({"files": GPU, **nvml}, host="lab")

    assert isinstance(facts.accelerators, Unknown)
    assert facts.accelerators.unknown.startswith(why)


def test_a_child_that_printed_nonsense_is_captured_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture keeps why NVML's answer could not be read, and replays to the same."""
    monkeypatch.setattr(nvidia, "_child", lambda: "{nonsense")
    root = Root(plant(tmp_path / "root", GPU))
    where = Where("lab", "lab", Path("/"), Path("/"), f"unix://{tmp_path}/none", "none", "none", root.path)
    facts = look(where, root)

    case = capture.case(facts, root)

    assert isinstance(facts.accelerators, Unknown)
    assert "something else than expected" in facts.accelerators.unknown
    assert facts.accelerators == replay(case, host="lab").accelerators


@pytest.mark.parametrize("name", ["strix-halo-gtt-120g", "dual-rtx-3090-one-lost", "jetson-nano-4g"])
def test_a_captured_root_notes_what_was_read(name: str) -> None:
    """What is read of a capture can be captured again: nothing that a probe needs is lost."""
    one = CASES[name]
    facts = replay(one, host="lab")
    answers = {"nvml": json.dumps(one["nvml"] or NO_LIBRARY)}
    root = CapturedRoot(held=one["files"], answers=answers)
    for probe in (accelerators, host.memory, host.cpu):
        probe(root)

    case = capture.case(facts, root)

    again = capture.seen(replay(case, host="lab"))
    assert all(case["want"][key] == again[key] for key in ("accelerators", "memory", "cpu"))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"files": "\xff"}', "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b"[]", "is not a capture (Expected a mapping, got a list)"),
        (b"{}", "is not a capture (Object missing required field files)"),
        (b'{"files": 1}', "is not a capture (files: Expected a mapping, got a whole number)"),
        (
            b'{"files": {"a": 1}}',
            "is not a capture (files[...]: Expected text or nothing, got a whole number)",
        ),
        (b'{"files": {}, "disks": ["/"]}', "is not a capture (disks: "),
        (b'{"files": {}, "engine": {}}', "is not a capture (engine: Object missing required field version)"),
        (b'{"files": {}, "nvml": []}', "is not a capture (nvml: "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_is_not_a_capture_is_refused(data: bytes, what: str, tmp_path: Path) -> None:
    """One sentence says which file, what is wrong with it and what to do."""
    path = tmp_path / "case.json"
    path.write_bytes(data)

    with pytest.raises(UsageError) as caught:
        read_case(path)

    said = str(caught.value)
    assert said.startswith(f"{path} {what}")
    assert said.endswith("; write it anew with `pmoves doctor --capture FILE` on that host.")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, a pipe and a huge file end in a sentence, not in a wait or a traceback."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(b" " * 101)
    monkeypatch.setattr(case_file, "LARGEST_BYTES", 100)

    for name, what in (
        ("none", "cannot be read (No such file or directory)"),
        (".", "is not a file"),
        ("pipe", "is not a file"),
        ("huge", "is larger than"),
        ("\0", "cannot be read (embedded null byte)"),
    ):
        with pytest.raises(UsageError) as caught:
            read_case(tmp_path / name)
        assert what in str(caught.value)


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ({"files": {}}, "has no file proc/sys/kernel/arch"),
        ({"files": {"proc/sys/kernel/arch": "x86_64"}}, "does not tell its memory (meminfo has no line"),
        ({"files": {**BARE, "proc/self/mountinfo": "- ext4 /dev/sda"}}, "cannot be read as a host"),
        ({"files": {**BARE, "proc/meminfo": f"MemTotal: {'9' * 30} kB"}}, "an amount of memory that no host"),
        ({"files": GPU, "nvml": one_card(memory={"total": -1, "free": 0})}, "an amount of memory that no"),
        (
            {"files": GPU, "nvml": one_card(processes=[[1, "all"]])},
            "cannot be read as a host (accelerators[0]",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_capture_that_describes_no_host_is_refused(case: dict[str, Any], what: str) -> None:
    """What the planner could not count with never reaches it."""
    with pytest.raises(UsageError) as caught:
        replay(case, host="lab")

    assert str(caught.value).startswith("the capture of lab ")
    assert what in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
READ = sorted({name for case in CASES.values() for name in case["files"]})
LINES = st.lists(
    st.sampled_from(sorted({line for case in CASES.values() for text in case["files"].values()
                            for line in (text or "").splitlines()})) | st.text(max_size=20),
    max_size=6,
).map("\n".join)  # fmt: skip


@settings(deadline=None)  # a busy machine is no failure
@given(
    files=JSON | st.dictionaries(st.sampled_from(READ), st.none() | LINES, max_size=12),
    rest=st.dictionaries(st.sampled_from(["nvml", "engine", "disks", "proxies"]), JSON),
    card=st.dictionaries(st.sampled_from(sorted(CARD)), JSON),
)
def test_anything_gives_facts_or_a_sentence(files: Any, rest: dict[str, Any], card: dict[str, Any]) -> None:  # noqa: ANN401  # that is the point
    """No JSON at all ends in a traceback, and what passes can be written down."""
    mixed = {**GPU, **files} if isinstance(files, dict) else files
    for case in (
        {"files": files, **rest},
        {"files": mixed, **rest},
        {"files": mixed, "nvml": one_card(**card)},
        {**rest, "nvml": rest},
    ):
        try:
            facts = replay(case, host="lab")
        except UsageError:
            continue
        assert facts == msgspec.json.decode(msgspec.json.encode(facts), type=HostFacts)


# --- examples ------------------------------------------------------------------------------------


def profile(example: Example) -> Profile:
    """Return a profile with this example."""
    return Profile(name="x", title="X", hardware="x", match=Match(), bundle=(), example=example)


def test_an_example_with_cards() -> None:
    """Cards have memory of their own, free but for the driver's reserve, and count within their vendor."""
    card = ExampleDevice(
        vendor="nvidia",
        name="NVIDIA GeForce RTX 5090",
        memory_mib=32607,
        reserved_mib=407,
        compute_capability="12.0",
    )
    other = ExampleDevice(vendor="amd", name="RX 7800 XT", memory_mib=16368)

    facts = from_example(profile(Example(memory_mib=65536, devices=(card, other, card))), host="there")

    assert isinstance(facts.accelerators, tuple)
    assert [("nvidia", 0), ("amd", 0), ("nvidia", 1)] == [
        (one.vendor, one.index) for one in facts.accelerators
    ]
    first = facts.accelerators[0]
    assert (32607 << 20, 32200 << 20, 407 << 20, "12.0") == (
        first.memory_total_bytes, first.memory_free_bytes,
        first.memory_reserved_bytes, first.compute_capability,
    )  # fmt: skip
    assert not first.unified
    assert ("there", 64 << 30, (64 << 30) * 94 // 100) == (
        facts.host, facts.memory.total_bytes, facts.memory.available_bytes,
    )  # fmt: skip
    assert (8, ("avx2",)) == (facts.cpu.logical_cores, facts.cpu.flags)
    assert isinstance(facts.board, Unknown)
    assert facts.jetson is None
    assert all(one.answers for one in (facts.container_engine, facts.hub, facts.ollama_library))


def test_an_example_with_shared_memory_is_budgeted_as_a_real_one() -> None:
    """A Jetson that is made up has the board, the chip and the budget that its capture has."""
    real = replay(CASES["jetson-agx-orin-64-jp72"], host="lab")
    assert isinstance(real.accelerators, tuple)
    assert isinstance(real.memory.total_bytes, int)
    mib = real.memory.total_bytes >> 20
    device = ExampleDevice(vendor="nvidia", name="Orin (nvgpu)", memory_mib=mib, unified=True)
    model = str(real.board).removeprefix("jetson (").removesuffix(")")
    example = Example(memory_mib=mib, devices=(device,), architecture="aarch64", board=model, chip="tegra234")

    made = from_example(profile(example), host="lab")

    assert isinstance(made.accelerators, tuple)
    assert real.board == made.board
    assert made.jetson is not None
    assert real.jetson is not None
    assert real.jetson.chip == made.jetson.chip
    assert made.cpu.flags == ()
    one, kept = made.accelerators[0], real.accelerators[0].memory_reserved_bytes
    assert one.unified
    assert isinstance(made.memory.available_bytes, int)
    assert isinstance(kept, int)
    assert one.memory_reserved_bytes == pytest.approx(kept, rel=0.001)
    assert one.memory_free_bytes == pytest.approx(made.memory.available_bytes - kept, rel=0.001)


def test_an_example_that_shares_a_part_has_no_more_than_that() -> None:
    """A device that may map only a part of main memory is not given all of it."""
    device = ExampleDevice(vendor="amd", name="Strix Halo", memory_mib=16 << 10, unified=True)

    facts = from_example(profile(Example(memory_mib=128 << 10, devices=(device,))), host="lab")

    assert isinstance(facts.accelerators, tuple)
    assert (16 << 30, 16 << 30) == (
        facts.accelerators[0].memory_total_bytes, facts.accelerators[0].memory_free_bytes,
    )  # fmt: skip


def test_a_board_that_is_already_named_as_detected_stays() -> None:
    """A profile may write the board as `pmoves detect` shows it."""
    example = Example(memory_mib=8192, architecture="aarch64", board="jetson (NVIDIA X)", chip="tegra234")

    assert from_example(profile(example), host="lab").board == "jetson (NVIDIA X)"
