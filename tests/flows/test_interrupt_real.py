"""Ctrl-C and worse, at any moment: nothing is left running that was not running before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.pull.store import snapshot_folder
from tests.conftest import planned
from tests.lab.host import LabHost, interrupt, until
from tests.lab.hub import HubLab, Repo

pytestmark = pytest.mark.real


def reached(process: subprocess.Popen[str], word: str) -> None:
    """Read what a run prints until it gets to a stage."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(word):
            return
    raise AssertionError(f"the run ended before {word!r}")


@pytest.mark.parametrize("stage", ["set-up", "plan", "serve", "verify", "route"])
def test_ctrl_c_on_a_fresh_host_leaves_nothing(
    stage: str, tmp_path: Path, minilm_cache: Path, host: LabHost
) -> None:
    """Whatever the run had started is stopped, and the exit code says so."""
    port = 0 if stage == "set-up" else int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    fresh = LabHost.make(tmp_path, minilm_cache, prefect_port=port)
    run = fresh.start("provision")
    reached(run, stage)

    code, errors = interrupt(run)

    assert 130 == code, errors
    assert "Traceback" not in errors
    assert "pmoves: stopped" in errors
    assert set() == fresh.marked()


def test_ctrl_c_on_a_healthy_host_leaves_it_healthy(host: LabHost) -> None:
    """Every process keeps its pid, and the gateway answers."""
    before = host.running()
    run = host.start("provision")
    reached(run, "verify")

    code, _ = interrupt(run)

    assert 130 == code
    assert before == host.running()
    assert 384 == len(host.embed("still here"))


def test_an_interrupted_run_is_in_the_history(host: LabHost) -> None:
    """The journal has a line of it."""
    run = host.start("provision")
    reached(run, "plan")
    interrupt(run)

    assert "interrupted" == host.json("history")[0]["outcome"]


def test_kill_9_in_the_middle_is_mended_by_the_next_run(neighbour: LabHost) -> None:
    """Half a run is no obstacle: the lock is free, and the next run ends well."""
    run = neighbour.start("provision")
    reached(run, "verify")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)

    record = neighbour.json("provision")

    assert record["outcome"] in {"changed", "nothing to do"}
    assert 384 == len(neighbour.embed("after all"))


@pytest.fixture
def hub(minilm_cache: Path) -> Iterator[HubLab]:
    """Return a Hub on loopback that has the real model."""
    weights = planned().weights
    snapshot = snapshot_folder(minilm_cache, weights)
    files = {file.path: (snapshot / file.path).read_bytes() for file in weights.files}
    with HubLab({weights.repo: Repo(files, weights.revision)}) as lab:
        yield lab


def of(folder: Path) -> list[str]:
    """Return the command lines of all processes that have to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line and "pytest" not in line:
                found.append(line)
    return found


def parts(folder: Path) -> list[Path]:
    """Return staging folders and incomplete files below a store."""
    return [*folder.rglob(".pmoves-*"), *folder.rglob("*.incomplete")]


def test_weights_come_from_the_hub_where_it_answers(tmp_path: Path, host: LabHost, hub: HubLab) -> None:
    """The real client fetches the pinned revision, and the record names the source."""
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    fresh = LabHost.make(tmp_path, tmp_path / "hub", prefect_port=port).but(HF_ENDPOINT=hub.endpoint)
    try:
        record = fresh.json("provision")

        assert ["huggingface"] == [one["source"] for one in record["pulled"]]
        assert 384 == len(fresh.embed("from the hub"))
    finally:
        fresh.close()


def test_ctrl_c_while_downloading_leaves_no_process_and_no_part(
    tmp_path: Path, host: LabHost, hub: HubLab
) -> None:
    """The download's own process ends too, its staging goes, and the next run fetches it all."""
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    fresh = LabHost.make(tmp_path, tmp_path / "hub", prefect_port=port).but(HF_ENDPOINT=hub.endpoint)
    hub.fail("cdn", "stall")
    run = fresh.start("provision")
    reached(run, "pull")
    until(lambda: hub.requests["cdn"], "the download did not begin")

    code, errors = interrupt(run)

    assert 130 == code, errors
    assert [] == parts(tmp_path / "hub")
    assert [] == of(tmp_path / "hub")
    assert set() == fresh.marked()


def test_a_cancelled_download_is_done_by_the_next_run(tmp_path: Path, host: LabHost, hub: HubLab) -> None:
    """Kill -9 in the middle of a download: the next run clears up after it and ends well."""
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    fresh = LabHost.make(tmp_path, tmp_path / "hub", prefect_port=port).but(HF_ENDPOINT=hub.endpoint)
    hub.fail("cdn", "stall")
    run = fresh.start("provision")
    reached(run, "pull")
    until(lambda: hub.requests["cdn"], "the download did not begin")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    hub.faults.clear()
    try:
        record = fresh.json("provision")

        assert "changed" == record["outcome"]
        assert [] == parts(tmp_path / "hub")
        until(lambda: [] == of(tmp_path / "hub/models--"), "a download of the killed run goes on")
    finally:
        fresh.close()
